#!/usr/bin/env bash
# Collect rooflines on any Slurm cluster: one GPU, a node, or several. What stands behind the script's name goes to main.py.
#
#   PARTITION=gpu PYTHON_ENV=/path/to/env OUT=/path/to/results bash cluster.sh --coco_path /path/to/coco
#
# It is `slurm/cluster.sh profile`, whose variables are listed in slurm/launch.sh; ncu or nsys must be on the PATH, or in
# MODULES. SECTIONS, NAME, TOOL (ncu or nsys): as for perlmutter.sh. DCGM=pause where NVIDIA's monitor holds the counters.
set -euo pipefail
exec bash "${DETR_PROJECT:-$(dirname "$0")/../..}/slurm/cluster.sh" profile "$@"
