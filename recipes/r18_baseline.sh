#!/usr/bin/env bash
# ResNet-18 beside the original: the losses of the first 50 steps on the same batches, from the same weights.
#
#   git clone https://github.com/facebookresearch/detr ../facebookresearch-detr
#   bash recipes/r18_baseline.sh ../facebookresearch-detr DIR [flags]      DIR: any COCO layout, a few images are enough
#
# Exit code 1 where a loss differs by more than 1e-4. One thread, shorter side 128, no dropout (the two draw it in another
# order), weights from a seed (none are downloaded), numbers of 64 bits; flags may follow.
# RESULT
set -euo pipefail
cd "$(dirname "$0")/.."
usage="usage: recipes/r18_baseline.sh ORIGINAL DIR [flags], ORIGINAL a checkout of facebookresearch/detr, DIR with images"
original=${1:?"$usage"}
data=${2:?"$usage"}

OMP_NUM_THREADS=1 python benchmarks/r18_baseline.py --original "$original" --data_path "$data" --float64 "${@:3}"
