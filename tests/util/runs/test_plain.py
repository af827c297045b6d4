"""Plain types: what JSON and weights_only loading take."""

import argparse
import json
from collections import OrderedDict
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from util.runs.plain import to_plain


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (argparse.Namespace(a=Path("x/y"), b=argparse.Namespace(c=1)), {"a": "x/y", "b": {"c": 1}}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (OrderedDict([(np.int64(7), "cat")]), {7: "cat"}),
        ((1, Path("a")), (1, "a")),
        ([None, {1}], [None, [1]]),
        (torch.device("cpu"), "cpu"),
        (torch.float16, "torch.float16"),
        (np.str_("x"), "x"),
    ],
)
def test_becomes_plain(value, plain):
    result = to_plain(value)
    assert result == plain and type(result) is type(plain)


def test_numbers_inside_are_pythons_own():
    result = to_plain({"a": [np.float64(1)], Colour.RED: np.int32(2)})
    assert type(result["a"][0]) is float
    assert {type(key) for key in result} == {str}


def test_tensors_stay_the_same_objects():
    tensor = torch.ones(2)
    assert to_plain({"a": [tensor]})["a"][0] is tensor


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@pytest.mark.slow
@given(trees)
def test_what_is_plain_already_is_equal_and_goes_through_json(tree):
    assert to_plain(tree) == tree
    assert json.loads(json.dumps(to_plain(tree))) == tree
