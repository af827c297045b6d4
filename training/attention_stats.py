"""Statistics of a checkpoint's attention after its evaluation, for --attention_stats."""

import json
from functools import partial

from torch.utils.data import DataLoader

from building import Detector, Setup, without_wrapper
from engine import to_device
from inference.attention.statistics import format_statistics, measure_attention
from inference.attention.statistics_plot import plot_statistics
from util.dist.distributed import get_world_size
from util.errors import UserError
from util.runs.atomic import atomic_file


def report_attention(run: Setup, detector: Detector, loader: DataLoader) -> None:
    """Measure the decoder's cross-attention on a loader's images; with --output_dir also write the files."""
    if not run.cfg.attention_stats:
        return
    if get_world_size() > 1:
        raise UserError(
            "--attention_stats is measured by one process: start it with python main.py, without a launcher"
        )
    model = without_wrapper(detector.model).eval()
    move = partial(to_device, device=run.place.device)
    found = measure_attention(model, detector.criterion.matcher, loader, to_device=move)
    print(f"Cross-attention of the decoder, {found['images']} images, objects {found['objects']}, means over heads:")
    print(format_statistics(found))
    if run.folder is not None:
        with atomic_file(run.folder / "attention_stats.json") as file:
            file.write(json.dumps(found, indent=2).encode() + b"\n")
        plot_statistics(found, run.folder / "attention_stats.png")
        print(f"wrote attention_stats.json and attention_stats.png in {run.folder}")
