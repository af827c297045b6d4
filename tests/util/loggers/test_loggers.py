"""Dashboards: written, gone on with after a resume, and never the end of a training."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from util.errors import UserError
from util.loggers import open as opening
from util.loggers.guarded import Guarded
from util.loggers.open import open_loggers, parse_names


class Unreachable:
    """A logger whose connection breaks after its first numbers."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log(self, values: dict, *, step: int) -> None:
        self.steps.append(step)
        if step > 1:
            raise ConnectionError("the server\nis gone")

    def image(self, name: str, path: Path, *, step: int) -> None:
        raise AssertionError("it was left alone")

    def close(self) -> None:
        raise AssertionError("it was left alone")


def test_a_logger_that_fails_is_one_line_and_then_silence(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    broken = Unreachable()
    logger = Guarded("wandb", lambda: broken)
    for step in (1, 2, 3):
        logger.log({"loss": 1.0}, step=step)
    logger.image("images", tmp_path, step=3)
    logger.close()
    assert broken.steps == [1, 2]
    line = "warning: --logger wandb: ConnectionError: the server is gone; training goes on without it\n"
    assert capsys.readouterr().out == line


def test_a_logger_that_cannot_begin_is_one_line_too(capsys: pytest.CaptureFixture) -> None:
    def refuse() -> Unreachable:
        raise PermissionError("no key")

    logger = Guarded("wandb", refuse)
    logger.log({"loss": 1.0}, step=1)
    logger.close()
    assert capsys.readouterr().out.splitlines() == [
        "warning: --logger wandb: PermissionError: no key; training goes on without it"
    ]


def test_names_are_known_and_their_packages_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_names("jsonl") == ("jsonl",)
    with pytest.raises(UserError, match="--logger mlflow: unknown; there are jsonl, tensorboard, wandb"):
        parse_names("jsonl,mlflow")
    with pytest.raises(UserError, match="name at least one"):
        parse_names(" , ")
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    assert parse_names("jsonl, jsonl") == ("jsonl",)
    with pytest.raises(UserError, match="--logger wandb needs a package.*: pip install wandb"):
        parse_names("wandb")


@pytest.mark.slow
def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an optional package")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "red.png")
    # The second process begins after step 4: what the first wrote of steps 5 and 6 was never saved.
    for done, value, steps in ((0, 1.0, (2, 4, 6)), (4, 2.0, (6, 8))):
        (logger,) = open_loggers(("jsonl", "tensorboard"), tmp_path, done=done, config={})
        for step in steps:
            logger.log({"val-AP/mAP": value}, step=step)
        logger.image("val-predictions", tmp_path / "red.png", step=steps[-1])
        logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val-AP/mAP")] == [(2, 1.0), (4, 1.0), (6, 2.0), (8, 2.0)]
    (image,) = [e for e in events.Images("val-predictions") if e.step == 8]
    assert (image.width, image.height) == (8, 6)


def wandb_records(folder: Path) -> list[dict]:
    """Return the numbers in W&B's files of all parts of a run, in their order, each with the run's id.

    After 7 bytes of its own a file is a log of LevelDB: each record has a checksum (4 bytes), length (2), kind (1).
    """
    from wandb.proto import wandb_internal_pb2

    records = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        data, place = file.read_bytes(), 7
        assert len(data) < 2**15, "records of more than one block are in parts"
        while place + 7 <= len(data):
            end = place + 7 + int.from_bytes(data[place + 4 : place + 6], "little")
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data[place + 7 : end])
            place = end
            if record.WhichOneof("record_type") == "history":
                items = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                records.append(items | {"run": file.stem})
    return records


@pytest.mark.slow
def test_wandb_offline_goes_on_with_its_run_against_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is an optional package")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for done in (0, 4):
        (logger,) = open_loggers(("wandb",), tmp_path, done=done, group="mine", config={"lr": 0.1 + done})
        logger.log({"val-AP/mAP": 0.25 + done}, step=done + 2)
        logger.close()
        wandb.teardown()  # the second part is that of another process
    id_ = (tmp_path / "wandb_id.txt").read_text().strip()
    shown = [(r["run"], r["global_step"], r["val-AP/mAP"]) for r in wandb_records(tmp_path)]
    assert shown == [(f"run-{id_}", 2, 0.25), (f"run-{id_}", 6, 4.25)]
