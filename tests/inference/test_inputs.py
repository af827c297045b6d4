"""Images and videos from the words after --input, with names for their results."""

from pathlib import Path

import pytest

from inference.inputs import Inputs, find_inputs
from tests.file_server import serve


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.jpg", "b.PNG", "c.txt", "film.mp4", "more/a.jpg", "more/[1].png", ".hidden/d.jpg", "out/old.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*words: str) -> Inputs:
    return find_inputs(words, output=Path("out"), downloads=Path("downloads"))


def names(inputs: Inputs) -> list[str]:
    return [image.name.as_posix() for image in inputs.images]


def test_folders_are_searched_with_those_in_them(folder: Path) -> None:
    inputs = find(".")
    assert names(inputs) == ["a.jpg", "b.PNG", "more/[1].png", "more/a.jpg"] and inputs.failures == []
    assert [video.source for video in inputs.videos] == [Path("film.mp4")]


def test_files_of_one_name_get_numbers_and_each_is_taken_once(folder: Path) -> None:
    inputs = find("a.jpg", "more/a.jpg", "./a.jpg", "*.jpg", "c.txt")
    assert names(inputs) == ["a.jpg", "a-2.jpg", "c.txt"]  # a file that is named is taken whatever it is called


def test_patterns_cameras_and_names_with_brackets(folder: Path) -> None:
    assert names(find("more/[1].png")) == ["[1].png"]
    assert names(find("**/*.jpg")) == ["a.jpg", "a-2.jpg", "old.jpg"]
    (camera,) = find("0").videos
    assert (camera.source, camera.name) == (0, Path("camera0"))


def test_what_is_not_there_is_said(folder: Path) -> None:
    (folder / "empty").mkdir()
    inputs = find("x.jpg", "empty", "*.gif", "http://127.0.0.1:9/a.jpg")
    assert inputs.images == [] and len(inputs.failures) == 4
    for failure, words in zip(inputs.failures, ("no such file", "no images", "no file matches", "127.0.0.1:9/a.jpg")):
        assert words in failure


def test_files_of_one_name_at_two_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(tmp_path / "site") as site:
        for name in ("one", "two"):
            (site.folder / name).mkdir()
            (site.folder / name / "a.jpg").write_text(name)
        addresses = [f"{site.url}/{name}/a.jpg?size=9" for name in ("one", "two")]
        inputs = find_inputs(addresses, output=tmp_path / "out", downloads=tmp_path / "down")
    assert names(inputs) == ["a.jpg", "a-2.jpg"]
    assert [image.path.read_text() for image in inputs.images] == ["one", "two"]
