#!/usr/bin/env bash
# The lightweight example of hgp_detr on Hands, Guns and Phones: a small ResNet-18 DETR, 3 epochs. It shows that
# everything runs, or is a short program to profile; it learns next to nothing.
#
#   bash recipes/hgp_light.sh DIR [flags]       DIR: the folder HGP (python -m datasets.prepare hgp --dest DIR)
#
# Cost: not measured; 3 x 995 steps of 2 images. Result: nobody has run it yet; it needs the 2,199 images of HGP, whose
# licence is educational and non-commercial.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: recipes/hgp_light.sh DIR [flags], DIR as python -m datasets.prepare hgp makes it"}

python main.py --dataset_file hgp --data_path "$data" --batch_size 2 --epochs 3 --backbone resnet18 \
    --enc_layers 1 --dec_layers 1 --dim_feedforward 512 --hidden_dim 64 --nheads 2 --num_queries 5 \
    --output_dir runs/hgp_light "${@:2}"
