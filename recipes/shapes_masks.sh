#!/usr/bin/env bash
# Train a DETR with a mask head from scratch on generated images, boxes and masks at once: no data, no weights, no network.
# Cost: 6 minutes on two CPU cores. Result: mask AP 0.68, mask AP50 0.93, box AP 0.61 on 200 validation images.
# To train the mask head alone on the detector of recipes/shapes_plain.sh, add --frozen_weights
# runs/shapes_plain/best.pth.
set -euo pipefail
cd "$(dirname "$0")/.."

python main.py --dataset_file shapes --image_size 128 --train_size 5600 --val_size 200 --num_workers 0 --masks \
    --backbone resnet18 --backbone_weights none --backbone_norm batch \
    --hidden_dim 128 --enc_layers 2 --dec_layers 2 --dim_feedforward 512 --num_queries 5 --dropout 0 --pre_norm \
    --batch_size 16 --epochs 4 --lr 4e-4 --lr_backbone 4e-4 --lr_schedule onecycle --warmup_steps 300 \
    --bbox_loss_coef 1 --giou_loss_coef 0.5 --eos_coef 0.2 --print_freq 50 --device cpu --output_dir runs/shapes_masks "$@"
