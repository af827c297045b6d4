"""Flags as a caller gives them: which were typed or set, and all of them where a script knows DETR's alone."""

import argparse

from datasets import dataset_file_from_flags
from util.flags import Flags

from . import get_args_parser


def given_flags(args: argparse.Namespace) -> frozenset[str]:
    """Return the names of the flags that were typed, or set to another value than their default after parsing."""
    defaults = vars(get_args_parser().parse_args([]))
    # A caller in Python sets attributes and types nothing: what differs from its default was meant.
    changed = frozenset(name for name, value in defaults.items() if getattr(args, name, value) != value)
    return changed | args.given if isinstance(args, Flags) else changed


def with_defaults(args: argparse.Namespace) -> argparse.Namespace:
    """Return a copy of the flags; those that a script for the original DETR does not know have their defaults.

    Without --dataset_file the folder decides.
    """
    complete = get_args_parser().parse_args([])
    if isinstance(args, Flags) and isinstance(complete, Flags):
        # What was typed, and where, is known to the parser alone, and a copy would lose it.
        complete.given, complete.origins = args.given, args.origins
    # Over the defaults, so that unknown names of a caller's script pass through.
    vars(complete).update(vars(args))
    if isinstance(complete, Flags) and "dataset_file" not in given_flags(complete):
        complete.dataset_file = dataset_file_from_flags(argparse.Namespace(**vars(complete) | {"dataset_file": None}))
    return complete
