"""Options given as flags of the command line: in the passes that have them, once."""

from __future__ import annotations

import pytest

from graphopt.errors import UsageError
from graphopt.pipeline.pipeline import Pipeline

GIVEN: list[tuple[str, str, object, str]] = [
    ("fold,quant", "--allow-slower", True, "fold,quant:allow-slower=true"),
    ("quant:allow-slower", "--allow-slower", True, "quant:allow-slower=true"),
    ("quant:drop=1", "--metric", "user:top1", "quant:drop=1.0:metric=user%3atop1"),
    ("quant:drop=1:metric=sqnr", "--metric", "sqnr", "quant:drop=1.0:metric=sqnr"),
    ("quant:drop=1,quant:keep=a", "--metric", "sqnr", "quant:drop=1.0:metric=sqnr,quant:keep=a:metric=sqnr"),
]


@pytest.mark.parametrize(("text", "flag", "value", "wanted"), GIVEN)
def test_a_flag_sets_the_option_of_its_name(text: str, flag: str, value: object, wanted: str) -> None:
    assert str(Pipeline.parse(text).given(flag, value)) == wanted


@pytest.mark.parametrize(
    ("text", "flag", "value", "code"),
    [
        ("", "--allow-slower", True, "GO912"),
        ("simplify,fold", "--allow-slower", True, "GO912"),
        ("fold", "--metric", "sqnr", "GO912"),
        ("quant:metric=sqnr", "--metric", "agreement", "GO914"),
        ("quant,quant:metric=sqnr", "--metric", "agreement", "GO914"),
    ],
)
def test_a_flag_that_no_pass_has_or_that_contradicts_the_text(text: str, flag: str, value: object, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Pipeline.parse(text).given(flag, value)
    assert caught.value.diagnostic.code == code
    assert caught.value.diagnostic.where == flag
