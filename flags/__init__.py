"""The flags of `main.py`, in groups, each with its help: DETR's names and defaults, and what is new here."""

import argparse

from util.flags import FlagParser

from .attention import add_attention_flags
from .augmentation import add_augmentation_flags
from .data import add_data_flags, add_place_flags
from .images import add_image_flags
from .model import add_model_flags
from .profiling import add_profiling_flags
from .record import add_more_evaluation_flags, add_record_flags
from .run import add_run_flags
from .start import add_start_flags
from .training import add_length_flags, add_loss_flags, add_training_flags

__all__ = ["add_place_flags", "get_args_parser"]


def get_args_parser() -> argparse.ArgumentParser:
    """Return a parser with all flags, in groups, without `--help`: to be used as a parent of a parser that adds it."""
    parser = FlagParser("DETR", add_help=False)
    training = parser.add_argument_group("training")
    add_training_flags(training)
    add_length_flags(training)
    model = parser.add_argument_group("model")
    add_model_flags(model)
    add_attention_flags(model)
    add_loss_flags(parser.add_argument_group("matcher and loss"))
    data = parser.add_argument_group("data")
    add_data_flags(data)
    add_image_flags(data)
    add_augmentation_flags(data)
    run = parser.add_argument_group("run")
    add_run_flags(run)
    add_record_flags(run)
    add_more_evaluation_flags(run)
    add_start_flags(parser.add_argument_group("start"))
    add_profiling_flags(parser.add_argument_group("profiling"))
    return parser
