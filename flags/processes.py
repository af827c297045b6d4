"""Flags of several processes: where they meet, and how they exchange gradients."""

import argparse


def add_process_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the launch."""
    group.add_argument(
        # As in DETR, the launcher's environment has the last word.
        "--world_size",
        default=1,
        type=int,
        help="accepted for old scripts; the launcher says how many processes",
    )
    group.add_argument(
        # A process may evaluate or read annotations for minutes while others wait: too small a number ends a sound run.
        "--dist_timeout",
        default=None,
        type=float,
        metavar="SECONDS",
        help="end when another process has not answered for so long (PyTorch's: 600 with NCCL, 1800 with gloo)",
    )
    group.add_argument("--dist_url", default="env://", help="where processes meet (%(default)s)")
    _add_exchange_flags(group)


def _add_exchange_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that save time or memory with many processes; with one they change nothing, and a line says so."""
    group.add_argument(
        # Larger ones use a slow network better, smaller ones begin earlier.
        "--bucket_mb",
        default=None,
        type=float,
        metavar="MB",
        help="exchange gradients in parts of this size while the backward pass goes on (PyTorch's: 25)",
    )
    group.add_argument(
        # Right for DETR, whose every step uses every weight in the same order.
        "--static_graph",
        action="store_true",
        help="plan the exchange of gradients in the first step, once for all",
    )
    group.add_argument(
        "--compress_gradients",
        default="off",
        choices=("off", "bf16"),
        help="bf16: exchange gradients rounded to bfloat16, half the bytes (%(default)s)",
    )
    group.add_argument(
        "--zero",
        action="store_true",
        help="divide the optimizer's state among the processes; checkpoints are those of any other run",
    )
