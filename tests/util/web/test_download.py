"""Downloads, from a server on this machine."""

import hashlib

import pytest
import torch

from tests.file_server import serve
from util.errors import CheckpointError
from util.runs.checkpoint import load_checkpoint
from util.web.download import download, is_url


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server for the folder `tmp_path / "remote"`, and torch hub's cache in `tmp_path / "hub"`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with serve(tmp_path / "remote") as site:
        yield site


def publish(tmp_path, name=None, value=1.0):
    """Put a checkpoint on the server under `name`, by default one with its hash; return the name."""
    path = tmp_path / "remote" / "tmp"
    torch.save({"model": {"a": torch.tensor([value])}}, path)
    name = name or f"detr-r50-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(path.with_name(name))
    return name


def test_what_is_an_address():
    assert is_url("https://a/b.pth") and is_url("http://a/b.pth")
    assert not is_url("httpd/b.pth") and not is_url("/https://x")


def test_a_name_with_a_hash_is_checked_and_kept(server, tmp_path, capsys):
    name = publish(tmp_path)
    assert load_checkpoint(f"{server.url}/{name}")["model"]["a"] == 1
    assert load_checkpoint(f"{server.url}/{name}?x=1")["model"]["a"] == 1
    assert len(server.ranges) == 1 and (tmp_path / "hub" / "checkpoints" / name).exists()
    assert capsys.readouterr().out == f"downloading {server.url}/{name}\n"


def test_a_wrong_hash_is_refused_and_not_kept(server, tmp_path):
    name = publish(tmp_path, "detr-r50-00000000.pth")
    with pytest.raises(CheckpointError, match="does not have the hash in its name"):
        download(f"{server.url}/{name}")
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_a_name_without_a_hash_is_downloaded_anew(server, tmp_path):
    publish(tmp_path, "checkpoint.pth", value=1.0)
    assert load_checkpoint(f"{server.url}/checkpoint.pth")["model"]["a"] == 1
    publish(tmp_path, "checkpoint.pth", value=2.0)
    assert load_checkpoint(f"{server.url}/checkpoint.pth")["model"]["a"] == 2


def test_an_address_that_does_not_answer_is_one_line(server):
    with pytest.raises(CheckpointError, match=r"nothing\.pth: cannot be downloaded \(.*404") as error:
        load_checkpoint(f"{server.url}/nothing.pth")
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        load_checkpoint("http://127.0.0.1:9/closed.pth")
