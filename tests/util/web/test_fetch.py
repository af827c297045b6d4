"""Downloads from a server on this machine: whole, broken off, resumed, and of another file than was published."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.file_server import FileServer, serve
from util.errors import DownloadError
from util.web import fetch as fetch_module
from util.web.fetch import fetch, need_space

# More than one block, so that a cut connection leaves something behind.
CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server with the file `images.zip`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch_module, "PAUSE", 0)
    with serve(tmp_path / "remote") as site:
        (site.folder / "images.zip").write_bytes(CONTENT)
        yield site


@pytest.fixture
def get(server: FileServer, tmp_path: Path) -> Callable[..., Path]:
    """Fetch `images.zip`, by default with its true size and checksum, and return where it is."""

    def call(*, size: int | None = len(CONTENT), checksum: str | None = SHA256) -> Path:
        fetch(f"{server.url}/images.zip", tmp_path / "here" / "images.zip", size=size, checksum=checksum)
        return tmp_path / "here" / "images.zip"

    return call


def assert_whole(path: Path) -> None:
    """The file has the right bytes and nothing else lies beside it."""
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]


def test_a_plain_download_shows_how_far_it_is(
    get: Callable[..., Path], server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_whole(get())
    assert server.ranges == [None]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "verifying images.zip: 3.0 MB of 3.0 MB, 0:00:00 left"
    assert any(line.startswith("images.zip: 3.0 MB of 3.0 MB") for line in lines)


def test_what_is_there_is_verified_and_not_asked_for_again(get: Callable[..., Path], server: FileServer) -> None:
    assert get() == get()
    assert len(server.ranges) == 1


def test_a_copy_that_is_another_file_is_refused_and_removed(get: Callable[..., Path]) -> None:
    path = get()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="has 2999999 bytes, 3000000 are published; it was deleted, run again"):
        get()
    assert_whole(get())


@pytest.mark.parametrize("known", [{}, {"size": None}, {"checksum": None}])
def test_a_cut_connection_goes_on_where_it_broke(get: Callable[..., Path], server: FileServer, known: dict) -> None:
    server.cuts = [1_500_000, 700_000]
    assert_whole(get(**known))
    assert server.ranges == [None, "bytes=1500000-", "bytes=2200000-"]


def test_a_stopped_run_goes_on_in_the_next(get: Callable[..., Path], server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "images.zip.part").write_bytes(CONTENT[:1000])
    assert_whole(get())
    assert server.ranges == ["bytes=1000-"]


def test_a_whole_part_only_gets_its_name(get: Callable[..., Path], server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "images.zip.part").write_bytes(CONTENT)
    assert_whole(get())
    assert server.ranges == []


def test_a_part_that_is_too_long_is_thrown_away(get: Callable[..., Path], server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "images.zip.part").write_bytes(CONTENT + b"more")
    assert_whole(get())
    assert server.ranges == ["bytes=3000004-", None]


def test_a_server_that_cannot_resume_starts_over(
    get: Callable[..., Path], server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.resumes, server.cuts = False, [1_500_000]
    assert_whole(get())
    assert server.ranges == [None, "bytes=1500000-"]
    assert "images.zip: the server cannot resume; from the start\n" in capsys.readouterr().out


def test_a_server_that_sends_another_range_is_not_believed(get: Callable[..., Path], server: FileServer) -> None:
    server.cuts, server.shift = [1_500_000], 7
    assert_whole(get())
    assert server.ranges == [None, "bytes=1500000-", None]


def test_a_busy_server_is_asked_again_but_not_forever(get: Callable[..., Path], server: FileServer) -> None:
    server.failures = [503, 429]
    assert_whole(get())
    get().unlink()
    server.failures = [503] * 5
    with pytest.raises(DownloadError, match=r"cannot be downloaded \(HTTP 503\)"):
        get()


def test_a_connection_that_never_brings_anything_is_given_up(get: Callable[..., Path], server: FileServer) -> None:
    server.cuts = [0] * 5
    with pytest.raises(DownloadError, match=r"images.zip: cannot be downloaded \(after 0 B of 3.0 MB\); run again"):
        get()
    assert_whole(get())


def test_a_wrong_checksum_is_refused_and_not_kept(get: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"has md5 [0-9a-f]{32}, 00 is published; it was deleted, run again"):
        get(checksum="md5:00")
    assert list((tmp_path / "here").iterdir()) == []


def test_another_size_is_refused_before_it_is_downloaded(get: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the server has 3000000 bytes, 19 are published: it is another file"):
        get(size=19)
    assert list((tmp_path / "here").iterdir()) == []


def test_without_a_length_the_size_is_still_a_bound(get: Callable[..., Path], server: FileServer) -> None:
    server.tells_length = False
    assert_whole(get())
    get().unlink()
    with pytest.raises(DownloadError, match="sends more than the 19 bytes that are published"):
        get(size=19)


def test_an_address_without_a_file_or_a_server_is_one_line(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "nothing.zip"
    for url, reason in ((f"{server.url}/nothing.zip", "HTTP 404"), ("http://127.0.0.1:9/x.zip", "Connection refused")):
        with pytest.raises(DownloadError, match=reason) as caught:
            fetch(url, path, size=None, checksum=None)
        assert caught.value.line().startswith(f"{url}: cannot be downloaded (")
        assert caught.value.line().endswith(f"put a copy of the file at {path}")


def test_a_full_disk_is_said_before_the_download(get: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.web.fetch.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DownloadError, match="downloading images.zip needs 3.0 MB, the disk has 1.0 kB free"):
        get()


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    need_space(tmp_path / "a" / "b", 1, purpose="it")
    with pytest.raises(DownloadError, match=r"b: it needs 1000000000.0 GB"):
        need_space(tmp_path / "a" / "b", 10**18, purpose="it")
