"""Research switches of a model that other programs' DETR does not have: refused before anything is written."""

from collections.abc import Mapping
from typing import Any

from ..errors import UserError

#: Flags that change what a trained model computes, with DETR's own value. Groups and denoising beside them are of the
#: training alone, and bring weights or queries that the other side would take for its own.
PLAIN: Mapping[str, Any] = {
    "queries": "learned",
    "focal": False,
    "local_attention": False,
    "groups": 1,
    "denoising": 0,
    "encoder_attention": "softmax",
    "decoder_self_attention": "softmax",
    "cross_attention": "softmax",
}


def refuse_variants(flags: Mapping[str, Any], name: str, program: str) -> None:
    """Raise UserError for a model with a switch that another program would compute without.

    Args:
        flags: the fields of an `Architecture`.
        name: of its file, for the message.
        program: the other side.
    """
    differing = [flag for flag, plain in PLAIN.items() if flags.get(flag, plain) != plain]
    if differing:
        words = ", ".join(f"--{flag}" if flags[flag] is True else f"--{flag} {flags[flag]}" for flag in differing)
        raise UserError(f"{name}: {words}: {program} has plain DETR alone, and would find other things")
