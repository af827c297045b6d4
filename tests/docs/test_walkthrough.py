"""The walkthrough: its links point at the code they name, both languages agree, its figures come from the code."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import main
from models.config import Architecture

ROOT = Path(main.__file__).parent
DOCS = ROOT / "docs"


def load(name: str) -> ModuleType:
    """Load a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


links = load("line_links")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_link_to_a_line_points_at_the_code_it_names(page: Path) -> None:
    assert links.wrong_links(page) == [], "python docs/line_links.py --fix moves them"


def test_both_languages_link_to_the_same_lines_in_the_same_order() -> None:
    english, korean = ((DOCS / f"walkthrough{suffix}.md").read_text() for suffix in ("", ".ko"))
    assert len(links.LINK.findall(english)) > 25
    assert links.LINK.findall(english) == links.LINK.findall(korean)
    assert [len(re.findall(rf"^{level} ", english, re.M)) for level in ("#", "##")] == [
        len(re.findall(rf"^{level} ", korean, re.M)) for level in ("#", "##")
    ]


def test_a_link_moves_with_its_code_and_one_without_code_is_named(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("a = 1\nb = 2\nb = 2\n")
    page = tmp_path / "page.md"
    page.write_text("[`a = 1`](code.py#L7) [`b = 2`](code.py#L2) [`c`](code.py#L3) [`d`](gone.py#L1)")
    assert len(links.wrong_links(page)) == 4
    assert links.main([page], fix=True) == 1
    assert page.read_text().startswith("[`a = 1`](code.py#L1) [`b = 2`](code.py#L2)")
    assert [line.split("`")[1] for line in links.wrong_links(page)] == ["b = 2", "c", "d"], "two lines are none"


def test_the_debugger_starts_with_flags_that_exist() -> None:
    text = (ROOT / ".vscode" / "launch.json").read_text()
    entries = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))["configurations"]
    of_main = [entry["args"] for entry in entries if entry.get("program", "").endswith("/main.py")]
    assert len(of_main) == 3
    for args in of_main:
        main.parse_flags(args)
    programs = [entry["program"].replace("${workspaceFolder}", str(ROOT)) for entry in entries if "program" in entry]
    assert all(Path(program).is_file() for program in programs)


@pytest.mark.slow
def test_the_figures_are_drawn_from_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    small = Architecture(backbone="resnet18", hidden_dim=32, nheads=4, dim_feedforward=16)
    load("draw_figures").main(tmp_path, height=64, width=96, architecture=small)
    drawn = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(drawn) == {path.name for path in (DOCS / "figures").glob("*.png")}
    assert min(drawn.values()) > 10_000
