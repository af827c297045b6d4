#!/usr/bin/env bash
# Fine-tune DETR's COCO weights on CPPE-5: 100 epochs on 1,000 images, validation on 29. bash recipes/cppe5.sh DIR [flags]
#
# Expect AP 0.35 (AP50 0.68, AP75 0.29): what Hugging Face's object detection guide published for the same weights, epochs,
# batch size and learning rate (model devonho/detr-resnet-50_finetuned_cppe5). This project has not run it. With 29
# validation images several points of AP are chance: repeat it with other seeds. The guide differs in three ways: images of
# 480 x 480, half precision, and a learning rate that falls linearly; here it falls along half a cosine.
# Cost: about 3 hours on a V100, estimated from DETR's published 28 minutes an epoch on 8 of them (8.8 images a second each).
# The weights are downloaded (159 MB); the classification layer has other classes and starts from random values.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: recipes/cppe5.sh DIR [flags], DIR with images and annotations/train.json, test.json"}

python main.py @recipes/cppe5.args --data_path "$data" --output_dir runs/cppe5 "${@:2}"
