#!/usr/bin/env bash
# DETR's published schedule on COCO: ResNet-50, 500 epochs, learning rate a tenth after 400, 8 GPUs with 8 images each.
#
#   bash recipes/coco_r50.sh DIR [flags]        DIR: COCO (python -m datasets.prepare coco --dest DIR, 20 GB)
#   GPUS=4 bash recipes/coco_r50.sh DIR --accumulate 2         the same batch of 64 on four GPUs
#
# Cost: the authors' 28 minutes an epoch on 8 V100s, hence 10 days. Result: nobody has run it with this project; the
# authors publish AP 0.420, AP50 0.624. It needs COCO, 8 GPUs, and ImageNet weights (downloaded).
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: recipes/coco_r50.sh DIR [flags], DIR with train2017, val2017 and annotations"}

torchrun --nproc_per_node="${GPUS:-8}" main.py --data_path "$data" --batch_size 8 --epochs 500 --lr_drop 400 \
    --num_workers 8 --resume auto --output_dir runs/coco_r50 "${@:2}"
