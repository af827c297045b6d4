#!/usr/bin/env bash
# Train a detector with a ResNet-18 from scratch on generated images: no data, no weights, no network.
# The encoder's cells propose the queries (--queries encoder), which teaches class and box from the first step on. DETR's own
# queries need twice as long: recipes/shapes_plain.sh.
# Cost: 3 minutes on two CPU cores (0.4 s a step). Result: AP 0.70, AP50 0.94 on 200 validation images.
set -euo pipefail
cd "$(dirname "$0")/.."

python main.py --dataset_file shapes --image_size 128 --train_size 3200 --val_size 200 --num_workers 0 \
    --backbone resnet18 --backbone_weights none --backbone_norm batch --feature_map c4 \
    --queries encoder --focal --local_attention --num_queries 10 \
    --hidden_dim 128 --enc_layers 2 --dec_layers 2 --dim_feedforward 512 --dropout 0 \
    --batch_size 16 --epochs 2 --lr 8e-4 --lr_backbone 8e-4 --lr_schedule onecycle --warmup_steps 50 \
    --bbox_loss_coef 2 --giou_loss_coef 1 --clip_max_norm 0.5 --print_freq 50 --device cpu --output_dir runs/shapes "$@"
