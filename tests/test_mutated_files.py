"""Files with anything in them are read, or refused in one line of the project's own, by all loaders.

`make soak` gives them two hundred times as many (benchmarks/mutated_files.py).
"""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutated_files import SUBJECTS, files, outcome


@pytest.mark.parametrize("name", SUBJECTS)
def test_only_errors_of_the_project_come_through(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, ends = SUBJECTS[name], Counter[str]()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data" / subject.file
    path.parent.mkdir(parents=True)
    subject.beside(tmp_path / "data")
    for number, content in enumerate(files(subject, name, max(12, subject.share // 200))):
        end = outcome(subject, path, content)
        assert end in ("read", "refused"), (name, number, end)
        ends[end] += 1
    assert ends["read"] > 0 and (ends["refused"] > 0 or subject.loaders == "Nsight reports"), ends


def test_another_error_is_a_fault(tmp_path: Path) -> None:
    subject = next(iter(SUBJECTS.values()))
    broken = type(subject)("annotations", "x.json", subject.make, lambda path: {}[path])
    assert outcome(broken, tmp_path / "x.json", b"{}").startswith("KeyError: ")
