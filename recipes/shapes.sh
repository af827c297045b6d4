#!/usr/bin/env bash
# A DETR with a ResNet-18, from scratch, on generated pictures: no data, no weights, no network.
set -euo pipefail
cd "$(dirname "$0")/.."

python main.py --dataset_file shapes --image_size 96 --train_size 3520 --val_size 200 --num_workers 0 \
    --backbone resnet18 --backbone_weights none --backbone_norm batch \
    --hidden_dim 128 --enc_layers 2 --dec_layers 2 --dim_feedforward 512 --num_queries 8 --dropout 0 --pre_norm \
    --batch_size 16 --epochs 10 --lr 4e-4 --lr_backbone 2e-4 --lr_schedule onecycle --warmup_steps 150 \
    --bbox_loss_coef 3 --print_freq 20 --device cpu --output_dir runs/shapes "$@"
