#!/usr/bin/env bash
# Everything worth knowing of one NVIDIA GPU (an H100 or H200), in half an hour and in calls of less than ten minutes:
#
#   ORIGINAL=../facebookresearch-detr bash benchmarks/gpu_half_hour.sh       again and again, until it says "all is done"
#
# A call begins parts as long as they fit into what is left of LIMIT_S seconds; finished parts are not run again, a part
# that failed or was cut off is. Without ORIGINAL (a checkout of facebookresearch/detr) ours is measured alone. ncu needs
# the right to read counters. Nobody has run this on a GPU yet: its test has stand-ins for the GPU and for every program.
#
# OUT (runs/gpu): each part's messages as PART.log, the JSONs, reports and charts. PARTS="step-2 nsys" runs these alone.
set -euo pipefail
cd "$(dirname "$0")/.."

OUT=${OUT:-runs/gpu} LIMIT_S=${LIMIT_S:-560} PYTHON=${PYTHON:-python} ORIGINAL=${ORIGINAL:-}
SCRIPTS=roofline-on-nvidia-gpus/custom-scripts
BESIDE=(${ORIGINAL:+--original "$ORIGINAL"})
# R50 on generated images of 800 x 800: the GPU's work is that of COCO's images, and nothing has to be there.
R50="--device cuda --dataset_file shapes --image_size 800 --train_size 64 --val_size 2 --num_workers 8
    --backbone_weights none --batch_size 2 --epochs 1"
WINDOW="--profile_warmup 5 --profile_steps 1"
SWITCHES=("--also=--tf32" "--also=--amp bf16" "--also=--amp bf16 --compile")

# Parts in the order of what they tell, with the most seconds that each may take.
ALL="machine:30 tests:240 step-2:240 ncu-forward:200 ncu-loss:120 ncu-backward:240 ncu-optimizer_step:120 rooflines:90
    nsys:150 step-8:240 inference:200 memory:120 shapes:240 step-32:240 counts:60"

command_of() {
    case $1 in
    machine) run bash -c 'nvidia-smi && nvidia-smi -q -d CLOCK,POWER,TEMPERATURE && "$0" -m torch.utils.collect_env' "$PYTHON" ;;
    tests) run "$PYTHON" -m pytest -q -m gpu ;;
    step-*) run "$PYTHON" benchmarks/train_step.py --device cuda --batch_size "${1#step-}" "${BESIDE[@]}" \
        "${SWITCHES[@]}" --output "$OUT/train_$1.json" ;;
    inference) run "$PYTHON" benchmarks/inference.py --device cuda --batch_sizes 1 16 64 "${BESIDE[@]}" \
        "${SWITCHES[@]}" --output "$OUT/inference.json" ;;
    # The prediction, and a run whose log says what was really allocated.
    memory) run bash -c '"$@" --cost_card && exec "$@" --max_steps 12 --print_freq 4 --timing --profile_warmup 4' _ \
        "$PYTHON" main.py $R50 --output_dir "$OUT/memory" ;;
    ncu-*) run "$PYTHON" $SCRIPTS/collect.py "${1#ncu-}" --name r50 --output_dir "$OUT" -- \
        "$PYTHON" main.py $R50 $WINDOW ;;
    rooflines) run "$PYTHON" $SCRIPTS/postprocess.py "$OUT" --output_dir "$OUT/rooflines" ;;
    nsys) run "$PYTHON" $SCRIPTS/collect.py all --nsys --name r50 --output_dir "$OUT" -- "$PYTHON" main.py $R50 $WINDOW ;;
    shapes) run bash recipes/shapes.sh --device cuda --output_dir "$OUT/shapes" ;;
    counts) run "$PYTHON" main.py $R50 --profile_warmup 3 --count_costs "$OUT/costs.csv" ;;
    esac
}

# Run a part's command for as long as the part may take, its messages in a file; the GPU's power beside it.
run() {
    local power=
    nvidia-smi --query-gpu=timestamp,power.draw,utilization.gpu,memory.used --format=csv --loop-ms=500 \
        >"$OUT/$part.power.csv" 2>/dev/null &
    power=$!
    PATH="$(dirname "$(command -v "$PYTHON")"):$PATH" timeout --kill-after=10 "$seconds" "$@" >"$OUT/$part.log" 2>&1 &&
        code=0 || code=$?
    kill "$power" 2>/dev/null || true
    wait "$power" 2>/dev/null || true
}

if ! nvidia-smi >/dev/null 2>&1; then
    echo "gpu_half_hour.sh: nvidia-smi finds no GPU here; this script measures one, and nothing else" >&2
    exit 2
fi
mkdir -p "$OUT"
began=$SECONDS
left_over=()
for entry in $ALL; do
    part=${entry%:*} seconds=${entry#*:}
    [[ -z ${PARTS:-} || " $PARTS " == *" $part "* ]] || continue
    [[ -e $OUT/$part.done ]] && continue
    if ((SECONDS - began + seconds > LIMIT_S)); then
        left_over+=("$part")
        continue
    fi
    start=$SECONDS code=0
    command_of "$part"
    if ((code == 0)); then
        touch "$OUT/$part.done"
        echo "$part: done in $((SECONDS - start)) s"
    else
        left_over+=("$part")
        echo "$part: exit code $code after $((SECONDS - start)) s, see $OUT/$part.log; the next call tries again"
    fi
done
if ((${#left_over[@]})); then
    echo "left: ${left_over[*]}; call it again"
    exit 1
fi
echo "all is done: $OUT"
