#!/usr/bin/env bash
# From a folder of labelled images to a trained detector: bash recipes/my_data.sh DIR [flags of main.py]
# DIR: COCO's annotations in any layout that python -m datasets.check knows, Pascal VOC, YOLO or LabelMe. What is not COCO's is
# converted (images are hard links), and without validation images a fifth is set apart. All is written to runs/NAME_OF_DIR, or
# to --output_dir. Flags that are typed win over those that --preset auto chooses. The same command again goes on where it
# stopped. Cost and result depend on the data: docs/small_data.md.
set -euo pipefail
if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: bash recipes/my_data.sh DIR [flags of main.py], DIR with labelled images: COCO, Pascal VOC, YOLO or LabelMe" >&2
    exit 2
fi
if [ ! -d "$1" ]; then
    echo "my_data: $1: no such folder" >&2
    exit 2
fi
source=$(cd "$1" && pwd)
here=$PWD
cd "$(dirname "$0")/.."
shift

# The flags that the other steps need, too.
out=runs/$(basename "$source") device=()
flags=("$@")
for ((i = 0; i < $#; i++)); do
    word=${flags[i]} next=${flags[i + 1]-}
    case $word in
        --output_dir=* | --output-dir=*) out=${word#*=} ;;
        --output_dir | --output-dir) out=$next ;;
        --device=*) device=("$word") ;;
        --device) device=(--device "$next") ;;
    esac
done
case $out in /* | "runs/$(basename "$source")") ;; *) out=$here/$out ;; esac

stage() { printf '\n== %s\n' "$*"; }
stop() {
    echo "my_data: stopped while $1: the line above says why; mend that and type the same command again" >&2
    exit 2
}

stage "1 of 5: the data in $source"
data=$source
if [ -d "$out/data/annotations" ]; then
    data=$out/data
    echo "made ready before: $data (delete it to do so again)"
else
    answer=$(python -m datasets.convert auto "$source" "$out/data") || stop "reading the data"
    echo "$answer"
    data=$(tail -n 1 <<<"$answer")
    data=${data#ready: }
fi

stage "2 of 5: check of all images and boxes; $out/check.png shows some"
mkdir -p "$out"
python -m datasets.check --data_path "$data" --sheet "$out/check.png" || [ $? -eq 1 ] || stop "checking the data"

stage "3 of 5: training, to $out"
python main.py --data_path "$data" --preset auto --resume auto "$@" --output_dir "$out" || stop "training"

stage "4 of 5: evaluation of the best weights, with a report"
best=$out/best.pth
[ -f "$best" ] || best=$out/checkpoint.pth
python main.py --data_path "$data" --eval --report --resume "$best" --output_dir "$out/evaluated" --num_workers 0 ${device[@]+"${device[@]}"} ||
    stop "evaluating"

stage "5 of 5: done"
echo "report:  $out/evaluated/report/index.html (truth and detections: $out/evaluated/detections.png)"
echo "curves:  $out/curves.png"
echo "to detect objects in other images:"
[ "$here" = "$PWD" ] || printf '  cd %q\n' "$PWD"
printf '  python predict.py --resume %q --input IMAGE_OR_FOLDER --output %q\n' "$best" "$out/found"
