"""Files of flags: one flag a line, later flags win, and a mistake is answered with file and line."""

import json
from pathlib import Path

import pytest

import main
from settings import flag_origins
from util.flags import FlagParser

FLAGS = """\
# a comment, and an empty line

--lr 1e-5   # smaller
--train_scales 480 512
--output-dir "my runs/#1"
--classes 12
--pad
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str | bytes) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)


def test_a_file_stands_for_its_flags_and_later_ones_win() -> None:
    write("base.args", FLAGS)
    args = main.parse_flags("--epochs 3 --lr 1 @base.args --epochs 4 --no_pad".split())
    assert (args.lr, args.epochs, args.pad, args.train_scales) == (1e-5, 4, False, [480, 512])
    # Text stays text, whatever it looks like.
    assert args.output_dir == "my runs/#1" and args.classes == "12"
    assert args.origins == {
        "epochs": "command line",
        "lr": "base.args:3",
        "train_scales": "base.args:4",
        "output_dir": "base.args:5",
        "classes": "base.args:6",
        "pad": "command line",
    }


def test_a_file_names_files_beside_it() -> None:
    write("base.args", "--lr 1e-5\n--epochs 7\n")
    write("more/mine.args", "@../base.args\n--lr 3e-5")
    args = main.parse_flags(["@more/mine.args"])
    assert (args.lr, args.epochs) == (3e-5, 7)
    assert args.origins == {"lr": "more/mine.args:2", "epochs": "base.args:2"}


def test_a_value_may_begin_with_an_at() -> None:
    assert main.parse_flags(["--output_dir=@home"]).output_dir == "@home"
    parser = FlagParser(prog="x")
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--", "@home"]).rest == ["@home"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n--lr x", ["a.args:2: ", "--lr", "invalid float value: 'x'"]),
        ("--epochs 1e1", ["a.args:1: ", "--epochs", "invalid int value: '1e1'"]),
        ("--amp half", ["a.args:1: ", "--amp", "'bf16'"]),
        ("--lr", ["a.args:1: ", "--lr", "expected one argument"]),
        ("--lr 1 2", ["a.args:1: ", "'2' is one value too many for --lr"]),
        ("--lr_drp 2", ["a.args:1: ", "did you mean --lr_drop?"]),
        ("--decoder-act sparsemax", ["a.args:1: ", "--cross_attention"]),
        ("--lr 1 --epochs 2", ["a.args:1: one flag a line: --epochs"]),
        ("lr: 1", ["a.args:1: a line begins with a flag", "'lr:'"]),
        ('--output_dir "runs', ["a.args:1: a quote is opened"]),
        ("@b.args", ["a.args:1: @b.args: no such file of flags"]),
        ("@b.args --lr 1", ["a.args:1: one flag a line"]),
        ("@a.args", ["a.args:1: @a.args leads back to itself: a.args -> a.args"]),
        (b"\xff\xfe", ["@a.args: not a text file"]),
    ],
)
def test_a_mistake_is_one_line_with_file_and_line(
    text: str | bytes, words: list[str], capsys: pytest.CaptureFixture
) -> None:
    write("a.args", text)
    with pytest.raises(SystemExit) as stop:
        main.parse_flags(["@a.args"])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith("main.py: error: ") and err.count("\n") == 1
    assert not [word for word in words if word not in err], err


def test_every_switch_can_be_turned_back() -> None:
    args = main.parse_flags("--no_check --check --masks --no-masks --no_aux_loss".split())
    assert args.check and not args.masks and not args.aux_loss
    assert {"check", "masks"} <= args.given


def test_where_the_values_of_a_run_come_from(tmp_path: Path) -> None:
    write("a.args", "--lr 1e-5")
    args = main.with_defaults(main.parse_flags("@a.args --epochs 3".split()))
    args.batch_size = 7
    cfg = main.replace_flags(args, num_classes=4, image_size=320)
    origins = flag_origins(args, cfg, {"image_size": {"value": 320, "reason": "small images"}})
    shown = {name: origins[name] for name in ("lr", "epochs", "batch_size", "num_classes", "image_size", "seed")}
    assert shown == {
        "lr": "a.args:1",
        "epochs": "command line",
        "batch_size": "caller",
        "num_classes": "settled",
        "image_size": "preset",
        "seed": "default",
    }
    assert json.dumps(origins) and origins.keys() == vars(cfg).keys()
