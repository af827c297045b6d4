"""Checkpoints: written whole, read without running anything, fitted to a model with clear errors."""

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from torch import nn

from util.errors import CheckpointError, UserError
from util.runs.checkpoint import find_resume, load_checkpoint, load_model, save_checkpoint

WEIGHTS = {"a": torch.arange(3.0)}


class Detector(nn.Module):
    """The names a DETR has, in small."""

    def __init__(self, classes=3, queries=5):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
        self.query_embed = nn.Embedding(queries, 4)
        self.class_embed = nn.Linear(4, classes + 1)


class Segmentation(nn.Module):
    def __init__(self, detr):
        super().__init__()
        self.detr = detr
        self.mask_head = nn.Linear(4, 1)


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def weights_of(model, prefix=""):
    return {"model": {prefix + name: value for name, value in model.state_dict().items()}}


# ---- writing and reading


def test_a_whole_training_state_comes_back(tmp_path):
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.class_embed(model.query_embed.weight).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    args = argparse.Namespace(lr=np.float64(0.1), output_dir=tmp_path, sizes=[1, 2])
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict()}
    extra = {"epoch": np.int64(4), "args": args, "class_names": {1: "cat"}, "ap": np.float32(0.5)}
    save_checkpoint(tmp_path / "checkpoint.pth", {**state, **extra})

    loaded = load_checkpoint(tmp_path / "checkpoint.pth")
    assert loaded["epoch"] == 4 and loaded["class_names"] == {1: "cat"} and loaded["ap"] == 0.5
    assert loaded["args"] == {"lr": 0.1, "output_dir": str(tmp_path), "sizes": [1, 2]}
    again = Detector()
    load_model(again, loaded, "checkpoint.pth")
    assert same_weights(model, again)
    second = torch.optim.AdamW(again.parameters(), lr=9.0)
    second.load_state_dict(loaded["optimizer"])
    assert second.param_groups[0]["lr"] == 0.1 and second.param_groups[0]["betas"] == (0.9, 0.999)
    moments = [entry["exp_avg"] for entry in optimizer.state.values()]
    assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(moments, second.state.values(), strict=True))
    torch.optim.lr_scheduler.StepLR(second, 7).load_state_dict(loaded["lr_scheduler"])


def test_what_is_saved_loads_without_any_allow_list(tmp_path):
    state = {"model": OrderedDict(WEIGHTS), "args": argparse.Namespace(p=Path("x")), "rng": np.random.get_state()}
    save_checkpoint(tmp_path / "c.pth", state)
    assert torch.load(tmp_path / "c.pth", weights_only=True)["args"] == {"p": "x"}


