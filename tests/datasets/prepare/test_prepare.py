"""Getting datasets, from small archives on a server on this machine and from a git repository that the tests make."""

import fcntl
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.prepare import __main__ as prepare
from datasets.prepare.sources import SOURCES, Archive, Piece, Repository, Source
from tests.file_server import FileServer, serve
from util.errors import DatasetError
from util.web import fetch as fetch_module

Run = Callable[..., tuple[int, str, str]]


def packed(files: dict[str, bytes]) -> bytes:
    """A zip with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def images(folder: str, count: int) -> dict[str, bytes]:
    return {f"{folder}/{i:012d}.jpg": os.urandom(500) for i in range(count)}


ANNOTATIONS = {
    f"annotations/{kind}_{split}2017.json": b'{"a": 1}'
    for kind in ("instances", "captions")
    for split in ("train", "val")
}
PANOPTIC = {
    "annotations/panoptic_train2017.json": b"{}",
    "annotations/panoptic_val2017.json": b"{}",
    "annotations/panoptic_train2017.zip": packed(images("panoptic_train2017", 3)),
    "annotations/panoptic_val2017.zip": packed(images("panoptic_val2017", 2) | {"__MACOSX/._x.png": b""}),
}


def small(archive: Archive, content: bytes, counts: dict[str, int], site: FileServer) -> Archive:
    """Put `content` on the server in the place of an archive of the table; return the entry that describes it."""
    path = site.folder / archive.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    pieces = tuple(replace(p, files=counts[p.target] if p.files else None) for p in archive.pieces)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return replace(archive, size=archive.size and len(content), checksum=digest, pieces=pieces)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server with small COCO and CPPE-5 archives, in the same layouts as the published ones; the table knows them."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch_module, "PAUSE", 0)
    counts = {"train2017": 3, "val2017": 2, "panoptic_train2017": 3, "panoptic_val2017": 2}
    content = (ANNOTATIONS, images("val2017", 2) | {"val2017/": b""}, images("train2017", 3))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as file:
        for name in ("images/1.png", "images/2.jpg", "annotations/train.json", "annotations/test.json", "README"):
            info = tarfile.TarInfo(f"data/{name}")
            info.size = len(name)
            file.addfile(info, io.BytesIO(name.encode()))
    with serve(tmp_path / "remote") as server:
        coco, cppe5 = SOURCES["coco"], SOURCES["cppe5"]
        archives = tuple(small(a, packed(c), counts, server) for a, c in zip(coco.archives, content))
        panoptic = tuple(small(a, packed(PANOPTIC), counts, server) for a in coco.panoptic)
        monkeypatch.setitem(SOURCES, "coco", Source(coco.base_url, archives, panoptic))
        archives = tuple(small(a, tar.getvalue(), counts, server) for a in cppe5.archives)
        monkeypatch.setitem(SOURCES, "cppe5", Source(cppe5.base_url, archives))
        yield server


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command for a dataset into `tmp_path / "data"`: its exit code, what it printed, and its errors."""

    def call(dataset: str, *flags: object, checked: bool = False) -> tuple[int, str, str]:
        words = [dataset, "--dest", tmp_path / "data", *flags, *([] if checked else ["--no_check"])]
        try:
            code = prepare.cli([str(word) for word in words])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return call


def tree(folder: Path) -> dict[str, int]:
    """The number of files in each folder, hidden ones included."""
    return {
        p.relative_to(folder).as_posix(): sum(f.is_file() for f in p.iterdir()) for p in folder.rglob("*") if p.is_dir()
    }


# ---- the table


