"""CPPE-5 in the two forms of Hugging Face: COCO's JSON with ids from 0, and the hub's Parquet files."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.check import __main__ as check
from datasets.convert import __main__ as convert
from datasets.foreign import CPPE5_NAMES, note_on_ids
from datasets.layout import find_layout
from util.errors import DatasetError


def from_zero(folder: Path) -> Path:
    """Count the categories of a folder in CPPE-5's layout from 0, as Hugging Face's copy does."""
    for path in (folder / "annotations").glob("*.json"):
        data = json.loads(path.read_text())
        for entry in data["annotations"]:
            entry["category_id"] -= 1
        data["categories"] = [{"id": c["id"] - 1, "name": c["name"]} for c in data["categories"]]
        path.write_text(json.dumps(data))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
def test_ids_from_0_are_recognised_and_named(run: Callable, cppe5_folder: Path, capsys: pytest.CaptureFixture) -> None:
    folder = from_zero(cppe5_folder)
    assert check.cli(["--data_path", str(folder)]) == 1, (
        "a wrong size and a prefixed name are repaired, as in ids from 1"
    )
    assert "0  Coverall" in capsys.readouterr().out
    flags = "--max_steps 1 --device cpu --backbone resnet18 --backbone_weights none --enc_layers 1 --dec_layers 1 "
    flags += "--hidden_dim 32 --dim_feedforward 32 --num_queries 5 --image_size 64 --num_workers 0 --no_flip"
    code, out, err = run(f"--dataset_file cppe5 --data_path {folder} --train_only {flags}")
    assert code == 0, err
    assert f"5 classes: {', '.join(CPPE5_NAMES)}" in out and "CPPE-5 with ids from 0" in out


def test_the_authors_ids_need_no_note() -> None:
    assert note_on_ids(dict(enumerate(CPPE5_NAMES, start=1))) == "" and note_on_ids(dict(enumerate(CPPE5_NAMES)))


class Column(list):
    """A column of a row group, as pyarrow gives it."""

    def __getitem__(self, row: Any) -> Any:
        value = super().__getitem__(row)
        return {key: SimpleNamespace(as_py=lambda inner=inner: inner) for key, inner in value.items()}


class FakeParquet:
    """As much of pyarrow's ParquetFile as is used, over a JSON file of hexadecimal images."""

    def __init__(self, path: Path) -> None:
        self.data = json.loads(path.read_text())
        self.num_row_groups = len(self.data["groups"])
        names = list(self.data["groups"][0][0])
        self.schema_arrow = SimpleNamespace(
            names=names, metadata={b"huggingface": json.dumps(self.data["note"]).encode()}
        )

    def read_row_group(self, group: int, columns: list[str]) -> Any:
        rows = [json.loads(json.dumps(row)) for row in self.data["groups"][group]]
        for row in rows:
            row["image"]["bytes"] = bytes.fromhex(row["image"]["bytes"])
        images = Column(row["image"] for row in rows)
        return SimpleNamespace(to_pylist=lambda: rows, column=lambda name: images)


def hub_folder(root: Path, **changes: Any) -> Path:
    """Write a folder as CPPE-5's on the hub, of two training images and one to test on, for `FakeParquet`."""
    feature = {"category": {"names": list(CPPE5_NAMES), "_type": "ClassLabel"}}
    note = {"info": {"features": {"objects": {"feature": feature, "_type": "Sequence"}}}}
    (root / "data").mkdir(parents=True)
    for split, count in (("train", 2), ("test", 1)):
        groups = []
        for grey in range(count):
            file = io.BytesIO()
            Image.fromarray(np.full((20, 30, 3), 90 * grey, np.uint8)).save(file, "PNG")
            objects = {"bbox": [[5.0, 5.0, 10.0, 10.0], [30.0, 5.0, 9.0, 9.0]], "category": [0, 4]} | changes
            groups.append([{"image": {"bytes": file.getvalue().hex(), "path": None}, "objects": objects}])
        name = f"{split}-00000-of-00001.parquet"
        (root / "data" / name).write_text(json.dumps({"note": note, "groups": groups}))
    return root


def test_the_hubs_files_are_recognised_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", SimpleNamespace(ParquetFile=FakeParquet))
    with pytest.raises(DatasetError, match="Hugging Face's Parquet files: python -m datasets.convert hf"):
        find_layout("custom", hub_folder(tmp_path / "hub"))
    assert convert.cli(["hf", str(tmp_path / "hub"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "train: 2 images, 2 objects" in said and "3 boxes without area inside their image: left out" in said
    split = find_layout("coco", tmp_path / "out").split("val")
    data = json.loads(split.annotations.read_text())
    assert [c["name"] for c in data["categories"]] == list(CPPE5_NAMES)
    assert (data["annotations"][0]["category_id"], data["annotations"][0]["bbox"]) == (1, [5, 5, 10, 10])
    assert Image.open(split.images / data["images"][0]["file_name"]).size == (30, 20)
    greys = [np.asarray(Image.open(file)).max() for file in sorted((tmp_path / "out" / "train2017").iterdir())]
    assert greys == [0, 90], "each row's own image"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"category": [0, 5]}, "row 0: category 5 is none of the 5"), ({"bbox": [[1, 2, 3, 4]]}, "row 0: zip")],
)
def test_a_broken_row_is_named(
    changes: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", SimpleNamespace(ParquetFile=FakeParquet))
    assert convert.cli(["hf", str(hub_folder(tmp_path / "hub", **changes)), str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_real_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading the hub's own files needs pyarrow")
    fake = FakeParquet(hub_folder(tmp_path / "fake") / "data" / "train-00000-of-00001.parquet")
    rows = [row for k in range(2) for row in fake.read_row_group(k, []).to_pylist()]
    table = sys.modules["pyarrow"].Table.from_pylist(rows).replace_schema_metadata(fake.schema_arrow.metadata)
    (tmp_path / "hub").mkdir()
    parquet.write_table(table, tmp_path / "hub" / "train-00000-of-00001.parquet", row_group_size=1)
    assert convert.cli(["hf", str(tmp_path / "hub"), str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out" / "train2017").glob("*.png"))) == 2
