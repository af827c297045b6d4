"""A run under watch: what its log and its dashboards hold, and flags that cannot work."""

import re
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY, Run, assert_refused, rows
from util.metrics import StepLog
from util.progress import Progress

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


@pytest.mark.slow
def test_a_run_leaves_alphas_pace_and_gradients_in_its_log_and_events(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an optional package")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = f"{TINY} --epochs 1 --cross_attention alpha_entmax --logger jsonl,tensorboard --log_images 1 --output_dir"
    code, out, _ = run(flags, tmp_path)
    (row,) = rows(tmp_path)
    assert code == 0 and "warning" not in out
    assert row["train_grad_norm"] > 0 and row["train_images_per_second"] > 0 and row["train_host_memory"] > 50
    assert 0 < row["train_data_share"] < 1 and row["train_lr_backbone"] == pytest.approx(row["train_lr"] / 10)
    assert row["train_lr_alpha"] == pytest.approx(1e-3)
    alphas = row["train_alpha"]["transformer.decoder.layers.1.multihead_attn"]
    assert len(alphas) == 2 and all(1.4 < alpha < 1.6 for alpha in alphas)
    assert (tmp_path / "images" / "0000.png").is_file()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train-main-metrics/loss")] == [1, 2]
    (alpha,) = events.Scalars("alpha/layer_1-head_0")
    assert alpha.step == 2 and alpha.value == pytest.approx(alphas[0])
    assert [e.step for e in events.Images("val-predictions")] == [2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--logger mlflow", ["--logger mlflow", "tensorboard"]),
        ("--wandb_id abc", ["--wandb_id", "--logger jsonl,wandb"]),
        ("--attention_stats", ["--attention_stats", "--eval"]),
        ("--attention_stats --eval_checkpoints a*.pth --output_dir x", ["--attention_stats", "--eval_checkpoints"]),
        ("--log_images 2", ["--log_images", "--output_dir"]),
    ],
)
def test_flags_that_cannot_work_are_refused(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(f"{TINY} {flags}"), *words)


def test_the_log_goes_on_from_a_state_of_an_earlier_version() -> None:
    log = StepLog(header="", weight_dict={}, print_freq=10, progress=Progress(total=2))
    old = {"names": ["class_error"], "sums": [], "steps": 0, "lr": [0.5], "times": [1.0], "waits": [0.5]}
    log.restore(old | {"seconds": 1.0, "image_ids": [[7]], "unread": [[30.0]]}, torch.device("cpu"))
    for _ in log.each([None], 1):
        log.add({"class_error": torch.tensor(50.0)}, [8], rates=[0.3], grad_norm=torch.tensor(2.0))
    averages = log.averages()
    assert averages["class_error"] == 40.0 and averages["lr"] == pytest.approx(0.4) and averages["grad_norm"] == 2.0


def test_describe_prints_a_row_for_each_module(run: Run) -> None:
    code, out, _ = run(f"{TINY} --describe")
    lines = out[out.index("module ") :].splitlines()
    rows_ = {line.split()[0]: [int(n.replace(",", "")) for n in line.split()[1:4]] for line in lines[1:-1]}
    total = [int(n.replace(",", "")) for n in re.findall(r"[\d,]+", lines[-1])[:3]]
    assert code == 0 and {"transformer.decoder.layers.1", "backbone.0.body.layer4", "class_embed"} <= rows_.keys()
    assert [sum(column) for column in zip(*rows_.values())] == total and total[0] == total[1] + total[2]


def test_env_prints_versions_and_ends(run: Run) -> None:
    code, out, _ = run("--env --lr nonsense")
    assert code == 0 and f"torch {torch.__version__.partition('+')[0]}" in re.sub(" +", " ", out)
    assert "driver" in out and "CPU" in out
