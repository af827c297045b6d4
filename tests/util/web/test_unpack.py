"""Archives as published, broken ones, and ones that were made to do harm."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from util.errors import DownloadError
from util.web.unpack import unpack

FILES = {"data/images/a.png": b"a" * 100, "data/images/b.png": b"b", "data/annotations/train.json": b"{}"}


def write_zip(path: Path, files: dict[str, bytes], *, mode: int = stat.S_IFREG | 0o644) -> Path:
    """A zip; `mode` is what Unix would call the entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def write_tar(path: Path, files: dict[str, bytes], **changes: object) -> Path:
    """A tar.gz; `changes` are attributes of every entry."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below the folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(archive: Path) -> str:
    """The line with which unpacking is refused; nothing of the archive is anywhere."""
    place = archive.parent / "deep" / "new"
    with pytest.raises(DownloadError) as caught:
        unpack(archive, place)
    assert not place.exists() and not any("evil" in path.name for path in archive.parent.rglob("*"))
    assert caught.value.line().startswith(f"{archive}: refused, nothing was unpacked: ")
    return caught.value.line()


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_what_is_packed_comes_out(write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = write(tmp_path / ("a.zip" if write is write_zip else "a.tar.gz"), FILES)
    unpack(archive, tmp_path / "new")
    assert content_of(tmp_path / "new") == FILES
    assert f"unpacking {archive.name}: 103 B of 103 B, 0:00:00 left" in capsys.readouterr().out


def test_empty_folders_and_dots_in_names(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", {"./data/..hidden..": b"x", "./": b""})
    unpack(tmp_path / "a.tar.gz", tmp_path / "new")
    assert content_of(tmp_path / "new") == {"data/..hidden..": b"x"}


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"__MACOSX/images/._a.png": b"x", "images/._a.png": b"x", "images/a.png": b"y"})
    unpack(tmp_path / "a.zip", tmp_path / "new")
    assert content_of(tmp_path / "new") == {"images/a.png": b"y"}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    "name, reason",
    [
        ("../evil", "points out of the folder"),
        ("images/../../evil", "points out of the folder"),
        ("images\\..\\evil", "points out of the folder"),
        ("/tmp/evil", "has an absolute name"),
        ("\\evil", "has an absolute name"),
        ("C:evil", "has an absolute name"),
        ("images\\evil", "has a name with a backslash or a control character"),
        ("images/evil\n", "has a name with a backslash or a control character"),
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(write, name: str, reason: str, tmp_path: Path) -> None:
    archive = write(tmp_path / ("a.zip" if write is write_zip else "a.tar.gz"), {"images/a.png": b"good", name: b"x"})
    assert refusal(archive).endswith(f"entry {name!r} {reason}")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", {"evil": b""}, type=kind, linkname="/etc/passwd", devmajor=1)
    assert "entry 'evil' is a link, a device or broken" in refusal(archive)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"evil": b"/etc/passwd"}, mode=kind | 0o777)
    assert "entry 'evil' is a link or a device" in refusal(archive)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_bomb_is_refused(write, tmp_path: Path) -> None:
    archive = write(tmp_path / ("a.zip" if write is write_zip else "a.tar.gz"), {"evil": bytes(10_000_000)})
    assert "it would unpack to more than" in refusal(archive)


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.web.unpack.MAX_ENTRIES", 2)
    assert "more than 2 entries" in refusal(write_zip(tmp_path / "a.zip", {"evil1": b"", "evil2": b"", "evil3": b""}))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"evil": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    archive.write_bytes(content)
    assert "entry 'evil' is encrypted" in refusal(archive)


def test_a_full_disk_is_said_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    monkeypatch.setattr("util.web.fetch.shutil.disk_usage", lambda _: type("Usage", (), {"free": 7}))
    with pytest.raises(DownloadError, match="unpacking a.zip needs 103 B, the disk has 7 B free"):
        unpack(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_zip_with_a_wrong_checksum_inside(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:  # stored, not compressed: the bytes are there to be changed
        file.writestr("a.png", b"pixels")
    archive.write_bytes(archive.read_bytes().replace(b"pixels", b"pixelz"))
    with pytest.raises(DownloadError, match="a.zip: cannot be unpacked .*Bad CRC-32"):
        unpack(archive, tmp_path / "new")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_not_an_archive(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"<html>moved</html>")
    with pytest.raises(DownloadError, match=f"{name}: cannot be unpacked"):
        unpack(tmp_path / name, tmp_path / "new")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        unpack(write_zip(tmp_path / "a.zip", {"a": b"x", "a/b": b"x"}), tmp_path / "new")


@given(data=st.data(), suffix=st.sampled_from(["zip", "tar"]))
def test_changed_bytes_never_end_otherwise_than_in_files_or_one_line(
    data: st.DataObject, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    buffer = io.BytesIO()
    if suffix == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as file:
            for name, content in FILES.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        content = bytearray(buffer.getvalue()[:3072])
    else:
        content = bytearray(write_zip(folder / "a.zip", FILES).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive = folder / f"a.{suffix}"
    archive.write_bytes(content)
    try:
        unpack(archive, folder / "new")
    except DownloadError as error:
        assert error.line().startswith(f"{archive}: ")
    assert {path.name for path in folder.iterdir()} <= {"a.zip", "a.tar", "new"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))
