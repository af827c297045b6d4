"""Statistics of a checkpoint's attention after its evaluation, for --attention_stats."""

import json
from functools import partial

from torch.utils.data import DataLoader

from building import Detector, Setup, without_wrapper
from engine import to_device
from inference.attention.statistics import describe_statistics, measure_attention
from inference.attention.statistics_plot import plot_statistics
from util.dist.distributed import all_gather, get_rank, get_world_size, is_main_process, print_once
from util.runs.atomic import atomic_file


def report_attention(run: Setup, detector: Detector, loader: DataLoader) -> None:
    """Measure a model's attention on the images of all processes; with --output_dir also write the files."""
    if not run.cfg.attention_stats:
        return
    model = without_wrapper(detector.model).eval()
    move = partial(to_device, device=run.place.device)
    # Process k of n evaluates images k, k + n, ...; where they run out it begins anew, and these do not count.
    images = len(range(get_rank(), len(loader.dataset), get_world_size()))  # type: ignore[arg-type]
    statistics = measure_attention(model, detector.criterion.matcher, loader, to_device=move, images=images)
    statistics.merge(all_gather(statistics.state()))
    found = statistics.summary()
    print_once(describe_statistics(found))
    if run.folder is not None and is_main_process():
        with atomic_file(run.folder / "attention_stats.json") as file:
            file.write(json.dumps(found, indent=2).encode() + b"\n")
        plot_statistics(found, run.folder / "attention_stats.png")
        print(f"wrote attention_stats.json and attention_stats.png in {run.folder}")
