"""Flags of other tools are answered with those of this project."""

import pytest

import main
from inference.flags import get_args_parser as predict_flags
from util.other_words import COMMANDS, TABLE, answer_to, flags_in

MAIN = set(main.get_args_parser()._option_string_actions)
PREDICT = set(predict_flags()._option_string_actions)


def test_every_answer_exists_and_every_question_does_not() -> None:
    for tool, words in TABLE.items():
        for word, answer in words.items():
            for one in answer.split("|"):
                known = PREDICT if one.startswith("predict.py ") else set() if one.startswith(COMMANDS) else None
                found = [flags_in(one) <= flags for flags in ([MAIN, PREDICT] if known is None else [known])]
                assert any(found) or one.startswith("torchrun "), f"{tool}: --{word} is answered with {one}"
            assert not {f"--{word}"} & MAIN & PREDICT, f"{tool}: --{word} is a flag of this project"


def test_no_word_has_two_answers() -> None:
    words = [word for tool in TABLE.values() for word in tool]
    assert len(words) == len(set(words)) and not [word for word in words if "-" in word]


@pytest.mark.parametrize(
    ("known", "typed", "answer"),
    [
        (MAIN, "--decoder-act", "--cross_attention"),
        (MAIN, "--resume_from_checkpoint", "--resume"),
        (MAIN, "--output", "--output_dir"),
        (MAIN, "--imgsz", "--image_size"),
        (MAIN, "--source", "predict.py --input"),
        (PREDICT, "--source", "--input"),
        (PREDICT, "--confidence-threshold", "--threshold"),
        (PREDICT, "--project", "--output DIR"),
        (MAIN, "--no-use-ema", "leave it out"),
        (MAIN, "--no-wandb-log", "leave it out"),
    ],
)
def test_the_answer_is_one_of_the_command(known: set[str], typed: str, answer: str) -> None:
    assert answer in (answer_to(typed, known) or "")


def test_no_answer_names_a_flag_that_the_command_lacks() -> None:
    assert answer_to("--imgsz", PREDICT) is None and answer_to("--nothing", MAIN) is None


def test_a_word_of_ultralytics_needs_no_dashes(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main.parse_flags(["imgsz=640"])
    assert "--image_size" in capsys.readouterr().err
