"""The plot of `scaling.py`: seconds a step over what is varied, both axes logarithmic."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

LABELS = {
    "batch_size": "images a batch",
    "side": "shorter side of the images",
    "queries": "queries",
    "objects": "objects an image",
    "processes": "processes, each with its own batch",
}


def plot_scaling(sweeps: dict[str, dict[int, dict[str, float]]], json_path: Path) -> Path:
    """Draw seconds by sweep, value and implementation, one panel a sweep, beside the JSON; return the image's path.

    A dashed line grows in proportion to what is varied, from the first point of ours.
    """
    figure, panels = plt.subplots(1, len(sweeps), figsize=(3.2 * len(sweeps), 3.2), squeeze=False, sharey=True)
    for panel, (sweep, points) in zip(panels[0], sweeps.items()):
        values = list(points)
        for name in points[values[0]]:
            panel.plot(values, [points[v][name] for v in values], marker="o", label=name)
        # Through our first point: with both axes logarithmic, proportion is a straight line of slope 1 for every sweep.
        first = points[values[0]]["ours"]
        panel.plot(
            values,
            [first * v / values[0] for v in values],
            linestyle="--",
            color="0.7",
            label="in proportion",
            zorder=0,
        )
        panel.set(xscale="log", yscale="log", xlabel=LABELS[sweep])
        panel.xaxis.set_major_locator(FixedLocator(values))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    seconds = [value for points in sweeps.values() for values in points.values() for value in values.values()]
    panels[0][0].set_ylim(min(seconds) / 2, max(seconds) * 2)  # the dashed line may leave
    panels[0][0].set_ylabel("seconds a training step")
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    path = json_path.with_suffix(".png")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"wrote {path}")
    return path
