"""Flags that are chosen before a run starts, because another flag asks for it, each with its reason."""

import argparse

from datasets.interface import DetectionDataset
from flags.given import given_flags
from settings import Place, Weights, replace_flags, typed_flags
from util.dist.distributed import print_once

from .choices import Choice, describe, untyped
from .overfit import choose_for_overfit
from .preset import choose_preset, recorded_choices


def choose_flags(
    args: argparse.Namespace, weights: Weights, place: Place
) -> tuple[argparse.Namespace, dict[str, Choice], DetectionDataset | None]:
    """Return the flags with the values that were chosen, and the choices by name; none for a plain run.

    The third is the training set, where it had to be read for that.

    A run that goes on takes the choices that its checkpoint recorded, also without --preset; an evaluation takes
    nothing: its checkpoint says all that it needs.
    """
    choices: dict[str, Choice] = {}
    opened = None
    if weights.resume is not None and not args.eval:
        choices = untyped(recorded_choices(weights.resume), given_flags(args))
        if choices:
            print_once(describe(choices, f"{weights.paths['resume']}: chosen by --preset when the run began"))
    elif args.preset and not args.eval:
        choices, opened = choose_preset(args, typed_flags(args), weights, place.device)
        print_once(describe(choices, f"--preset {args.preset}"))
    if args.overfit:
        # A preset's choices count as typed here: they were made for these data, a trial's are for any.
        trial = untyped(choose_for_overfit(args.dataset_file), given_flags(args) | choices.keys())
        print_once(describe(trial, f"--overfit {args.overfit}"))
        choices = choices | trial
    if not choices:
        return args, {}, None  # not a copy, which would forget what was typed with its default value
    return replace_flags(args, **{name: choice.value for name, choice in choices.items()}), choices, opened