def test_the_terms_are_said(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("hgp")[1].startswith("hgp: an educational licence of the ITESM, not for commercial use\n")


def test_every_published_checksum_has_the_form_of_its_kind() -> None:
    archives = [a for s in SOURCES.values() if isinstance(s, Source) for a in s.archives + s.panoptic]
    assert len(archives) == 5
    for archive in archives:
        kind, _, digest = archive.checksum.partition(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size


# ---- archives


def test_coco_has_the_layout_that_training_reads(run: Run, site: FileServer, tmp_path: Path) -> None:
    code, out, err = run("coco", "--base_url", site.url)
    assert (code, err) == (0, "")
    assert tree(tmp_path / "data") == {"annotations": 2, "train2017": 3, "val2017": 2}
    assert json.loads((tmp_path / "data/annotations/instances_val2017.json").read_text()) == {"a": 1}
    assert f"train2017.zip: from {site.url}/zips/train2017.zip" in out
    assert out.endswith(f"coco: ready in {tmp_path / 'data'}\n")


def test_what_is_there_is_not_downloaded_again(run: Run, site: FileServer, tmp_path: Path) -> None:
    run("coco", "--base_url", site.url)
    asked = len(site.ranges)
    code, out, _ = run("coco", "--base_url", site.url, "--panoptic")
    assert code == 0 and out.startswith("annotations_trainval2017.zip: already there\nval2017.zip: already there\n")
    assert len(site.ranges) == asked + 1
    annotations = {f"annotations/{p.name}" for p in (tmp_path / "data/annotations").iterdir()}
    assert annotations == {f"annotations/{k}_{s}2017.json" for k in ("instances", "panoptic") for s in ("train", "val")}
    assert tree(tmp_path / "data") == {
        "annotations": 4,
        "train2017": 3,
        "val2017": 2,
        "panoptic_train2017": 3,
        "panoptic_val2017": 2,
    }


def test_cppe5_comes_out_of_the_folder_it_is_packed_in(run: Run, site: FileServer, tmp_path: Path) -> None:
    code, _, err = run("cppe5", "--base_url", f"{site.url}/")
    assert (code, err) == (0, "")
    assert tree(tmp_path / "data") == {"images": 2, "annotations": 2}
    assert (tmp_path / "data/annotations/test.json").read_bytes() == b"annotations/test.json"


def test_archives_can_be_kept_and_brought_from_elsewhere(run: Run, site: FileServer, tmp_path: Path) -> None:
    run("cppe5", "--base_url", site.url, "--keep_archives")
    kept = tmp_path / "data/.prepare/dataset.tar.gz"
    assert kept.read_bytes() == (site.folder / "dataset.tar.gz").read_bytes()
    (tmp_path / "data/images").rename(tmp_path / "elsewhere")
    asked = len(site.ranges)
    assert run("cppe5", "--base_url", site.url)[0] == 0
    assert len(site.ranges) == asked and tree(tmp_path / "data") == {"images": 2, "annotations": 2}


def test_a_cut_download_goes_on_in_the_next_run(
    run: Run, site: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.cuts = [100, 0]
    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "_ATTEMPTS", 1)
        code, _, err = run("cppe5", "--base_url", site.url)
    assert code == 2 and "dataset.tar.gz: cannot be downloaded (after 100 B of" in err
    assert tree(tmp_path / "data") == {".prepare": 1}
    assert run("cppe5", "--base_url", site.url)[0] == 0
    assert site.ranges[-1] == "bytes=100-" and tree(tmp_path / "data") == {"images": 2, "annotations": 2}


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_a_run_that_is_stopped_while_unpacking_is_not_taken_for_done(
    stop_at: int, run: Run, site: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stopping_replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == stop_at + 1:  # the first is that of the download
            raise KeyboardInterrupt
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping_replace)
        code, out, _ = run("cppe5", "--base_url", site.url)
    assert code == 130 and out.endswith("stopped; the same command goes on from here\n")
    asked = len(site.ranges)
    assert run("cppe5", "--base_url", site.url)[0] == 0
    assert len(site.ranges) == asked and tree(tmp_path / "data") == {"images": 2, "annotations": 2}


# ---- refusals


def test_a_wrong_checksum_is_one_line(run: Run, site: FileServer, tmp_path: Path) -> None:
    (site.folder / "dataset.tar.gz").write_bytes(b"another file")
    code, _, err = run("cppe5", "--base_url", site.url)
    assert code == 2 and err.count("\n") == 1 and err.startswith("datasets.prepare: error: ")
    assert "has sha256 " in err and err.endswith(" is published; it was deleted, run again\n")
    assert tree(tmp_path / "data") == {}


def malicious(site: FileServer, files: dict[str, bytes]) -> Archive:
    archive = Archive("evil.zip", None, None, (Piece("images", "images"),))
    return small(archive, packed(files), {}, site)


def test_a_malicious_archive_writes_nothing(
    run: Run, site: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = malicious(site, {"images/a.png": b"x", "../../../evil.txt": b"x"})
    monkeypatch.setitem(SOURCES, "cppe5", Source("", (archive,)))
    code, _, err = run("cppe5", "--base_url", site.url)
    assert code == 2 and "evil.zip: refused, nothing was unpacked: entry '../../../evil.txt' points out" in err
    assert not list(tmp_path.rglob("evil.txt")) and not list(tmp_path.rglob("a.png"))


def test_an_archive_without_what_is_needed(
    run: Run, site: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "cppe5", Source("", (malicious(site, {"other_images/a.png": b"x"}),)))
    code, _, err = run("cppe5", "--base_url", site.url)
    assert code == 2 and err.endswith("evil.zip: holds no images; it was unpacked and removed again\n")
    assert tree(tmp_path / "data") == {".prepare": 1}


def test_half_a_folder_of_the_user_is_never_touched(run: Run, site: FileServer, tmp_path: Path) -> None:
    (tmp_path / "data/train2017").mkdir(parents=True)
    (tmp_path / "data/train2017/mine.jpg").write_bytes(b"x")
    code, _, err = run("coco", "--base_url", site.url)
    assert code == 2 and "data/train2017: holds 1 files instead of 3; move it away and run again" in err
    assert [path.name for path in (tmp_path / "data/train2017").iterdir()] == ["mine.jpg"]


def test_offline_is_one_line_with_the_address(run: Run, tmp_path: Path) -> None:
    code, _, err = run("cppe5", "--base_url", "http://127.0.0.1:9")
    assert code == 2 and err == (
        "datasets.prepare: error: http://127.0.0.1:9/dataset.tar.gz: cannot be downloaded (Connection refused); "
        f"run again to go on, or put a copy of the file at {tmp_path / 'data/.prepare/dataset.tar.gz'}\n"
    )


def test_a_disk_that_is_too_small_is_said_before_anything_is_downloaded(
    run: Run, site: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("util.web.fetch.shutil.disk_usage", lambda _: type("Usage", (), {"free": 900}))
    code, _, err = run("coco", "--base_url", site.url)
    assert code == 2 and "data: the dataset needs " in err and err.endswith("the disk has 900 B free\n")
    assert site.ranges == []


def test_a_place_that_is_no_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    code, _, err = run("cppe5", "--base_url", "http://127.0.0.1:9")
    assert code == 2 and "data/.prepare: Not a directory" in err and err.count("\n") == 1


def test_two_runs_at_once_are_refused(run: Run, site: FileServer, tmp_path: Path) -> None:
    (tmp_path / "data/.prepare").mkdir(parents=True)
    with open(tmp_path / "data/.prepare/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = run("cppe5", "--base_url", site.url)
    assert code == 2 and "data: another run is preparing it; wait for that one" in err
    assert run("cppe5", "--base_url", site.url)[0] == 0


@pytest.mark.parametrize(
    "flags, message",
    [
        (("voc",), "argument dataset: invalid choice: 'voc' (choose from 'coco', 'cppe5', 'hgp')"),
        (("hgp", "--panoptic"), "--panoptic is for coco, not for hgp"),
        (("coco", "--base_url", "ftp://x"), "--base_url ftp://x: not an address that starts with http://"),
        (("coco", "--basurl", "x"), "unknown flag --basurl; did you mean --base_url?"),
    ],
)
def test_mistaken_flags_are_one_line(run: Run, flags: tuple[str, ...], message: str) -> None:
    code, _, err = run(*flags)
    assert code == 2 and err.startswith(f"datasets.prepare: error: {message}") and err.count("\n") == 1


# ---- git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a bare git repository with two small HGP images among other files; the table knows it."""
    work = tmp_path / "work"
    names = (
        "images/train2017/T00000000.png",
        "images/val2017/V00000000.png",
        "images/annotations/instances_val2017.json",
        "images/annotations/instances_train2017.json",
        "labels/train2017/T00000000.txt",
    )
    for name in (*(f"HGP/{name}" for name in names), "main.py", "results/big.csv"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    (work / "HGP/images/train2017/link.png").symlink_to("/etc/passwd")
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(tmp_path / "bare.git")], check=True)
    hgp = SOURCES["hgp"]
    counts = {"HGP/images/train2017": 2, "HGP/images/val2017": 1}
    pieces = tuple(replace(p, files=counts.get(p.target)) for p in hgp.pieces)
    monkeypatch.setitem(SOURCES, "hgp", Repository(hgp.base_url, hgp.folder, pieces))
    return f"file://{tmp_path / 'bare.git'}"


def test_hgp_is_one_folder_of_the_repository(run: Run, repository: str, tmp_path: Path) -> None:
    code, out, err = run("hgp", "--base_url", repository)
    assert (code, err) == (0, "")
    images = {"HGP/images/train2017": 2, "HGP/images/val2017": 1, "HGP/images/annotations": 2}
    assert tree(tmp_path / "data") == {"HGP": 0, "HGP/images": 0} | images
    assert not (tmp_path / "data/HGP/images/train2017/link.png").is_symlink()
    commit = subprocess.run(["git", "-C", tmp_path / "work", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert f"HGP/images: commit {commit.stdout.strip()}\n" in out
    again = run("hgp", "--base_url", "file:///nowhere")
    assert again == (0, f"images and annotations: already there\nhgp: ready in {tmp_path / 'data'}\n", "")


def test_a_half_checkout_is_begun_anew(run: Run, repository: str, tmp_path: Path) -> None:
    (tmp_path / "data/.prepare/checkout").mkdir(parents=True)
    (tmp_path / "data/.prepare/checkout/half").write_text("")
    assert run("hgp", "--base_url", repository)[0] == 0
    assert not (tmp_path / "data/.prepare").exists()


def test_a_repository_with_too_few_images(run: Run, repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = tuple(replace(piece, files=piece.files and 1989) for piece in SOURCES["hgp"].pieces)
    monkeypatch.setitem(SOURCES, "hgp", replace(SOURCES["hgp"], pieces=pieces))
    code, _, err = run("hgp", "--base_url", repository)
    assert code == 2 and "HGP/images/train2017: holds 2 files instead of 1989" in err


def test_a_repository_that_is_not_there(run: Run, tmp_path: Path) -> None:
    code, _, err = run("hgp", "--base_url", f"file://{tmp_path / 'nothing'}")
    assert code == 2 and f"file://{tmp_path / 'nothing'}: cannot be checked out (fatal: " in err
    assert err.count("\n") == 1 and err.endswith("git 2.25 or newer and a network are needed\n")


def test_without_git_one_line_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = run("hgp")
    assert code == 2 and err == (
        "datasets.prepare: error: git is not installed, and https://github.com/lorenz369/hgp_detr comes through it: "
        "install git 2.25 or newer, run again\n"
    )


# ---- the check at the end


@pytest.mark.parametrize("found, code", [(0, 0), (1, 0), (2, 2)])
def test_the_check_runs_on_the_folder_and_decides(
    run: Run, site: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int, code: int
) -> None:
    asked = []
    module = types.SimpleNamespace(cli=lambda words: asked.append(words) or found)
    monkeypatch.setitem(sys.modules, "datasets.check.__main__", module)
    assert run("cppe5", "--base_url", site.url, checked=True)[0] == code
    dest = str(tmp_path / "data")
    assert asked == [["--dataset_file", "cppe5", "--data_path", dest, "--sheet", f"{dest}/check.png"]]


def test_an_error_of_the_check_is_one_line(run: Run, site: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> int:
        raise DatasetError("train.json: not JSON")

    monkeypatch.setitem(sys.modules, "datasets.check.__main__", types.SimpleNamespace(cli=broken))
    code, _, err = run("cppe5", "--base_url", site.url, checked=True)
    assert code == 2 and err == "datasets.prepare: error: train.json: not JSON\n"


def test_the_check_that_is_part_of_this_version_takes_these_flags(coco_folder: Path) -> None:
    assert prepare.check_dataset("coco", coco_folder) in (0, 1)
    assert (coco_folder / "check.png").exists()
