"""Models with a research switch: other programs' DETR would load their weights and compute something else."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from models.config import Architecture, build_detector
from util.convert.__main__ import cli
from util.convert.variants import PLAIN
from util.runs.checkpoint import save_checkpoint

SMALL = Architecture(
    backbone="resnet18", enc_layers=1, dec_layers=1, dim_feedforward=8, hidden_dim=16, nheads=2, num_queries=3
)


@pytest.mark.usefixtures("narrow_resnet18")
@pytest.mark.parametrize("target", ["hf", "d2"])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cross_attention": "sparsemax"}, "--cross_attention sparsemax:"),
        ({"encoder_attention": "alpha_entmax"}, "--encoder_attention alpha_entmax:"),
        ({"queries": "encoder", "focal": True}, "--queries encoder, --focal:"),
    ],
)
def test_a_variant_is_refused_in_one_line_and_nothing_is_written(
    changed: dict, words: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = replace(SMALL, **changed)
    path, out = tmp_path / "best.pth", tmp_path / "out"
    save_checkpoint(path, {"model": build_detector(architecture).state_dict(), "args": asdict(architecture)})
    assert cli([target, str(path), str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not out.exists()


def test_the_switches_are_fields_of_an_architecture_with_its_defaults() -> None:
    assert {name: asdict(Architecture())[name] for name in PLAIN} == PLAIN
