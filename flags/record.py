"""Flags of what a run leaves beside its results."""

import argparse


def add_record_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of further files of a run."""
    group.add_argument(
        "--log_gpu",
        action="store_true",
        help="write utilisation, memory and power of the GPU to gpu.csv in --output_dir, a row a second (NVML)",
    )
