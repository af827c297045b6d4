"""Helpers that several test modules share: a tiny run, a small model, and checks of an answer."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import main
from models import build_model
from util.flags import FlagParser
from util.metrics import MEASURED
from util.nested_tensor import nested_tensor_from_tensor_list

CPU = torch.device("cpu")

#: Flags of a run of about a second on generated images.
TINY = (
    "--device cpu --dataset_file shapes --image_size 64 --train_size 8 --val_size 4 --batch_size 4 --num_workers 0 "
    "--backbone resnet18 --backbone_weights none --backbone_norm batch --enc_layers 1 --dec_layers 2 --hidden_dim 16 "
    "--nheads 2 --dim_feedforward 16 --num_queries 12 --print_freq 1 --lr_schedule onecycle"
)

#: Flags of a model whose step takes some 20 ms.
SMALL = (
    "--device cpu --backbone resnet18 --backbone_weights none --enc_layers 1 --dec_layers 2 --hidden_dim 32 --nheads 4 "
    "--dim_feedforward 64 --num_queries 5 --num_classes 4 --dropout 0 --pre_norm"
)

#: The fixture `run`: flags -> exit code, what was printed, errors.
Run = Callable[..., tuple[int, str, str]]


# ---- the command line


def rows(folder: Path) -> list[dict]:
    """Return the rows of log.txt in the folder of a run."""
    return [json.loads(line) for line in (folder / "log.txt").read_text().splitlines()]


def rows_without_measured(folder: Path) -> list[dict]:
    """Return the rows of log.txt without the times and the memory, which differ from run to run."""
    measured = {f"train_{name}" for name in MEASURED}
    return [{name: value for name, value in row.items() if name not in measured} for row in rows(folder)]


def assert_refused(result: tuple[int, str, str], *words: str, code: int = 2) -> None:
    """Check that a command ended with `code` and one line of error, in which all of `words` stand."""
    got, _, err = result
    assert got == code and len(err.splitlines()) == 1 and "Traceback" not in err, err
    for word in words:
        assert word in err, f"{word!r} is not in {err!r}"


# ---- folders


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return a folder that `build` fills in the first of pytest's processes to ask; the others wait, and share it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    whole = folder.with_suffix(".whole")
    with FileLock(folder.with_suffix(".lock")):
        if not whole.exists():
            folder.mkdir(exist_ok=True)
            build(folder)
            whole.touch()
    return folder


# ---- a model and its data


def build(flags: str = "") -> tuple:
    """Return model, criterion and postprocessors for a small detector without dropout, changed by `flags`."""
    return build_model(FlagParser(parents=[main.get_args_parser()]).parse_args(f"{SMALL} {flags}".split()))


def batch(count: int = 2, side: int = 64) -> tuple:
    """Return `count` images with a bright block each, as a NestedTensor, and targets whose one object is the block."""
    images, targets = [], []
    for i in range(count):
        image = torch.zeros(3, side, side)
        x, y = 8 + 16 * i, 24 - 8 * i
        image[i % 3, y : y + 24, x : x + 24] = 2.0
        box = torch.tensor([[x + 12.0, y + 12.0, 24, 24]]) / side
        targets.append(
            {
                "labels": torch.tensor([i % 4]),
                "boxes": box,
                "image_id": torch.tensor([10 + i]),
                "orig_size": torch.tensor([side, side]),
                "size": torch.tensor([side, side]),
            }
        )
        images.append(image)
    return nested_tensor_from_tensor_list(images), tuple(targets)
