"""One run of `annotations.py`: open a file as `kind`, let loader workers read all of it, print one line of JSON."""

import contextlib
import io
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

from torch.utils.data import DataLoader, IterableDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Both are imported in every run, so that the libraries weigh the same.
from pycocotools.coco import COCO

from datasets.annotations import read_annotations

Read = Callable[[], int]


def open_ours(path: str) -> Read:
    """Open with our reader; the function returned reads every record and counts the numbers in them."""
    annotations = read_annotations(path)

    def read() -> int:
        return sum(
            len(annotations.file_name(index)) + sum(map(weigh, annotations.objects_of(index)))
            for index in range(len(annotations))
        )

    return read


def open_pycocotools(path: str) -> Read:
    """Open with pycocotools' index, read likewise."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    ids = sorted(coco.imgs)

    def read() -> int:
        return sum(len(coco.imgs[id_]["file_name"]) + sum(map(weigh, coco.imgToAnns[id_])) for id_ in ids)

    return read


def open_nothing(path: str) -> Read:
    """Open nothing: the weight of the interpreter and the libraries alone."""
    return lambda: 0


def weigh(annotation: dict) -> int:
    """Touch every number of an annotation."""
    segmentation = annotation["segmentation"]
    polygons = segmentation if isinstance(segmentation, list) else [segmentation["counts"]]
    return sum(1 for polygon in polygons for _ in polygon) + sum(1 for _ in annotation["bbox"])


class Reader(IterableDataset):
    """In every worker: read all, wait for the others, tell the memory, wait again so that none leaves early."""

    def __init__(self, read: Read, barrier: Barrier) -> None:
        self.read, self.barrier = read, barrier

    def __iter__(self) -> Iterator[dict[str, float]]:
        total = self.read()
        self.barrier.wait()
        memory = memory_mb()
        self.barrier.wait()
        yield {"total": total, **memory}


def memory_mb() -> dict[str, float]:
    """Memory of this process in MB: resident, proportional (a page of n processes counts 1/n) and unique."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    unique = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss": kilobytes["Rss"] / 1e3, "pss": kilobytes["Pss"] / 1e3, "uss": unique / 1e3}


def main() -> None:
    """Open, start the workers, print."""
    kind, path, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    began = time.perf_counter()
    read = {"ours": open_ours, "pycocotools": open_pycocotools, "nothing": open_nothing}[kind](path)
    seconds = time.perf_counter() - began
    alone = memory_mb()["rss"]
    # All workers and this process: memory is read while all of them hold it, so that a shared page is divided by all.
    barrier = multiprocessing.get_context("fork").Barrier(workers + 1)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: memory is the question
    loader = DataLoader(Reader(read, barrier), batch_size=None, num_workers=workers, multiprocessing_context="fork")
    iterator = iter(loader)
    barrier.wait()
    parent = memory_mb()
    barrier.wait()
    rows = list(iterator)
    print(
        json.dumps(
            {
                "open_seconds": round(seconds, 3),
                "process_mb": round(alone, 1),
                "workers_pss_mb": round(sum(row["pss"] for row in rows), 1),
                "workers_uss_mb": round(sum(row["uss"] for row in rows), 1),
                "all_pss_mb": round(sum(row["pss"] for row in rows) + parent["pss"], 1),
                "read": rows[0]["total"],
            }
        )
    )


if __name__ == "__main__":
    main()
