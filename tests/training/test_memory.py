"""Out of memory in a step, an evaluation, a prediction; the largest batch; slow steps; dead workers."""

import os
import signal
from pathlib import Path

import pytest
import torch

import predict
from datasets import workers
from tests.helpers import TINY, Run, assert_refused, build, rows_without_measured
from training.worst_case import reserve
from util.runs.memory import is_out_of_memory
from util.runs.pace import Pace, describe_starving

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

#: What PyTorch and Python say.
ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
)


@pytest.mark.slow
@pytest.mark.parametrize(("error", "part"), [(ERRORS[0], "train"), (ERRORS[1], "eval"), (ERRORS[2], "train")])
def test_shapes_and_ways_out_are_named(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str) -> None:
    def fail(*_args: object) -> None:
        raise error

    name = {"train": "engine.optimizer_step", "eval": "engine.add_results"}[part]
    monkeypatch.setattr(name, fail if part == "eval" else lambda *a, **m: fail())
    flags = f"{TINY} --epochs 1 --accumulate 2" if part == "train" else f"{TINY} --eval"
    words = ["out of memory on cpu", "(4, 3, 64, 64)", "objects, peak "]
    ways = ["--amp bf16", "--grad_checkpoint", "--batch_size 2 --accumulate 4", "--mask_chunk"]
    ways = ways if part == "train" else ["--eval_batch_size 2", "--amp bf16"]
    result = run(flags)
    assert_refused(result, *words, *ways)
    assert [result[2].index(way) for way in ways] == sorted(result[2].index(way) for way in ways)
    assert ("2.50 GiB more" in result[2]) == (error is ERRORS[0])


@pytest.mark.slow
def test_a_prediction_names_its_images_and_other_errors_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from PIL import Image

    model, _, _ = build("--backbone_norm batch")
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    Image.new("RGB", (64, 48)).save(tmp_path / "image.png")
    argv = ["--resume", tmp_path / "model.pth", "--input", tmp_path / "image.png", "--output", tmp_path / "out"]
    for error in (ERRORS[0], RuntimeError("shapes differ")):
        monkeypatch.setattr(predict.Detector, "run", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        if error is ERRORS[0]:
            assert predict.cli([*map(str, argv), "--device", "cpu"]) == 2
            assert "out of memory on cpu in a prediction: images (1, 3, " in capsys.readouterr().err
        else:
            with pytest.raises(RuntimeError, match="shapes differ"):
                predict.cli([*map(str, argv), "--device", "cpu"])
    assert not is_out_of_memory(ValueError("can't allocate memory"))


@pytest.mark.slow
@pytest.mark.parametrize("data", ["shapes", "coco"])
def test_the_largest_batch_changes_nothing(run: Run, tmp_path: Path, coco_folder: Path, data: str) -> None:
    flags = f"{TINY} --epochs 1 --max_steps 2 --batch_size 2"
    if data == "coco":
        flags += f" --dataset_file coco --data_path {coco_folder} --max_size 96"
    code, out, _ = run(f"{flags} --output_dir {tmp_path / 'with'} --warmup_worst_case --memory_snapshot m.pickle")
    (line,) = [line for line in out.splitlines() if line.startswith("--warmup_worst_case")]
    assert code == 0 and ("(2, 3, 96, 96)" if data == "coco" else "(2, 3, 64, 64)") in line and "objects fit" in line
    assert "--memory_snapshot m.pickle: PyTorch records the memory of CUDA GPUs alone" in out
    assert run(f"{flags} --output_dir {tmp_path / 'without'}")[0] == 0
    one, other = (torch.load(tmp_path / name / "checkpoint.pth")["model"] for name in ("with", "without"))
    assert all(torch.equal(one[name], value) for name, value in other.items())
    assert rows_without_measured(tmp_path / "with") == rows_without_measured(tmp_path / "without")


class Killed:
    """Ends the loader's worker that makes a batch with it."""

    def __call__(self, _examples: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class NoRoom:
    """Makes batches that do not fit in shared memory, as PyTorch says when they are packed to be sent."""

    def __call__(self, _examples: object) -> "NoRoom":
        return self

    def __reduce__(self) -> tuple:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_9>: No space left on device (28)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("collate", "words"), [(Killed, "a loader's worker was killed"), (NoRoom, "ran out of shared memory")]
)
def test_a_dead_worker_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, collate: type, words: str) -> None:
    monkeypatch.setattr("datasets.build_collate", lambda *_, **__: collate())
    flags = TINY.replace("--num_workers 0", "--num_workers 1")
    assert_refused(run(f"{flags} --epochs 1"), words, "--num_workers 0")


def test_shared_memory_that_is_too_small_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit."
    )
    assert "--shm-size" in (workers.describe_dead_worker(bus) or "")
    assert "killed, most" in (
        workers.describe_dead_worker(RuntimeError("DataLoader worker (pid(s) 7, 8) exited")) or ""
    )
    assert workers.describe_dead_worker(RuntimeError("no worker")) is None
    assert workers.warn_of_shared_memory(1, num_workers=2, folder=tmp_path) is None
    assert workers.warn_of_shared_memory(2**60, num_workers=0, folder=tmp_path) is None
    line = workers.warn_of_shared_memory(2**60, num_workers=2, folder=tmp_path) or ""
    assert "2 workers may need 4398046511104: give --num_workers 0" in line
    assert workers.warn_of_shared_memory(2**60, num_workers=2, folder=tmp_path / "none") is None


def test_slow_steps_say_why() -> None:
    pace, usual = Pace(), {"data": 0.1, "computing": 0.4, "after": 0.0}
    assert pace.look(0, data=90.0, computing=0.4, after=0.0) is None  # the first of all start up
    assert [pace.look(step, **usual) for step in range(1, 12)] == [None] * 11
    line = pace.look(12, data=4.0, computing=0.4, after=0.0)
    assert line == "step 12 took 4.4 s, 9 times the median: 4.0 s of it waiting for the loader"
    assert "writing a checkpoint" in (pace.look(13, data=0.1, computing=0.4, after=3.0) or "")
    assert "in the step itself" in (pace.look(14, data=0.1, computing=5.0, after=0.0) or "")
    assert pace.look(15, data=0.1, computing=1.2, after=0.0) is None
    assert len([n for n in range(9) if pace.look(n, data=9.0, computing=0.4, after=0.0)]) == 2  # five lines in all


def test_a_loader_that_starves_the_model_names_a_flag() -> None:
    stats = {"step_time": 1.0, "data_time": 0.3}
    line = describe_starving(stats, steps=100, num_workers=0) or ""
    assert "30 % of the epoch" in line and "--num_workers 2 (now 0)" in line
    assert describe_starving(stats, steps=5, num_workers=0) is None
    assert describe_starving(stats | {"data_time": 0.2}, steps=100, num_workers=2) is None


def test_the_trial_has_room_for_two_numbers_of_every_weight() -> None:
    model = torch.nn.Linear(30, 4)
    kept = reserve(torch.optim.AdamW(model.parameters()))
    assert sum(tensor.numel() for tensor in kept) == 2 * sum(p.numel() for p in model.parameters())
