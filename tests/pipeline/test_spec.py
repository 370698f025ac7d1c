"""The pipeline grammar: text to options and back, and a message for every wrong text."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.pipeline import Context, Kind, Outcome, Pass, option
from graphopt.spec import build, describe, format_pass, option_types, parse


class Mode(Enum):
    FAST = "fast-one"
    SLOW = "slow"


class Level(Enum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, kw_only=True)
class Sample(Pass):
    """A pass with an option of every type."""

    name: ClassVar[str] = "sample"
    kind: ClassVar[Kind] = Kind.EXACT

    count: int = option(1, "a count")
    share: float = option(0.5, "a share")
    deep: bool = option(False, "a flag")
    weights: Literal["per-channel", "per-tensor"] = option("per-channel", "a choice")
    mode: Mode = option(Mode.SLOW, "an enum of texts")
    level: Level = option(Level.LOW, "an enum of numbers")
    words: str = option("", "a text")
    masks: Path | None = option(None, "a path, or none")
    note: str | None = option(None, "a text, or none")
    max_growth: float | None = option(1.0, "a number, or none")

    def run(self, model: Model, ctx: Context) -> Outcome:
        return Outcome()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("a count is not negative")


texts = st.text(max_size=12)
samples = st.builds(
    Sample,
    count=st.integers(0, 10**12),
    share=st.floats(allow_nan=False),
    deep=st.booleans(),
    weights=st.sampled_from(["per-channel", "per-tensor"]),
    mode=st.sampled_from(Mode),
    level=st.sampled_from(Level),
    words=texts,
    masks=st.none() | texts.map(Path),
    note=st.none() | texts | st.sampled_from(["none", "None", "NONE"]),
    max_growth=st.none() | st.floats(allow_nan=False),
)


@given(samples)
def test_round_trip(sample: Sample) -> None:
    (text,) = parse(str(sample))
    assert build(Sample, text) == sample


@given(samples)
def test_text_is_safe_in_a_shell(sample: Sample) -> None:
    assert shlex.quote(str(sample)) == str(sample)


def test_defaults_are_left_out() -> None:
    assert str(Sample()) == "sample"
    assert str(Sample(count=3)) == "sample:count=3"


READ = [
    ("count=3", "count", 3),
    ("count=-0", "count", 0),
    ("share=1e-3", "share", 1e-3),
    ("share=inf", "share", float("inf")),
    ("deep", "deep", True),
    ("deep=off", "deep", False),
    ("deep=1", "deep", True),
    ("weights=Per_Tensor", "weights", "per-tensor"),
    ("mode=fast_one", "mode", Mode.FAST),
    ("level=high", "level", Level.HIGH),
    ("words=a=b", "words", "a=b"),
    ("words=a%2cb%3ac%25", "words", "a,b:c%"),
    ("words=", "words", ""),
    ("words=none", "words", "none"),
    ("note=none", "note", None),
    ("note=%6eone", "note", "none"),
    ("masks=a/b.npz", "masks", Path("a/b.npz")),
    ("max-growth=none", "max_growth", None),
    ("max_growth=2", "max_growth", 2.0),
    ("MAX-GROWTH=2", "max_growth", 2.0),
]


@pytest.mark.parametrize(("text", "field", "value"), READ, ids=[text for text, _, _ in READ])
def test_reading(text: str, field: str, value: object) -> None:
    made = build(Sample, parse(f"sample:{text}")[0])
    assert getattr(made, field) == value
    assert all(getattr(made, f.name) == f.default for f in fields(made) if f.name != field)


WRONG = [
    (",", "GO910", "a pass name is missing"),
    ("fold,,quant", "GO910", "a pass name is missing"),
    ("fold prune", "GO910", "not a pass name"),
    ("sample:", "GO910", "is not an option"),
    ("sample:=3", "GO910", "is not an option"),
    ("sample:cuont=3", "GO912", "`count`"),
    ("sample:count=1.5", "GO913", "an integer"),
    ("sample:count=1_0", "GO913", "an integer"),
    ("sample:count", "GO913", "an integer"),
    ("sample:count=-1", "GO913", "a count is not negative"),
    ("sample:share=much", "GO913", "a number"),
    ("sample:share=nan", "GO913", "a number"),
    ("sample:deep=2", "GO913", "true or false"),
    ("sample:weights=per-pixel", "GO913", "per-channel or per-tensor"),
    ("sample:level=3", "GO913", "LOW or HIGH"),
    ("sample:words=50%", "GO913", "%25"),
    ("sample:count=1:count=2", "GO914", "twice"),
    ("sample:max-growth=1:max_growth=2", "GO914", "twice"),
]


@pytest.mark.parametrize(("text", "code", "words"), WRONG, ids=[text for text, _, _ in WRONG])
def test_wrong_texts_are_told(text: str, code: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        for one in parse(text):
            build(Sample, one)
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == code
    assert words in f"{diagnostic.why} {diagnostic.hint}"
    assert "\n" not in diagnostic.why
    assert diagnostic.hint


@pytest.mark.parametrize("text", ["", "  "])
def test_the_empty_text_is_the_empty_pipeline(text: str) -> None:
    assert parse(text) == []


def test_spaces_around_the_marks_do_not_matter() -> None:
    first, second = parse(" fold , prune : macs=0.7 ")
    assert (first.name, second.name, dict(second.options)) == ("fold", "prune", {"macs": "0.7"})


def test_types_are_described_for_people() -> None:
    words = {name: describe(kind) for name, kind in option_types(Sample).items()}
    assert words["count"] == "an integer"
    assert words["mode"] == "fast-one or slow"
    assert words["masks"] == "a path, or none"


def test_a_type_the_grammar_does_not_know_is_the_pass_authors_fault() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd(Sample):
        odd: dict[str, int] | None = option(None, "no such type")

    with pytest.raises(TypeError, match="cannot be read from text"):
        build(Odd, parse("odd:odd=1")[0])
    assert format_pass("odd", Odd()) == "odd"
