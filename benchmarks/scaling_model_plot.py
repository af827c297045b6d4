"""The figure of `scaling_model.py`: images a second over GPUs, and what a step of a divided batch consists of."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from benchmarks.scaling_model import Row

#: Colours that differ for colour-blind eyes, too (Okabe and Ito).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
#: Parts of a step, from below.
PARTS = {"compute": "forward, backward, optimizer", "matcher": "matcher", "exchange": "exchange waited for"}


def draw(curves: Mapping[tuple[str, int], Sequence[Row]], divided: Sequence[Row], path: Path, *, network: str) -> None:
    """Draw and write.

    Args:
        curves: rows by network and images a GPU.
        divided: rows of one batch that more and more GPUs divide.
        path: of the image.
        network: of `divided`.
    """
    figure, (rates, waits, parts) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    networks = list(dict.fromkeys(name for name, _ in curves))
    batches = list(dict.fromkeys(batch for _, batch in curves))
    for (name, batch), rows in curves.items():
        # The colour says the batch, the line's style the network.
        style = {"color": COLORS[batches.index(batch) % 4], "linestyle": "-" if name == networks[0] else ":"}
        label = f"{batch} a GPU, {name}" if batch else f"divided, {name}"
        gpus = [row.gpus for row in rows]
        rates.plot(gpus, [row.rate for row in rows], marker=".", label=label, **style)
        waits.plot(gpus, [1e3 * row.step.exchange for row in rows], marker=".", label=label, **style)
    rates.set(title="images a second", xscale="log", yscale="log")
    waits.set(title="exchange waited for, ms a step", xscale="log")
    # The longest curve has every number of GPUs.
    _number_gpus(rates, [row.gpus for row in max(curves.values(), key=len)])
    _number_gpus(waits, [row.gpus for row in max(curves.values(), key=len)])
    rates.legend(fontsize="small")
    _stack(parts, divided)
    total = divided[0].gpus * divided[0].batch
    parts.set_title(f"ms a step, {total:.0f} images divided, {network}")
    figure.suptitle("Predicted from counts and datasheets. Nobody has measured it.", fontsize="medium")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


def _stack(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a bar of parts for each number of GPUs."""
    places = range(len(rows))
    below = [0.0] * len(rows)
    for color, (name, label) in zip(COLORS, PARTS.items()):
        heights = [1e3 * getattr(row.step, name) for row in rows]
        axes.bar(places, heights, bottom=below, color=color, label=label)
        below = [low + height for low, height in zip(below, heights)]
    axes.set_xticks(list(places), [str(row.gpus) for row in rows])
    axes.set_xlabel("GPUs")
    axes.set_ylim(0, 1.1 * max(below))
    axes.legend(fontsize="small")


def _number_gpus(axes: Axes, gpus: Sequence[int]) -> None:
    """Label a logarithmic axis with the numbers of GPUs."""
    axes.xaxis.set_major_locator(FixedLocator(list(gpus)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize="small")
    axes.set_xlabel("GPUs")
    axes.grid(alpha=0.3)
