#!/usr/bin/env bash
# Collect rooflines on Perlmutter (NERSC): one GPU, four, or several nodes. What stands behind the script's name goes to main.py.
#
#   export ACCOUNT=m1234 ENVIRONMENT=/global/common/software/m1234/detr OUT=$SCRATCH/rooflines/r50
#   QOS=shared         bash perlmutter.sh --coco_path "$SCRATCH/coco"                   all four sections on 1 GPU
#   QOS=debug GPUS=4   SECTIONS=backward bash perlmutter.sh --coco_path "$SCRATCH/coco"   counters of rank 0 of 4
#   QOS=regular GPUS=4 NODES=2 LAUNCHER=torchrun SECTIONS=all TOOL=nsys bash perlmutter.sh --coco_path "$SCRATCH/coco"   timelines
#
# ENVIRONMENT: folder of a conda or venv environment with the packages of requirements.txt. CONSTRAINT: "gpu&hbm80g" for 80 GB.
# NAME: of the run, in the files' names. MODULES: what to load; ncu 2024.1 or later counts tensor FLOPs exactly.
#SBATCH --job-name=roofline
#SBATCH --signal=B:TERM@60
set -euo pipefail
: "${ACCOUNT:?the project that pays, e.g. ACCOUNT=m1234}" "${QOS:?the queue: shared (1 or 2 GPUs), debug, regular}"
: "${ENVIRONMENT:?folder of the conda or venv environment}" "${OUT:?folder for reports, CSVs and charts, on \$SCRATCH}"
DCGM=pause # it watches every GPU there
CPUS=${CPUS:-32} # of a node's 128, for each of its 4 GPUs
# shellcheck source=slurm/launch.sh
source "${PROJECT:-$(dirname "$0")/../..}/slurm/launch.sh"
# shellcheck source=roofline-on-nvidia-gpus/custom-scripts/collect_sections.sh
source "$PROJECT/roofline-on-nvidia-gpus/custom-scripts/collect_sections.sh"
submit --account="$ACCOUNT" --qos="$QOS" --constraint="${CONSTRAINT:-gpu}" --gpus-per-node="$GPUS" -- "$0" "$@"

read -ra modules <<< "${MODULES:-cudatoolkit}"
set +u # the modules' own shell code reads variables that are not set
module load "${modules[@]}"
set -u
collect_sections "$@"
