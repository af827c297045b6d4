"""Time of sparse normalisers of attention, ours and the package entmax's, forward and backward.

    python benchmarks/sparse_attention.py              one thread; the shapes of a DETR's decoder and encoder, 2 images
    python benchmarks/sparse_attention.py --rounds 1 --shapes 16x10x50

Alternating, in one process; medians of CPU time, which other programs on the machine hardly change, and of wall time.
Checks that both give the same probabilities. Writes a dated JSON. Needs the package: pip install entmax.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import benchmark_parser, print_medians, write_report
from models.variants.entmax import alpha_entmax, entmax15, sparsemax

#: Names of the two implementations, of what the package computes from the largest scores alone, and of the softmax.
OURS, PACKAGE, PARTIAL, SOFTMAX = "ours", "package", "package, 100 largest", "softmax"
#: The largest difference of two probabilities.
CLOSE = 2e-6

Normalizer = Callable[[Tensor], Tensor]


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark."""
    parser = benchmark_parser("sparse_attention", __doc__, original=False)
    parser.add_argument("--rounds", type=int, default=5, help="times of each that count (%(default)s)")
    parser.add_argument(
        "--shapes", nargs="+", default=["16x100x1050", "16x1050x1050"], help="heads x queries x keys (%(default)s)"
    )
    parser.add_argument("--no_alpha", action="store_true", help="leave out alpha_entmax, whose rival takes long")
    parser.set_defaults(threads=1)
    return parser.parse_args()


def rivals(heads: int, *, with_alpha: bool) -> dict[str, dict[str, Normalizer]]:
    """Return what is compared, by normaliser and implementation."""
    try:
        import entmax
    except ImportError as error:
        raise SystemExit("the rival is missing: pip install entmax") from error
    # (heads, 1, 1): one for each head, between softmax (1) and sparsemax (2), and learned as in a model.
    alpha = torch.linspace(1.1, 1.9, heads).view(heads, 1, 1).requires_grad_()
    softmax: Normalizer = lambda z: z.softmax(-1)
    found: dict[str, dict[str, Normalizer]] = {
        "sparsemax": {
            OURS: sparsemax,
            PACKAGE: lambda z: entmax.sparsemax(z, -1),
            # Looks for the threshold among the 100 largest scores, and tries more where these do not do.
            PARTIAL: lambda z: entmax.sparsemax(z, -1, 100),
            SOFTMAX: softmax,
        },
        "entmax15": {
            OURS: entmax15,
            PACKAGE: lambda z: entmax.entmax15(z, -1),
            PARTIAL: lambda z: entmax.entmax15(z, -1, 100),
            SOFTMAX: softmax,
        },
    }
    if with_alpha:
        bisect: Normalizer = lambda z: entmax.entmax_bisect(z, alpha)
        found["alpha_entmax"] = {OURS: lambda z: alpha_entmax(z, alpha), PACKAGE: bisect, SOFTMAX: softmax}
    return found


def once(normalize: Normalizer, scores: Tensor, gradient: Tensor) -> tuple[dict[str, float], Tensor]:
    """CPU and wall seconds of a forward and a backward pass, and the probabilities."""
    # A leaf of its own: gradients of the last round must not add up.
    z = scores.clone().requires_grad_()
    wall, cpu = time.perf_counter(), time.process_time()
    probabilities = normalize(z)
    probabilities.backward(gradient)
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}, probabilities.detach()


def measure(
    shape: tuple[int, ...], contenders: dict[str, Normalizer], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """CPU and wall seconds by implementation, after a round that does not count. Raises SystemExit if they differ."""
    torch.manual_seed(0)
    # (heads of all images, queries, keys); a random gradient, because that of a sum of probabilities is 0 everywhere.
    scores, gradient = torch.randn(shape), torch.randn(shape)
    times: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in contenders}
    # Round -1 does not count. Even rounds go there, odd ones back: a machine that slows down slows all alike.
    for number in range(-1, rounds):
        results: dict[str, Tensor] = {}
        for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
            seconds, results[name] = once(contenders[name], scores, gradient)
            for kind in times[name] if number >= 0 else ():
                times[name][kind].append(seconds[kind])
        # A faster function that gives other probabilities would be no rival.
        apart = float((results[OURS] - results[PACKAGE]).abs().max())
        if apart > CLOSE:
            raise SystemExit(f"{shape}: ours and the package's differ by {apart:.1e}")
    return times


def main() -> None:
    """Measure, print the ratios, and write the JSON."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    runs: dict[str, dict] = {}
    medians: dict[str, dict[str, float]] = {}
    for text in args.shapes:
        shape = tuple(int(side) for side in text.split("x"))
        for name, contenders in rivals(shape[0], with_alpha=not args.no_alpha).items():
            runs[f"{name} {text}"] = times = measure(shape, contenders, args.rounds)
            for kind in ("cpu", "wall"):
                row = {who: statistics.median(seconds[kind]) for who, seconds in times.items()}
                medians[f"{name} {text}, {kind}"] = row
                print_medians({f"{name} {text}, {kind}": row}, "s", against=(PACKAGE, PARTIAL, SOFTMAX))
    write_report("sparse_attention", args, medians=medians, unit="s", runs=runs)


if __name__ == "__main__":
    main()
