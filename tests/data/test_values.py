"""What pydantic finds wrong with a value, in one sentence."""

import json
import math
from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from softmoa.data.values import STRICT, of_cell, sentence, to_cell, to_json


@dataclass(config=STRICT)
class Recipe:
    eggs: Annotated[int, Field(ge=1)]
    heat: Literal["low", "high"] = "low"
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.eggs > 9 and self.heat == "low":
            raise ValueError("so many eggs need high heat")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"eggs": 0}', "eggs must be greater than or equal to 1, not 0."),
        ('{"eggs": "2"}', "eggs must be a valid integer, not '2'."),
        ('{"eggs": 1, "heat": "mid"}', "heat must be 'low' or 'high', not 'mid'."),
        ('{"eggs": 1, "notes": ["a", 7]}', "notes.1 must be a valid string, not 7."),
        ("{}", "eggs is missing."),
        ('{"eggs": 10}', "so many eggs need high heat."),
        ("{", "Invalid JSON: EOF while parsing an object at line 1 column 1."),
        (f'{{"eggs": "{"x" * 99}"}}', f"eggs must be a valid integer, not '{'x' * 39}…."),
    ],
)
def test_the_first_problem_is_one_sentence(text, words):
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Recipe).validate_json(text)
    assert sentence(error.value) == words


def test_json_has_no_word_for_what_is_no_number():
    text = to_json({"a": [math.nan, -math.inf, 1.5], "b": "NaN", "c": math.inf})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, None, 1.5], "b": "NaN", "c": None,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\t=x", "'=x", "'x", "dog", "", "a=b"])
def test_a_cell_is_never_a_formula_and_read_as_it_was(text):
    assert of_cell(to_cell(text)) == text and not to_cell(text).startswith(("=", "+", "-", "@"))
