#!/usr/bin/env bash
# Fine-tune DETR's COCO weights on your own data: classes of the same name keep their weights, others start anew.
#
#   bash recipes/coco_finetune.sh DIR [flags]   DIR: data in any layout of COCO files (README, "Your own data")
#
# Cost: about 0.11 s an image and epoch on one V100 (estimated from the authors' 28 minutes an epoch on 8
# of them). Result: nobody has run it yet; it needs a GPU, and the weights (159 MB, downloaded). recipes/cppe5.sh is the
# same for CPPE-5, with the AP that others published.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: recipes/coco_finetune.sh DIR [flags], DIR in any layout that main.py --data_path recognises"}

python main.py --data_path "$data" --init_from https://dl.fbaipublicfiles.com/detr/detr-r50-e632da11.pth \
    --epochs 50 --batch_size 4 --lr 5e-5 --lr_backbone 5e-6 --lr_schedule cosine --ema 0.999 \
    --output_dir runs/coco_finetune "${@:2}"
