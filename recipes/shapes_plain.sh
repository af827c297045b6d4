#!/usr/bin/env bash
# Train a plain DETR with a ResNet-18 from scratch on generated images: no data, no weights, no network.
# recipes/shapes.sh gets further in half of the time, with queries that the encoder proposes.
# Cost: 6 minutes on two CPU cores (0.2 s a step). Result: AP 0.60, AP50 0.95 on 200 validation images.
# A DETR learns classes late. Box losses of a fifth of their default weight leave more of the gradient to the classes, and
# batch norms need 16 images (with box weights 2 and 1 and batches of 8: AP50 0.72 in as many minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

python main.py --dataset_file shapes --image_size 128 --train_size 5600 --val_size 200 --num_workers 0 \
    --backbone resnet18 --backbone_weights none --backbone_norm batch \
    --hidden_dim 128 --enc_layers 2 --dec_layers 2 --dim_feedforward 512 --num_queries 5 --dropout 0 --pre_norm \
    --batch_size 16 --epochs 4 --lr 4e-4 --lr_backbone 4e-4 --lr_schedule onecycle --warmup_steps 300 \
    --bbox_loss_coef 1 --giou_loss_coef 0.5 --eos_coef 0.2 --print_freq 50 --device cpu --output_dir runs/shapes_plain "$@"
