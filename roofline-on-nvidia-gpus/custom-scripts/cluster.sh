#!/usr/bin/env bash
# Collect rooflines on any Slurm cluster: one GPU, a node, or several. What stands behind the script's name goes to main.py.
#
#   PARTITION=gpu ENVIRONMENT=/path/to/env OUT=/path/to/results bash cluster.sh --coco_path /path/to/coco
#
# ENVIRONMENT: folder of a conda or venv environment with the packages of requirements.txt; ncu or nsys must be on the PATH.
# Other options of sbatch by its variables: SBATCH_ACCOUNT, SBATCH_QOS, SBATCH_CONSTRAINT, ... SECTIONS, NAME, TOOL (ncu or
# nsys), NODES, GPUS, CPUS, TIME, LAUNCHER: as for perlmutter.sh. DCGM=pause where NVIDIA's monitor holds the counters.
#SBATCH --job-name=roofline
#SBATCH --signal=B:TERM@60
set -euo pipefail
: "${PARTITION:?the queue of the GPUs: sinfo lists them}" "${ENVIRONMENT:?folder of the conda or venv environment}"
: "${OUT:?folder for reports, CSVs and charts, seen from every node}"
# shellcheck source=slurm/launch.sh
source "${PROJECT:-$(dirname "$0")/../..}/slurm/launch.sh"
# shellcheck source=roofline-on-nvidia-gpus/custom-scripts/collect_sections.sh
source "$PROJECT/roofline-on-nvidia-gpus/custom-scripts/collect_sections.sh"
submit --partition="$PARTITION" --gres="gpu:$GPUS" -- "$0" "$@"

collect_sections "$@"
