"""The documents name flags, files, commands and tables that are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from datasets.interface import DetectionDataset

ROOT = Path(main.__file__).parent
PAGES = sorted(
    page for pattern in ("*.md", "docs/*.md", "*/README.md", "results/**/*.md") for page in ROOT.glob(pattern)
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FLAGS = {flag for action in main.get_args_parser()._actions for flag in action.option_strings}
#: Flags of programs that are not part of this project, cut at their first dash: of torchrun, git, nsys, ncu, pip,
#: Detectron2, Slurm, and what runs containers.
SLURM = "account cpus error gpu gres image job mail module ntasks nodes output partition qos signal time me"
CONTAINERS = "bind gpu gpus ipc nccl nv prefix rm shm"
FOREIGN = {f"--{name}" for name in f"{SLURM} {CONTAINERS}".split()} | {
    "--help",
    "--nproc_per_node",
    "--detach",
    "--set",
    "--capture",
    "--profile",
    "--kernel",
    "--launch",
    "--config",
    "--num",
    "--no",
    "--clock",
    "--cache",
    "--type",  # of nsys export
    "--imgsz",  # of Ultralytics: the example of an unknown flag that is answered
}
#: Flags that an old file of results names and that the script no longer has.
FORMER = {"--pictures"}


def flags_in(text: str) -> set[str]:
    """Return the flags named in a text, `--a-b` cut at its first dash."""
    return set(re.findall(r"(?<![\w-])--\w+", text))


def flags_of_scripts() -> set[str]:
    """Return the flags that any command of the tree adds to its parser."""
    sources = [path for path in ROOT.rglob("*.py") if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)]
    return {flag for path in sources for flag in re.findall(r'"(--\w+)"', path.read_text())}


def test_the_page_of_flags_names_every_flag_and_no_other() -> None:
    text = (ROOT / "docs" / "flags.md").read_text()
    table = re.search(r"\| group \| flags \|.*?\n\n", text, re.S)
    assert table and flags_in(table[0]) <= FLAGS
    assert FLAGS - flags_in(table[0]) == {"--remove_difficult"}, "it does nothing, and stands under the table"


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_in_a_document_exists(name: str) -> None:
    named = flags_in((ROOT / name).read_text())
    known = FLAGS | flags_of_scripts() | FOREIGN | FORMER
    # Every switch has an opposite (util/flags.py): --no_pad, --check.
    opposites = {f"--{flag[5:]}" if flag.startswith("--no_") else f"--no_{flag[2:]}" for flag in known}
    assert named <= known | opposites


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_image_in_a_document_exists(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_document_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    modules = [module.replace(".", "/") for module in re.findall(r"python -m ((?:datasets|util)[\w.]*)", text)]
    assert not [m for m in modules if not (ROOT / m / "__main__.py").exists() and not (ROOT / f"{m}.py").exists()]
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make (?:[A-Z]+=\S+ )?([a-z][\w-]*)", text, re.M)) <= targets
    folders = (page_folder := (ROOT / name).parent, ROOT, ROOT / "roofline-on-nvidia-gpus" / "custom-scripts")
    scripts = re.findall(r"(?:python|bash) ([\w./-]+\.(?:py|sh))", text)
    assert not [s for s in scripts if not s.startswith("../before") and not any((f / s).exists() for f in folders)]
    assert page_folder.is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_code_in_a_document_exists(name: str) -> None:
    page = ROOT / name
    files = re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|sh|md|toml))`", page.read_text())
    folders = (page.parent, ROOT, ROOT / "roofline-on-nvidia-gpus" / "custom-scripts")
    assert not [file for file in files if not any((folder / file).exists() for folder in folders)]


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_of_a_table_have_as_many_cells_as_its_head(name: str) -> None:
    for number, head, row in rows_of_tables((ROOT / name).read_text()):
        assert cells(row) == cells(head), f"{name}, line {number}"


def rows_of_tables(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the number of each line of a table, the table's head, and the line."""
    head, fenced = None, False
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= line.startswith("```")
        head = (head or line) if line.startswith("|") and not fenced else None
        if head is not None:
            yield number, head, line


def cells(row: str) -> int:
    """Count the cells of a row; a bar inside of code belongs to its cell."""
    return re.sub(r"`[^`]*`", "", row).count("|") - 1


def test_the_page_on_architecture_names_every_member_of_a_dataset() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    members = [name for name in vars(DetectionDataset) if not name.startswith("_")]
    assert members and not [name for name in members if f"`{name}" not in text]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_shows_every_folder() -> None:
    text = (ROOT / "README.md").read_text()
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    assert not [name for name in folders if name != "runs" and f"{name}/" not in text]


@pytest.mark.parametrize("name", NAMES)
def test_every_test_in_a_document_exists(name: str) -> None:
    file = Path()
    for path, test in re.findall(r"`([\w./]*)::(test_\w+)`", (ROOT / name).read_text()):
        file = ROOT / path if path else file  # `::test_...` is in the file that was named last
        assert f"\ndef {test}(" in file.read_text(), f"{file.relative_to(ROOT)}::{test}"
