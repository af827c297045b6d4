"""Rate of every convolution of a training step on the CPU, forward and for both gradients, beside the machine's best.

    python benchmarks/convolutions.py                       R50, 2 images of 800 x 1066, in float32 and in bfloat16
    python benchmarks/convolutions.py --threads 1 --rounds 1 --types float32 -- --backbone resnet18

Convolutions are found by a step without numbers (`training/fake_step.py`); equal ones are measured once. Gradients of
1 x 1 convolutions are measured as PyTorch computes them and as matrix products (`models/fast/pointwise.py`). Maps have
their channels last. A rate is that of the shortest of all rounds; what the machine does at best is measured between
them. The last lines say what a step's convolutions take, by the ways that the model goes, and would take at that rate.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks.report import benchmark_parser, write_report
from benchmarks.step_parts import best_rate
from flags import get_args_parser
from models.fast.pointwise import pointwise_conv, suits_products
from training.fake_step import fake_batch, fake_training
from util.dist.host_memory import keep_freed_memory
from util.flags import FlagParser

#: What is timed, and the two ways to compute a gradient.
FORWARD, TO_MAPS, TO_WEIGHT = "forward", "to maps", "to weights"
CONVOLUTION, PRODUCT = "convolution", "product"


@dataclass(frozen=True)
class Shape:
    """A convolution of maps (B, C, H, W) and what its backward pass computes."""

    maps: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    trained: bool
    to_maps: bool

    def __str__(self) -> str:
        out, channels, kernel, _ = self.weight
        return f"{channels * self.groups}, {out}, {kernel}, {self.stride[0]} at {self.maps[2]} x {self.maps[3]}"

    @property
    def flops(self) -> int:
        """Operations of the forward pass, and of each gradient."""
        # Height and width of the output, by the formula in PyTorch's documentation of Conv2d.
        sides = [
            (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for side, pad, dilation, kernel, stride in zip(
                self.maps[2:], self.padding, self.dilation, self.weight[2:], self.stride
            )
        ]
        out, channels, height, width = self.weight
        # A multiply-add is two operations.
        return 2 * self.maps[0] * sides[0] * sides[1] * out * channels * height * width

    @property
    def parts(self) -> list[str]:
        """Return what a step computes of it."""
        return [FORWARD, *[TO_MAPS] * self.to_maps, *[TO_WEIGHT] * self.trained]


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `run_flags` are those after `--`."""
    parser = benchmark_parser("convolutions", __doc__, original=False)
    parser.add_argument("--rounds", type=int, default=5, help="times of each, after one that is not (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1066), metavar=("H", "W"), help="(%(default)s)")
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16"], help="(%(default)s)")
    parser.add_argument("run_flags", nargs="*", help="after --: flags of main.py")
    return parser.parse_args()


def find(flags: argparse.Namespace, size: tuple[int, int]) -> Counter[Shape]:
    """Return the convolutions of a training step, and how many there are of each."""
    found: Counter[Shape] = Counter()

    def note(module: Any, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        sizes: tuple = tuple(x.shape), tuple(module.weight.shape)
        ways = module.stride, module.padding, module.dilation, module.groups
        found[Shape(*sizes, *ways, module.weight.requires_grad, x.requires_grad)] += 1

    with fake_training(flags, torch.device("cpu")) as parts:
        for module in parts.model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(note)
        samples, _ = fake_batch(flags.batch_size, size, objects=1, masks=False)
        parts.model(samples)
    return found


def tasks(shape: Shape, dtype: torch.dtype) -> dict[tuple[str, str], Callable[[], object]]:
    """Return what is timed of a convolution, by part and way."""
    x = torch.randn(shape.maps, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(shape.weight, dtype=dtype)
    bias = torch.zeros(shape.weight[0], dtype=dtype)
    more = (shape.stride, shape.padding, shape.dilation, shape.groups)
    found: dict[tuple[str, str], Callable[[], object]] = {
        (FORWARD, CONVOLUTION): lambda: torch.conv2d(x, weight, bias, *more)
    }
    for part in shape.parts[1:]:
        # Of leaves of its own, so that each pass computes one gradient alone.
        leaf = (x if part == TO_MAPS else weight).detach().requires_grad_()
        inputs = (leaf, weight) if part == TO_MAPS else (x, leaf)
        outputs = {CONVOLUTION: torch.conv2d(*inputs, bias, *more)}
        if shape.weight[2:] == (1, 1) and shape.groups == 1:
            outputs[PRODUCT] = pointwise_conv(*inputs, bias, stride=shape.stride)
        for way, out in outputs.items():
            gradient = torch.randn_like(out)
            found[part, way] = partial(torch.autograd.grad, out, leaf, gradient, retain_graph=True)
    return found


def measure(shape: Shape, dtype: torch.dtype, rounds: int) -> dict[tuple[str, str], float]:
    """Seconds of every part and way, the shortest of all rounds."""
    seconds: dict[tuple[str, str], float] = {}
    work = tasks(shape, dtype)
    for number in range(-1, rounds):
        for key in list(work)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            work[key]()
            if number >= 0:
                seconds[key] = min(time.perf_counter() - start, seconds.get(key, float("inf")))
    return seconds


def chosen(shape: Shape, part: str, dtype: torch.dtype) -> tuple[str, str]:
    """Return the part and the way that the model goes for it."""
    x = torch.empty(shape.maps, dtype=dtype).to(memory_format=torch.channels_last)
    how: dict[str, Any] = {"stride": shape.stride, "padding": shape.padding, "groups": shape.groups, "dtype": dtype}
    product = part != FORWARD and suits_products(x, torch.empty(shape.weight), **how)
    return part, PRODUCT if product else CONVOLUTION


def main() -> None:
    """Measure, print a table and the sums, and write the JSON."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory(torch.device("cpu"))  # as a training does
    words = ["--num_classes", "91", "--batch_size", "2", *args.run_flags]
    shapes = find(FlagParser(parents=[get_args_parser()]).parse_args(words), tuple(args.size))
    medians: dict[str, dict[str, float]] = {}
    sums: dict[str, dict[str, float]] = {}
    for name in args.types:
        dtype = getattr(torch, name)
        best, total, operations = 0.0, 0.0, 0
        for shape, count in shapes.items():
            best = max(best, best_rate(torch.device("cpu"), dtype, size=2048))
            seconds = measure(shape, dtype, args.rounds)
            rates = {f"{part}, {way}": shape.flops / s / 1e9 for (part, way), s in seconds.items()}
            medians[f"{name}: {count} of {shape}"] = rates
            print(f"{name}: {count} of {shape}: " + "; ".join(f"{key} {rate:.0f}" for key, rate in rates.items()))
            total += count * sum(seconds[chosen(shape, part, dtype)] for part in shape.parts)
            operations += count * shape.flops * len(shape.parts)
        sums[name] = {"seconds": total, "at the best rate": operations / best, "best GFLOP/s": best / 1e9}
        print(
            f"{name}: a step's convolutions take {total:.2f} s, at {best / 1e9:.0f} GFLOP/s {operations / best:.2f} s"
        )
    write_report("convolutions", args, medians=medians, unit="GFLOP/s", better="higher", sums=sums)


if __name__ == "__main__":
    main()
