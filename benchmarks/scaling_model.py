"""Predict a training step on 1 to 512 GPUs from counts and published rates: nobody has measured this on a GPU.

    python benchmarks/scaling_model.py                                        R50 in bfloat16 on A100s, two networks
    python benchmarks/scaling_model.py --gpu "H100 SXM5 80 GB" --networks ndr --batch_sizes 2 8
    python benchmarks/scaling_model.py --global_batch 64                      a batch that more GPUs divide
    python benchmarks/scaling_model.py --figure benchmarks/scaling_model-2026-11-29.png
    python benchmarks/scaling_model.py --check                                   beside measured processes of this CPU

FLOPs, bytes and calls of a step on images of 800 x 1066 are counted as for `--cost_card`, at two batch sizes, with a
line through both; buckets are those of `counts.json`. `exchange_model.py` has the formulas. Not in the model: processes
that wait for a slower one, other jobs on the network, the file system, evaluation and checkpoints.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.exchange_check import CASES, check
from benchmarks.exchange_model import Network, Step, Work, all_reduce, step
from benchmarks.report import benchmark_parser
from flags import get_args_parser
from training.cost_card.prediction import predict_gpu
from training.cost_card.rates import Rates, find_gpu, gpu_rates
from training.fake_step import count_step, fake_training
from util.errors import UserError
from util.flags import FlagParser

SIZE = (800, 1066)
#: Images of the training parts.
COCO, OBJECTS365 = 118_287, 1_700_000
#: Nodes and their links; docs/scaling.md says which figures were checked, and where. Adapters have 25 GB/s each way
#: (200 Gb/s) and, NDR, 50; `reached` of it is an assumption. Inside of a node what NCCL itself takes for the best of an
#: all-reduce, 235 GB/s among A100s and 370 among H100s (NVIDIA/nccl, src/graph/tuning.cc), of NVLink's 300 and 450 each
#: way. Hops and start: NCCL's constants of a ring, 3.4 us by NVLink, 14 by a network, 8.4 for all (the same file).
_US = {"hop_inside": 3.4e-6, "hop_outside": 14e-6, "start": 8.4e-6}
NETWORKS = {
    # 4 A100 and 4 Slingshot 11 adapters: NERSC, docs.nersc.gov/systems/perlmutter/architecture.
    "slingshot": Network(4, inside=235e9, outside=4 * 25e9, **_US),
    # 8 A100 and 8 InfiniBand HDR adapters: DGX A100.
    "hdr": Network(8, inside=235e9, outside=8 * 25e9, **_US),
    # 8 H100 and 8 InfiniBand NDR adapters: DGX H100, NVIDIA's DGX BasePOD reference architecture.
    "ndr": Network(8, inside=370e9, outside=8 * 50e9, **_US),
}
#: Batch sizes that are counted; others lie on the line through them.
COUNTED = (2, 16)


@dataclass(frozen=True)
class Counted:
    """A step of one GPU: seconds of its parts, of the host's launches, and bytes of gradients by part of the model."""

    seconds: Mapping[str, float]
    launches: float
    gradients: Mapping[str, float]

    @property
    def stretch(self) -> float:
        """Factor on all parts of a step, above 1 if launches take longer than the GPU's work."""
        return max(1.0, self.launches / sum(self.seconds.values()))


@dataclass(frozen=True)
class Row:
    """A line of the table: a number of GPUs, each with its batch, and the step that was predicted for them."""

    gpus: int
    batch: float
    step: Step
    launches: bool

    @property
    def rate(self) -> float:
        """Images a second of all GPUs."""
        return self.gpus * self.batch / self.step.seconds

    @property
    def limit(self) -> str:
        """The largest part of the step."""
        parts = {"launches" if self.launches else "GPU": self.step.compute}
        parts |= {name: getattr(self.step, name) for name in ("matcher", "exchange", "loader")}
        return max(parts, key=lambda name: parts[name])


