"""Flags that are chosen before a run starts, because another flag asks for it, each with its reason."""

import argparse

from flag_checks import given_flags
from settings import replace_flags
from util.dist.distributed import print_once

from .choices import Choice, describe, untyped
from .overfit import choose_for_overfit


def choose_flags(args: argparse.Namespace) -> tuple[argparse.Namespace, dict[str, Choice]]:
    """Return a copy of the flags with the values that were chosen, and the choices by name; none for a plain run."""
    choices: dict[str, Choice] = {}
    if args.overfit:
        choices = untyped(choose_for_overfit(args.dataset_file), given_flags(args))
        print_once(describe(choices, f"--overfit {args.overfit}"))
    return replace_flags(args, **{name: choice.value for name, choice in choices.items()}), choices
