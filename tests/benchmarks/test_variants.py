"""The benchmark of a step with each research switch: every variant differs from the first by its switch alone."""

import sys
from pathlib import Path

import pytest

from benchmarks import variants
from main import parse_flags


@pytest.mark.parametrize(("given", "stride"), [("", "c5"), ("--model small", "c4"), ("--feature_map c4", "c4")])
def test_variants_have_one_stride_and_flags_that_exist(
    given: str, stride: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["variants.py", *given.split(), "--", "--num_queries", "9"])
    args = variants.parse_args()
    plain, both = (parse_flags(variants.flags_of(name, args)) for name in ("plain", "dab local, softmax"))
    different = {name for name, value in vars(plain).items() if vars(both)[name] != value}
    assert different == {"queries", "local_attention"} and plain.feature_map == stride and both.num_queries == 9


def test_the_table_compares_with_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"operators": 1460, "flops": 2e9, "reads": 2, "parts": {"forward": 0.5}}
    runs = {"plain": [row | {"cpu": 1.0, "seconds": 9.0}], "dab": [row | {"cpu": 1.05, "seconds": 3.0}]}
    monkeypatch.setattr(variants, "measure", lambda args: runs)
    flags = f"--threads 1 --only plain dab --output {tmp_path / 'x.json'}"
    monkeypatch.setattr(sys, "argv", ["variants.py", *flags.split()])
    variants.main()
    first, second, _ = capsys.readouterr().out.splitlines()
    assert "times" not in first and "median 1.05 s, 1.050 times plain; 1,460 operators" in second
