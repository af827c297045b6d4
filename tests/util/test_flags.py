"""Flags: both spellings, one-line errors, silence on other ranks."""

import argparse
import copy
import pickle
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from util.flags import FlagParser, nearest_flag


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


def add_flags(parser):
    group = parser.add_argument_group("training")
    group.add_argument("--lr", type=float, default=1e-4)
    group.add_argument("--lr_backbone", type=float, default=1e-5)
    group.add_argument("--lr_drop", type=int, default=200)
    group.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--output_dir", default="")
    parser.add_argument("--backbone", choices=["resnet18", "resnet50"], default="resnet50")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--dry-run", action="store_true")
    return parser


@pytest.fixture
def parser():
    return add_flags(FlagParser(prog="main.py"))


@pytest.mark.parametrize("words", [["--lr-drop", "3"], ["--lr_drop", "3"], ["--lr-drop=3"], ["--lr_drop=3"]])
def test_both_spellings_are_one_flag(parser, words):
    args = parser.parse_args(words)
    assert args.lr_drop == 3 and args.lr == 1e-4


def test_a_flag_declared_with_a_dash_has_both_spellings_too(parser):
    assert parser.parse_args(["--dry_run"]).dry_run and parser.parse_args(["--dry-run"]).dry_run


def test_values_are_left_as_typed(parser):
    assert parser.parse_args(["--output-dir", "runs/lr-drop"]).output_dir == "runs/lr-drop"
    assert parser.parse_args(["--output-dir=--lr-drop"]).output_dir == "--lr-drop"
    assert parser.parse_args(["--sizes", "1", "2", "--lr-drop", "4"]).sizes == [1, 2]
    assert parser.parse_args(["--lr-drop", "-1"]).lr_drop == -1


def test_words_behind_two_dashes_are_left_alone():
    parser = FlagParser(prog="main.py")
    parser.add_argument("--lr_drop")
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--", "--lr-drop"]).rest == ["--lr-drop"]


def test_the_command_line_is_the_default(parser, monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py", "--batch-size", "7"])
    assert parser.parse_args().batch_size == 7


def test_a_plain_parent_gets_it_all(capsys):
    parent = add_flags(argparse.ArgumentParser(add_help=False))
    parser = FlagParser("main.py", parents=[parent])
    assert parser.parse_args(["--lr-drop=3"]).lr_drop == 3
    with pytest.raises(SystemExit):
        parser.parse_args(["--lr_drp", "3"])
    assert "did you mean --lr_drop?" in capsys.readouterr().err


def test_a_plain_child_parses_the_declared_flags():
    parent = add_flags(FlagParser(add_help=False))
    assert argparse.ArgumentParser(parents=[parent]).parse_args(["--lr_drop", "3"]).lr_drop == 3


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], set()),
        (["--lr", "1e-4"], {"lr"}),  # its default, yet typed
        (["--lr-drop=3", "--masks", "--dry_run"], {"lr_drop", "masks", "dry_run"}),
        (["--output-dir=--lr", "--sizes", "1", "2"], {"output_dir", "sizes"}),
        (["--lr_drop", "-1"], {"lr_drop"}),
    ],
)
def test_what_was_typed_is_known_apart_from_the_values(parser, words, given):
    args = parser.parse_args(words)
    assert args.given == given and "given" not in vars(args)
    assert copy.deepcopy(args).given == given and pickle.loads(pickle.dumps(args)).given == given


def test_behind_two_dashes_no_flag_is_typed():
    parser = FlagParser(prog="main.py")
    parser.add_argument("--lr")
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--lr", "3", "--", "--lr"]).given == {"lr"}


def one_line_error(parser, words, capsys):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr("time.sleep", lambda seconds: pytest.fail("rank 0 waits for nobody"))
        parser.parse_args(words)
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err.startswith("main.py: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--learning_rte", "--lr"),
        ("--learning-rate-backbone", "--lr_backbone"),
        ("--batchsize", "--batch_size"),
        ("--bacth-size=4", "--batch_size"),
        ("-batch_size", "--batch_size"),
        ("--MASKS", "--masks"),
        ("--outputdir", "--output_dir"),
    ],
)
def test_an_unknown_flag_is_answered_with_the_nearest(parser, capsys, typed, meant):
    err = one_line_error(parser, [typed, "1"], capsys)
    assert f"unknown flag {typed.partition('=')[0]}; did you mean {meant}?" in err


def test_no_suggestion_when_nothing_is_near(parser, capsys):
    err = one_line_error(parser, ["--zzz"], capsys)
    assert "unknown flag --zzz" in err and "did you mean" not in err
    assert nearest_flag("--zzz", []) is None


def test_flags_are_not_abbreviated(parser, capsys):
    assert "unknown flag --batch;" in one_line_error(parser, ["--batch", "3"], capsys)


def test_other_mistakes_are_one_line_too(parser, capsys):
    assert "invalid int value: 'x'" in one_line_error(parser, ["--lr-drop", "x"], capsys)
    assert "resnet18" in one_line_error(parser, ["--backbone", "vgg"], capsys)
    assert "expected one argument" in one_line_error(parser, ["--lr-drop"], capsys)
    assert "unexpected value 'stray'" in one_line_error(parser, ["--masks", "stray"], capsys)


@pytest.mark.parametrize("launcher", [{"RANK": "1", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0"}])
@pytest.mark.parametrize(("words", "code"), [(["--nonsense"], 2), (["--help"], 0)])
def test_other_ranks_are_silent_but_stop(parser, capsys, monkeypatch, launcher, words, code):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(words)
    assert stop.value.code == code
    assert len(waited) == (code != 0)  # or the launcher would end rank 0 before it has said why
    assert capsys.readouterr() == ("", "")


def test_help_lists_the_flags_by_group(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    out = capsys.readouterr().out
    assert "training:" in out and "--lr_drop" in out


def test_flags_are_known_without_loading_torch():
    heavy = {"torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib"}
    program = f"import sys, flags; flags.get_args_parser().format_help(); print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
