#!/usr/bin/env bash
# Collect rooflines on Perlmutter (NERSC): one GPU, four, or several nodes. What stands behind the script's name goes to main.py.
#
#   export ACCOUNT=m1234 PYTHON_ENV=/global/common/software/m1234/detr OUT=$SCRATCH/rooflines/r50
#   QOS=shared         bash perlmutter.sh --coco_path "$SCRATCH/coco"                   all four sections on 1 GPU
#   QOS=debug GPUS=4   SECTIONS=backward bash perlmutter.sh --coco_path "$SCRATCH/coco"   counters of rank 0 of 4
#   QOS=regular GPUS=4 NODES=2 LAUNCHER=torchrun SECTIONS=all TOOL=nsys bash perlmutter.sh --coco_path "$SCRATCH/coco"   timelines
#
# It is `slurm/perlmutter.sh profile`, whose variables are listed in slurm/launch.sh. NAME: of the run, in the files' names.
# MODULES: what to load instead of cudatoolkit; ncu 2024.1 or later counts tensor FLOPs exactly.
set -euo pipefail
export MODULES=${MODULES:-cudatoolkit}
exec bash "${DETR_PROJECT:-$(dirname "$0")/../..}/slurm/perlmutter.sh" profile "$@"
