"""The benchmark of convolutions finds all of a step and what is computed of each."""

import pytest
import torch

from benchmarks import convolutions
from flags import get_args_parser
from util.flags import FlagParser


@pytest.mark.slow
def test_all_convolutions_of_a_step_are_found_and_measured() -> None:
    words = [
        "--num_classes",
        "5",
        "--backbone",
        "resnet18",
        "--enc_layers",
        "1",
        "--dec_layers",
        "1",
        "--batch_size",
        "1",
    ]
    found = convolutions.find(FlagParser(parents=[get_args_parser()]).parse_args(words), (64, 96))
    # 17 in the network's length, 3 beside its blocks, and the one to the transformer's width.
    assert sum(found.values()) == 21
    parts = {str(shape): shape.parts for shape in found}
    assert parts["3, 64, 7, 2 at 64 x 96"] == ["forward"], "frozen"
    assert parts["64, 128, 1, 2 at 16 x 24"] == ["forward", "to weights"], "what it sees is frozen"
    shape = next(shape for shape in found if str(shape) == "128, 256, 1, 2 at 8 x 12")
    assert shape.flops == 2 * 4 * 6 * 128 * 256
    seconds = convolutions.measure(shape, torch.float32, 1)
    assert set(seconds) == {
        ("forward", "convolution"),
        *((part, way) for part in ("to maps", "to weights") for way in ("convolution", "product")),
    }
    assert convolutions.chosen(shape, "to maps", torch.float32) == ("to maps", "product")
    assert convolutions.chosen(shape, "forward", torch.float32) == ("forward", "convolution")
