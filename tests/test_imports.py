"""The directions of imports: entry points -> engine, inference -> models, datasets -> util; the rooflines stand alone.

Read from the source, so imports inside functions and behind conditions count as well.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "roofline-on-nvidia-gpus" / "custom-scripts"
PACKAGES = ("util", "models", "datasets", "inference")
#: Packages on the floor of the entry points: parts that main.py is made of.
ENTRY_PACKAGES = ("flags", "training", "d2")
TOP_MODULES = tuple(sorted(file.stem for file in ROOT.glob("*.py")))
SCRIPT_MODULES = ("rooflines", *sorted(file.stem for file in SCRIPTS.glob("*.py")))

#: The floor of each part of the tree; a part may import from lower floors only. All top modules but engine are entry
#: points or what they are made of, and may import each other. So is the `__main__` of a package.
ENTRY = 3
#: Scripts in packages, run by their path as the original's are: they import their own package by its name.
BY_PATH = {ROOT / "d2" / "train_net.py", ROOT / "d2" / "converter.py"}
FLOORS = dict.fromkeys((*TOP_MODULES, *ENTRY_PACKAGES), ENTRY) | {
    "engine": 2,
    "inference": 2,
    "models": 1,
    "datasets": 1,
    "util": 0,
}


@dataclass(frozen=True)
class Import:
    """One module that a file imports, by its absolute name; `relative` if the file names it with leading dots."""

    file: Path
    line: int
    module: str
    relative: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {'relatively ' * self.relative}{self.module}"


@cache
def imports_of(file: Path, root: Path) -> tuple[Import, ...]:
    """Return every import of a file whose packages start at `root`, those in functions included.

    `from .a import b` is an import of `a.b` if that is a module, else of `a`.
    """
    package = file.relative_to(root).parts[:-1]
    found = []
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            found += [Import(file, node.lineno, alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= len(package), f"{file}:{node.lineno}: the dots lead out of the top package"
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            for alias in node.names:
                path = root.joinpath(*base.split("."), alias.name)
                is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
                found.append(Import(file, node.lineno, f"{base}.{alias.name}" if is_module else base, node.level > 0))
    return tuple(found)


def files_of(part: str) -> list[Path]:
    """Return the files of a package or top module of the tree."""
    return sorted((ROOT / part).rglob("*.py")) if (ROOT / part).is_dir() else [ROOT / f"{part}.py"]


def tree_imports() -> list[Import]:
    return [found for part in FLOORS for file in files_of(part) for found in imports_of(file, ROOT)]


def script_imports() -> list[Import]:
    return [found for file in sorted(SCRIPTS.rglob("*.py")) for found in imports_of(file, SCRIPTS)]


def top(module: str) -> str:
    return module.partition(".")[0]


def dotted(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts)


def part_of(file: Path, root: Path = ROOT) -> str:
    return file.relative_to(root).parts[0].removesuffix(".py")


def lines(wrong: list[Import]) -> str:
    return "\n".join(map(str, wrong))


def test_the_parts_are_there() -> None:
    assert {"main", "engine", "hubconf", "run_with_submitit"} <= set(TOP_MODULES)
    assert all(len(files_of(package)) > 5 for package in PACKAGES) and "postprocess" in SCRIPT_MODULES
    assert any(found.module.startswith("models") for found in tree_imports() if part_of(found.file) == "building")


def floor(module: str) -> int:
    return ENTRY if module.endswith(".__main__") else FLOORS[top(module)]


@pytest.mark.parametrize("part", FLOORS)
def test_imports_lead_to_lower_floors(part: str) -> None:
    def allowed(found: Import) -> bool:
        own, other = floor(dotted(found.file, ROOT)), floor(found.module)
        return other < own or own == other == ENTRY or own == other and top(found.module) == part

    found = [i for file in files_of(part) for i in imports_of(file, ROOT) if top(i.module) in FLOORS]
    wrong = [i for i in found if not allowed(i)]
    assert wrong == [], lines(wrong)


def test_nothing_imports_benchmarks_tests_or_rooflines() -> None:
    outside = {"benchmarks", "tests", *SCRIPT_MODULES} - set(TOP_MODULES)
    wrong = [found for found in tree_imports() if top(found.module) in outside]
    assert wrong == [], lines(wrong)


def test_only_entry_points_reach_the_rooflines_by_path() -> None:
    """Below the entry points, no string names their folder apart from docstrings."""
    wrong = []
    for file in (file for part in FLOORS if FLOORS[part] < ENTRY for file in files_of(part)):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        strings = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        wrong += [f"{file}:{s.lineno}" for s in strings if "custom-scripts" in s.value and id(s) not in prose]
    assert wrong == []


def test_rooflines_import_nothing_of_the_tree() -> None:
    wrong = [found for found in script_imports() if top(found.module) in FLOORS]
    assert wrong == [], lines(wrong)


def test_the_package_rooflines_imports_no_script_beside_it() -> None:
    scripts = set(SCRIPT_MODULES) - {"rooflines"}
    inside = [found for found in script_imports() if part_of(found.file, SCRIPTS) == "rooflines"]
    wrong = [found for found in inside if top(found.module) in scripts]
    assert inside and wrong == [], lines(wrong)


def test_files_of_one_package_import_each_other_relatively_and_packages_by_name() -> None:
    def own(found: Import) -> bool:
        root = SCRIPTS if found.file.is_relative_to(SCRIPTS) else ROOT
        return (
            found.file.parent != root and found.file not in BY_PATH and top(found.module) == part_of(found.file, root)
        )

    wrong = [found for found in tree_imports() + script_imports() if own(found) != found.relative]
    assert wrong == [], lines(wrong)


def assert_no_circle(graph: dict[str, set[str]]) -> None:
    """Fail with the circle, if there is one; an arrow from a part to itself is none."""
    try:
        TopologicalSorter({name: used - {name} for name, used in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def graph_of(package: str, root: Path, name_of: Callable[[str], str]) -> dict[str, set[str]]:
    """Return who imports whom inside a package, each module under the name that `name_of` gives it."""
    graph: dict[str, set[str]] = {}
    for file in sorted((root / package).rglob("*.py")):
        used = {name_of(i.module) for i in imports_of(file, root) if top(i.module) == package}
        graph.setdefault(name_of(dotted(file, root).removesuffix(".__init__")), set()).update(used)
    return graph


ALL_PACKAGES = pytest.mark.parametrize(
    ("package", "root"), [*((name, ROOT) for name in PACKAGES), ("rooflines", SCRIPTS)], ids=[*PACKAGES, "rooflines"]
)


@ALL_PACKAGES
def test_no_circle_between_the_files_of_a_package(package: str, root: Path) -> None:
    graph = graph_of(package, root, str)
    assert len(graph) > 5 and any(graph.values())
    assert_no_circle(graph)


@ALL_PACKAGES
def test_no_circle_between_sub_packages(package: str, root: Path) -> None:
    rooms = {folder.name for folder in (root / package).iterdir() if (folder / "__init__.py").is_file()}

    def room(module: str) -> str:
        second = module.split(".")[1:2]
        return second[0] if rooms.intersection(second) else module

    assert rooms
    assert_no_circle({name: used & rooms for name, used in graph_of(package, root, room).items() if name in rooms})


def test_no_circle_between_the_rooms_of_datasets() -> None:
    """A room is a sub-package or a file beside them, `__init__` included: nothing that it imports may need it."""
    graph = graph_of("datasets", ROOT, lambda module: ".".join(module.split(".")[:2]))
    assert "datasets" in graph and "datasets.annotations" in graph
    assert_no_circle(graph)


def test_no_circle_between_the_top_modules() -> None:
    assert_no_circle({name: {top(i.module) for i in imports_of(ROOT / f"{name}.py", ROOT)} for name in TOP_MODULES})


def test_a_circle_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="a -> b -> a|b -> a -> b"):
        assert_no_circle({"a": {"a", "b"}, "b": {"a"}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import models.detr as d", ("models.detr", False)),
        ("def f():\n    from models import detr", ("models.detr", False)),
        ("from models.detr import DETR", ("models.detr", False)),
        ("from . import matcher", ("models.matcher", True)),
        ("from . import build_model", ("models", True)),
        ("from .matcher import HungarianMatcher", ("models.matcher", True)),
        ("from .fast import padding", ("models.fast.padding", True)),
    ],
)
def test_imports_are_seen(text: str, expected: tuple[str, bool], tmp_path: Path) -> None:
    for name in ("detr", "matcher", "fast/padding"):
        (tmp_path / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / f"{name}.py").touch()
    file = tmp_path / "models" / "criterion.py"
    file.write_text(text)
    (found,) = imports_of(file, tmp_path)
    assert (found.module, found.relative) == expected
