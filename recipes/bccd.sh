#!/usr/bin/env bash
# Learn from 205 images: blood cells (BCCD), three classes, about 14 boxes an image; validation on 87 others.
#
#   bash recipes/bccd.sh DIR [flags]            DIR with images/ and annotations/train.json, val.json
#   WEIGHTS=FILE bash recipes/bccd.sh DIR       ImageNet weights of a MobileNetV2 from a file (downloaded otherwise)
#
# The map has stride 16 (--feature_map c4), the encoder proposes the queries, and each query looks inside its own box:
# with plain DETR's queries the same run learns nothing in this time (docs/small_data.md). Log, curves and images of one
# run, and the numbers of three seeds, are in results/bccd/.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: recipes/bccd.sh DIR [flags], DIR with images/ and annotations/train.json, val.json"}

python main.py --dataset_file custom --data_path "$data" --image_size 384 --max_size 512 \
    --train_scales 384 --crop_resize 480 --crop_size 320 640 --num_workers 1 \
    --backbone mobilenet_v2 --backbone_weights "${WEIGHTS:-imagenet}" --feature_map c4 \
    --queries encoder --focal --local_attention --num_queries 60 \
    --hidden_dim 128 --nheads 4 --enc_layers 2 --dec_layers 3 --dim_feedforward 512 --dropout 0 \
    --batch_size 4 --epochs 30 --lr 5e-4 --lr_backbone 2e-4 --lr_schedule onecycle --warmup_steps 50 \
    --clip_max_norm 0.5 --ema 0.995 --eval_every 3 --print_freq 25 --device cpu --output_dir runs/bccd "${@:2}"