def sections_of(ops: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """Add up seconds by part of the step.

    Args:
        ops: section, operator and seconds, in the order of the step.

    Returns:
        seconds of `forward` (with the loss), `head` and `backbone` (backward passes) and `optimizer`.
    """
    found = dict.fromkeys(("forward", "head", "backbone", "optimizer"), 0.0)
    projected = False
    for section, name, seconds in ops:
        part = "optimizer" if section == "optimizer_step" else "forward"
        if section == "backward":
            # The transformer's gradients come first. Its one convolution projects the backbone's map: all behind it is
            # the backbone's.
            part = "backbone" if projected else "head"
            projected |= name == "convolution_backward"
        found[part] += seconds
    return found


def count(batch: int, rates: Rates, amp: str) -> Counted:
    """Count a step of R50 with as many images, and predict its parts on a GPU."""
    flags = ["--num_classes", "91", "--batch_size", str(batch), "--amp", amp]
    args = FlagParser(parents=[get_args_parser()]).parse_args(flags)
    counts = count_step(args, torch.device("cuda"), SIZE)
    seconds = sections_of((op.section, op.name, predict_gpu([op], rates, 0).device) for op in counts.ops)
    gradients = {"head": 0.0, "backbone": 0.0}
    with fake_training(args, torch.device("cpu")) as parts:
        for name, parameter in parts.model.named_parameters():
            if parameter.requires_grad:
                gradients["backbone" if name.startswith("backbone") else "head"] += 4.0 * parameter.numel()
    return Counted(seconds, sum(counts.operators.values()) * rates.launch, gradients)


def between(low: Counted, high: Counted, batch: float) -> Counted:
    """Return the step of another batch size, on the line through two."""
    share = (batch - COUNTED[0]) / (COUNTED[1] - COUNTED[0])
    # Below the smaller batch a falling line could get under zero.
    seconds = {name: max(0.0, value + share * (high.seconds[name] - value)) for name, value in low.seconds.items()}
    return Counted(seconds, low.launches + share * (high.launches - low.launches), low.gradients)


def work_of(counted: Counted, batch: float, args: argparse.Namespace) -> Work:
    """Return one GPU's work; where launches take longer than it, all parts are stretched alike."""
    by = {name: seconds * counted.stretch for name, seconds in counted.seconds.items()}
    backward = tuple((counted.gradients[name], by[name]) for name in ("head", "backbone"))
    # 6 decoder layers: the costs of all of them and of the whole batch are among the GPU's operators, at once; what the
    # GPU waits for is the assignment of each on the host, on as many threads as are given.
    matcher = math.ceil(6 * batch / args.matcher_threads) * args.matcher_us * 1e-6
    return Work(by["forward"], matcher, backward, by["optimizer"], batch / (args.loader_rate * args.cores))


def predict(counted: tuple[Counted, Counted], network: Network, args: argparse.Namespace, batch: int) -> Iterator[Row]:
    """Yield the rows of growing numbers of GPUs, each with `batch` images; 0: with its part of --global_batch."""
    counted_once = json.loads(Path(__file__).with_name("counts.json").read_text())["always"]["gpu"]
    buckets = [float(size) for size in counted_once["all-reduce bytes by bucket"]]
    # As bfloat16 gradients are half as long.
    sent = 0.5 if args.compress_gradients else 1.0
    for gpus in args.gpus:
        each = batch or args.global_batch / gpus
        # A GPU without an image has no step.
        if each < 1:
            break
        here = between(*counted, each)
        exchanges = [all_reduce(sent * size, gpus, network) for size in buckets]
        yield Row(gpus, each, step(work_of(here, each, args), exchanges, buckets), here.stretch > 1)


def network_of(name: str, args: argparse.Namespace) -> Network:
    """Return the rates of a network, with those that flags replace."""
    network = NETWORKS[name]
    given = {"per_node": args.per_node, "inside": args.inside, "outside": args.outside}
    given |= {key: None if getattr(args, f"{key}_us") is None else getattr(args, f"{key}_us") * 1e-6 for key in _US}
    network = replace(network, **{key: value for key, value in given.items() if value is not None})
    return replace(network, outside=network.outside * args.reached)


def describe(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    lines = [
        "| GPUs | batch | step | of which exchange, matcher, loader | images/s | of ideal | COCO, Objects365 | limit |"
    ]
    lines.append("|---" * 8 + "|")
    # As many images a second and GPU as with the fewest GPUs.
    ideal = rows[0].rate / rows[0].gpus
    for row in rows:
        parts = ", ".join(f"{1e3 * getattr(row.step, name):.1f}" for name in ("exchange", "matcher", "loader"))
        epochs = ", ".join(f"{images / row.rate / 60:.1f}" for images in (COCO, OBJECTS365))
        lines.append(
            f"| {row.gpus} | {row.gpus * row.batch:.0f} | {1e3 * row.step.seconds:.1f} ms | {parts} ms "
            f"| {row.rate:,.0f} | {row.rate / row.gpus / ideal:.0%} | {epochs} min | {row.limit} |"
        )
    return "\n".join(lines)


def parse_args(given: Sequence[str] | None) -> argparse.Namespace:
    """Flags of the script; rates are bytes a second."""
    parser = benchmark_parser("scaling_model", __doc__ or "", original=False, threads=False)
    parser.add_argument("--gpu", default="A100 SXM 40 GB", help="a row of gpus.toml (%(default)s)")
    parser.add_argument("--amp", default="bf16", choices=("off", "bf16"), help="(%(default)s)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["slingshot", "hdr"], help="(%(default)s)")
    parser.add_argument("--gpus", nargs="+", type=int, default=[2**n for n in range(10)], help="numbers (%(default)s)")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[2, 8, 32], help="images of a GPU (%(default)s)")
    parser.add_argument("--global_batch", type=int, help="instead: images of all GPUs, which they divide")
    parser.add_argument("--compress_gradients", action="store_true", help="half of the bytes are exchanged")
    parser.add_argument("--per_node", type=int, help="GPUs of a node (default: the network's, as below)")
    parser.add_argument("--inside", type=float, help="byte/s of an all-reduce inside of a node")
    parser.add_argument("--outside", type=float, help="byte/s of all adapters of a node, each way")
    parser.add_argument("--reached", type=float, default=0.8, help="share of --outside that is reached (%(default)s)")
    parser.add_argument("--hop_inside_us", type=float, help="microseconds of a message by NVLink")
    parser.add_argument("--hop_outside_us", type=float, help="microseconds of a message by the network")
    parser.add_argument("--start_us", type=float, help="microseconds of any all-reduce")
    # SciPy on 100 queries and 7 objects, one core of a Xeon, processor time: 24 to 33; 5,400 for 900 and 500.
    parser.add_argument(
        "--matcher_us", type=float, default=30, help="of an assignment: an image and decoder layer (%(default)s)"
    )
    # The matcher takes threads from 2^15 pairs on alone.
    parser.add_argument("--matcher_threads", type=int, default=1, help="that assign at a time (%(default)s)")
    # loader-2026-11-26.json. 64 cores and 4 GPUs a node: NERSC, as above.
    parser.add_argument("--loader_rate", type=float, default=128.6, help="images a second and core (%(default)s)")
    parser.add_argument("--cores", type=int, default=16, help="of the loader, for each GPU (%(default)s)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it")
    parser.add_argument("--check", action="store_true", help="measure 1 and 2 processes of this CPU, and predict them")
    parser.add_argument("--rounds", type=int, default=5, help="of --check: timed steps (%(default)s)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="of --check (%(default)s)")
    parser.add_argument("--most_off", type=float, default=0.2, help="of --check: share of a step (%(default)s)")
    args = parser.parse_args(given)
    least = {"gpus": min(args.gpus), "batch_sizes": min(args.batch_sizes), "matcher_threads": args.matcher_threads}
    for name, value in least.items():
        if value < 1:
            parser.error(f"--{name} {value}: must be 1 or more")
    return args


def main(given: Sequence[str] | None = None) -> int:
    """Print the tables, or check; return the exit code."""
    args = parse_args(given)
    if args.check:
        return check(args)
    try:
        rates = gpu_rates(find_gpu(args.gpu))
    except UserError as error:
        print(str(error).replace("--cost_card", "--gpu"), file=sys.stderr)
        return 2
    counted = (count(COUNTED[0], rates, args.amp), count(COUNTED[1], rates, args.amp))
    print(f"R50, {args.gpu}, --amp {args.amp}: predicted from counts and datasheets, not measured by anybody")
    curves = {}
    for name in args.networks:
        for batch in [0] if args.global_batch else args.batch_sizes:
            rows = curves[name, batch] = list(predict(counted, network_of(name, args), args, batch))
            title = f"a batch of {args.global_batch}, divided" if not batch else f"{batch} images a GPU"
            print(f"\n{name}, {title}\n\n{describe(rows)}")
    if args.figure:
        from benchmarks.scaling_model_plot import draw

        shared = argparse.Namespace(**vars(args) | {"global_batch": args.global_batch or 64})
        name = args.networks[0]
        draw(curves, list(predict(counted, network_of(name, args), shared, 0)), args.figure, network=name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