@pytest.mark.parametrize("numbers", [30_000, 1_000_000, 24_900])
def test_a_full_disk_is_one_line_and_leaves_the_last_good_one(tmp_path, numbers):
    """A limit of 100 kB a file stands for the disk; it is hit in the tensors or in the zip's directory."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX's")
    path = tmp_path / "checkpoint.pth"
    save_checkpoint(path, {"model": WEIGHTS, "epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"checkpoint\.pth: cannot be written \(.*disk full") as error:
            save_checkpoint(path, {"model": {"a": torch.zeros(numbers)}, "epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert load_checkpoint(path)["epoch"] == 1 and os.listdir(tmp_path) == ["checkpoint.pth"]


def test_a_bug_in_saving_is_not_called_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda *args: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        save_checkpoint(tmp_path / "c.pth", {"model": WEIGHTS})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("new_format", [True, False])
def test_files_of_detr_itself_load(tmp_path, new_format):
    """With a Namespace and a path inside, zipped or (torch before 1.6) not."""
    args = argparse.Namespace(lr=1e-4, output_dir=PurePosixPath("/x/y"), here=Path("z"))
    content = {"model": WEIGHTS, "optimizer": {}, "lr_scheduler": {}, "epoch": 3, "args": args}
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=new_format)
    loaded = load_checkpoint(tmp_path / "c.pth")
    assert loaded["args"] == {"lr": 1e-4, "output_dir": "/x/y", "here": "z"} and loaded["epoch"] == 3


def test_paths_of_another_system_or_python_load(tmp_path):
    """WindowsPath cannot be made here, and Python 3.13 calls the module pathlib._local."""

    def pickled_as(module, name):
        return type(name, (), {"__module__": module, "__reduce__": lambda self: (type(self), ("a", "b"))})

    for module, name in [("pathlib", "WindowsPath"), ("pathlib._local", "PosixPath")]:
        kind = pickled_as(module, name)
        stand_in = _Renamed(kind)
        stand_in.save({"model": WEIGHTS, "args": {"p": kind()}}, tmp_path / "c.pth")
        assert load_checkpoint(tmp_path / "c.pth")["args"]["p"].replace("\\", "/") == "a/b"


class _Renamed:
    """Saves objects of a class under its `__module__` and name, whether or not it can be imported from there."""

    def __init__(self, kind):
        self.kind = kind

    def save(self, content, path):
        kind = self.kind

        class Pickler(pickle._Pickler):
            def save_global(self, obj, name=None):
                if obj is kind:
                    self.write(pickle.GLOBAL + f"{kind.__module__}\n{kind.__name__}\n".encode())
                    self.memoize(obj)
                else:
                    super().save_global(obj, name)

            dispatch = {**pickle._Pickler.dispatch, type: save_global}

        module = type("module", (), {"Pickler": Pickler, "dumps": None})
        torch.save(content, path, pickle_module=module)


def test_a_bare_state_dict_is_taken_as_weights(tmp_path):
    torch.save(WEIGHTS, tmp_path / "w.pth")
    assert torch.equal(load_checkpoint(tmp_path / "w.pth")["model"]["a"], WEIGHTS["a"])


# ---- what is no checkpoint


class Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, zipped):
    victim = tmp_path / "victim"
    content = {"model": WEIGHTS, "args": Malicious(victim)}
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"c\.pth: refused, because it holds \w+\.mkdir") as error:
        load_checkpoint(tmp_path / "c.pth")
    assert error.value.line() == str(error.value)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(content["args"]))
    with pytest.raises(CheckpointError, match="raw.pth"):
        load_checkpoint(tmp_path / "raw.pth")
    assert not victim.exists()
    torch.load(tmp_path / "c.pth", weights_only=False)  # and it would have run
    assert victim.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_one_line(tmp_path, share, zipped):
    path = tmp_path / "c.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"c\.pth: truncated, damaged, or not a checkpoint at all$") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html>", b'{"a": 1}', b"version https://git-lfs", b"\x80\x04K\x01.", b"\x89PNG\r\n", bytes(range(256))],
)
def test_a_file_of_another_kind_is_one_line(tmp_path, content, recwarn):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pth: truncated, damaged, or not a checkpoint at all$"):
        load_checkpoint(tmp_path / "c.pth")
    assert not recwarn.list  # torch has an opinion on pickle protocol 4


@pytest.mark.parametrize("content", [[1], {"epoch": 1}, {"model": {}}, {"model": {"a": 1}}, {}, WEIGHTS["a"]])
def test_a_file_without_weights_is_named(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="holds no weights under 'model'"):
        load_checkpoint(tmp_path / "c.pth")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pth: no such file"):
        load_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


# ---- resuming


def write(path, *, age, broken=False):
    save_checkpoint(path, {"model": WEIGHTS})
    if broken:
        path.write_bytes(path.read_bytes()[:100])
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


def test_resume_that_is_no_question(tmp_path):
    assert find_resume("", tmp_path) is None
    assert find_resume("x.pth", "") == "x.pth"
    assert find_resume("https://a/b-12345678.pth", tmp_path) == "https://a/b-12345678.pth"


def test_auto_takes_the_newest(tmp_path):
    write(tmp_path / "checkpoint0009.pth", age=5)
    newest = write(tmp_path / "checkpoint.pth", age=2)
    for epoch in range(19, 24):  # written in the same moment
        write(tmp_path / f"checkpoint00{epoch}.pth", age=2)
    write(tmp_path / "best.pth", age=0)
    write(tmp_path / "checkpoint_mine.pth", age=0)
    assert find_resume("auto", tmp_path) == newest
    newest = write(tmp_path / "checkpoint0029.pth", age=1)
    assert find_resume("auto", str(tmp_path)) == newest


def test_auto_passes_over_a_broken_one_and_says_so(tmp_path, capsys):
    good = write(tmp_path / "checkpoint0009.pth", age=5)
    write(tmp_path / "checkpoint.pth", age=0, broken=True)
    assert find_resume("auto", tmp_path) == good
    out = capsys.readouterr().out
    assert "passing over" in out.splitlines()[0] and "checkpoint.pth: truncated" in out.splitlines()[0]
    assert out.splitlines()[1:] == [f"--resume auto: {good} is the newest whole checkpoint"]


def test_auto_does_not_start_anew_over_checkpoints_it_cannot_read(tmp_path, capsys):
    write(tmp_path / "checkpoint.pth", age=0, broken=True)
    with pytest.raises(CheckpointError, match="no checkpoint in .* can be read"):
        find_resume("auto", tmp_path)


def test_auto_starts_anew_where_there_is_nothing(tmp_path):
    assert find_resume("auto", tmp_path) is None
    assert find_resume("auto", tmp_path / "not there yet") is None
    with pytest.raises(UserError, match="--output_dir"):
        find_resume("auto", "")


# ---- fitting to a model


def test_prefixes_do_not_matter():
    source = Segmentation(Detector())
    for prefix in ("", "module."):
        target = Segmentation(Detector())
        load_model(target, weights_of(source, prefix), "c.pth")
        assert same_weights(source, target)
    for checkpoint in (weights_of(source), weights_of(source.detr, "detr."), weights_of(source.detr, "module.")):
        detector = Detector()
        load_model(detector, checkpoint, "c.pth")
        assert same_weights(source.detr, detector)


def test_another_class_count_names_both_and_the_way_out():
    with pytest.raises(CheckpointError) as error:
        load_model(Detector(classes=3), weights_of(Detector(classes=91)), "c.pth")
    for word in ("c.pth", "91 classes", "has 3", "--init_from c.pth", "--num_classes 91"):
        assert word in str(error.value)
    with pytest.raises(CheckpointError, match="91 classes"):
        load_model(Segmentation(Detector(classes=3)), weights_of(Detector(classes=91)), "c.pth")


def assert_refused(model, checkpoint, words):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=words) as error:
        load_model(model, checkpoint, "c.pth")
    assert "\n" not in str(error.value) and "--init_from" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_differences_are_named_and_nothing_is_changed():
    words = r"query_embed.weight: \(7, 4\) in the checkpoint, \(5, 4\) in this model"
    assert_refused(Detector(queries=5), weights_of(Detector(queries=7)), words)
    short = weights_of(Detector())
    for name in ("body.0.weight", "body.0.bias", "query_embed.weight", "body.1.weight"):
        del short["model"][name]
    assert_refused(Detector(), short, r"lacks body.0.weight; body.0.bias; body.1.weight and 1 more")
    assert_refused(Detector(), {"model": {**weights_of(Detector())["model"], "extra": torch.ones(1)}}, "lacks: extra:")
    assert_refused(Segmentation(Detector()), weights_of(Detector()), "lacks mask_head.weight; mask_head.bias")


def test_counters_of_batch_norm_do_not_matter():
    source, target = Detector(), Detector()
    checkpoint = weights_of(source)
    del checkpoint["model"]["body.1.num_batches_tracked"]
    checkpoint["model"]["other.num_batches_tracked"] = torch.tensor(3)
    load_model(target, checkpoint, "c.pth")
    assert same_weights(source, target)
