#!/usr/bin/env bash
# Sparse attention of the queries to the image, in place of the softmax, with everything else as in recipes/shapes_plain.sh.
#
#   bash recipes/sparse_attention.sh NAME [flags]      NAME: softmax, sparsemax, entmax15, alpha_entmax or topk
#
# Cost: that of shapes_plain.sh, 6 minutes on two idle CPU cores, and the sorting or bisection of the scores
# (benchmarks/sparse_attention.py). Result: see results/ where a table is there; else nobody has run it to its end. On
# COCO the sparse-detector thesis reports AP 0.411 with softmax, 0.406 alpha_entmax, 0.404 entmax15, 0.394 sparsemax.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?"usage: recipes/sparse_attention.sh NAME [flags], NAME one of softmax sparsemax entmax15 alpha_entmax topk"}

bash recipes/shapes_plain.sh --cross_attention "$name" --output_dir "runs/sparse_attention/$name" "${@:2}"
