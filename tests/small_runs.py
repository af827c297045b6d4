"""Runs in a fraction of the time: ResNet-18 with an eighth of its channels and half of its blocks, and small pictures.

For tests of what a run does and leaves. A module asks for them by its mark
`pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")`.
"""

import os
from typing import Any

import pytest
import torchvision
from torchvision.models.resnet import BasicBlock, ResNet

from models import checkpoint_config
from util.draw import sheets
from util.plot_utils import read_log
from util.runs import run_folder
from util.runs.atomic import atomic_file

#: Channels of the last feature map; ResNet-18 has 512.
CHANNELS = 64


class NarrowResNet18(ResNet):
    """ResNet-18's layers under their names, one block a stage, with 90,000 parameters instead of 11 million."""

    def __init__(self, *, weights: None = None, **more: Any) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1], **more)

    def _make_layer(self, block: Any, planes: int, *args: Any, **more: Any) -> Any:
        return super()._make_layer(block, planes * CHANNELS // 512, *args, **more)


def narrow(patch: pytest.MonkeyPatch) -> None:
    """Put the narrow network in ResNet-18's place, also where checkpoints are told apart by their weights."""
    patch.setattr(torchvision.models, "resnet18", NarrowResNet18)
    first = (CHANNELS // 8, CHANNELS // 8)
    patch.setitem(checkpoint_config._RESNETS, ((1, 1, 1, 1), first, False), "resnet18")


def leave_undrawn(patch: pytest.MonkeyPatch) -> None:
    """Read the log as for its curves and write a file in their place; draw small images of detections."""
    patch.setattr(run_folder, "plot_curves", note)
    patch.setattr(sheets, "GRID_TILE", 32)


def note(log_file: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write how many epochs there are to draw."""
    with atomic_file(path) as file:
        file.write(f"{len(read_log(log_file))} epochs".encode())


def in_force() -> list[str]:
    """Name the replacements that are in force in this process, for `repeat` in another."""
    found = {"narrow": torchvision.models.resnet18 is NarrowResNet18, "leave_undrawn": run_folder.plot_curves is note}
    return [name for name, on in found.items() if on]


def repeat(names: list[str]) -> None:
    """Make the replacements of another process here, for good."""
    for name in names:
        globals()[name](pytest.MonkeyPatch())
