"""The pipeline grammar: text to passes with options, and back.

    pipeline  =  [ pass { "," pass } ]
    pass      =  name { ":" option }
    option    =  key "=" value  |  key                (a key alone switches a flag on)
    value     =  any characters but "," and ":";  "%" and two hexadecimal digits stand for a byte of UTF-8

    fold,prune:macs=0.7:multiple=8,quant:weights=per-channel

What is printed uses only characters that no shell looks at, so it needs no quotes; everything else is written as
``%xx``. Keys take ``-`` and ``_`` alike. An option is a field of the pass's dataclass and its type says how the value
is read:

    bool            true false yes no on off 1 0, or the key alone
    int, float      as in Python; a float may be ``inf``, never ``nan``
    str, Path       the text
    Literal, Enum   one of the listed words; ``-`` and ``_``, capitals and small letters are alike
    X | None        the word ``none``, or as X  (the *text* "none" is written ``%6eone``)

This file knows dataclasses only, not passes: finding the class for a name is the registry's
(``graphopt.pipeline.registry``).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from graphopt.errors import UsageError

WHERE = "--passes"
"""Where a fault in a pipeline text is, for messages."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})?")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/@")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class DataclassInstance(Protocol):
    """A value of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


D = TypeVar("D", bound=DataclassInstance)


@dataclasses.dataclass(frozen=True, slots=True)
class PassText:
    """One pass as it was written: its name, and its options as texts that are still escaped."""

    name: str
    options: Mapping[str, str]


def near(word: str, known: Iterable[str]) -> str:
    """A hint that names the known words near a wrong one; all of them where none is near and they are few."""
    known = sorted(known)
    close = difflib.get_close_matches(word.lower(), known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"`{name}`" for name in close) + "?"
    return "known: " + ", ".join(known) if 0 < len(known) <= 12 else ""


def same_word(a: str, b: str) -> bool:
    """Whether two words are the same up to capitals and ``-`` against ``_``."""
    return a.lower().replace("_", "-") == b.lower().replace("_", "-")


def parse(text: str) -> list[PassText]:
    """Split a pipeline's text. The empty text is the empty pipeline.

    Raises:
        UsageError: GO910, the text does not follow the grammar; GO914, an option is given twice.
    """
    if not text.strip():
        return []
    return [_parse_pass(part, text) for part in text.split(",")]


def _parse_pass(part: str, text: str) -> PassText:
    name, *rest = (piece.strip() for piece in part.split(":"))
    if not _NAME.fullmatch(name):
        why = f"a pass name is missing in {text!r}" if not name else f"{name!r} is not a pass name"
        raise UsageError("GO910", WHERE, why, "write `fold,prune:macs=0.7:multiple=8`")
    options: dict[str, str] = {}
    for piece in rest:
        key, equals, value = piece.partition("=")
        if not _NAME.fullmatch(key):
            why = f"{piece!r} after {name!r} is not an option"
            raise UsageError("GO910", WHERE, why, "write `name:key=value`; `:` in a value is `%3a`, `,` is `%2c`")
        if any(same_word(key, other) for other in options):
            raise UsageError("GO914", f"{WHERE}: {name}", f"the option {key!r} is given twice", "keep one")
        options[key] = value if equals else "true"
    return PassText(name, options)


def format_pipeline(passes: Iterable[tuple[str, DataclassInstance]]) -> str:
    """The text of named passes; ``parse`` and ``build`` give them back."""
    return ",".join(format_pass(name, instance) for name, instance in passes)


def format_pass(name: str, instance: DataclassInstance) -> str:
    """The text of one pass: its name, and each option that is not at its default."""
    texts = [name]
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if value != field.default or type(value) is not type(field.default):
            texts.append(f"{field.name.replace('_', '-')}={format_value(value)}")
    return ":".join(texts)


def format_value(value: object) -> str:
    """One option's value as escaped text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return _escape(_word(value))
    if isinstance(value, (str, Path)):
        text = _escape(str(value))
        # The text "none" must not read as None.
        return f"%{ord(text[0]):02x}{text[1:]}" if text.lower() == "none" else text
    return _escape(repr(value))


def build(cls: type[D], text: PassText) -> D:
    """Make a pass from its class and its options' texts.

    Raises:
        UsageError: GO912, there is no such option; GO913, the value does not fit the option's type.
    """
    kinds = option_types(cls)
    values: dict[str, object] = {}
    for key, raw in text.options.items():
        name = next((name for name in kinds if same_word(name, key)), None)
        if name is None:
            hint = near(key, (known.replace("_", "-") for known in kinds)) if kinds else "it has no options"
            raise UsageError("GO912", f"{WHERE}: {text.name}", f"there is no option {key!r}", hint)
        try:
            values[name] = _read(kinds[name], raw)
        except ValueError as error:
            expected = describe(kinds[name])
            why = f"{key}={raw}: {error}" if str(error) else f"{key}={raw} is not {expected}"
            raise UsageError("GO913", f"{WHERE}: {text.name}", why, f"`{key}` takes {expected}") from None
    try:
        return cls(**values)
    except ValueError as error:  # a pass checks its options against one another in __post_init__
        hint = f"`graphopt passes {text.name}` explains"
        raise UsageError("GO913", f"{WHERE}: {text.name}", str(error), hint) from None


def option_types(cls: type[DataclassInstance]) -> dict[str, Any]:
    """The options of a pass: field name to type, in the order of the class."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def describe(kind: Any) -> str:
    """An option's type in words for people."""
    if choices := _choices(kind):
        return " or ".join(choices)
    if (inner := _optional(kind)) is not None:
        return f"{describe(inner)}, or none"
    words: dict[Any, str] = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path"}
    return words.get(kind, str(kind))


def _read(kind: Any, raw: str) -> object:
    """Read an escaped text as a value of a type. Raises ValueError, without a message where the type says enough."""
    inner = _optional(kind)
    if inner is not None:
        return None if raw.lower() == "none" else _read(inner, raw)
    text = _unescape(raw)
    if choices := _choices(kind):
        found = choices.get(text, next((value for word, value in choices.items() if same_word(word, text)), _ABSENT))
        if found is _ABSENT:
            raise ValueError
        return found
    reader = _READERS.get(kind)
    if reader is None:
        raise TypeError(f"an option of type {kind} cannot be read from text")
    return reader(text)


def _read_flag(text: str) -> bool:
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise ValueError
    return flag


def _read_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError
    return int(text)


def _read_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError from None
    if math.isnan(value):
        raise ValueError
    return value


_READERS: dict[Any, Callable[[str], object]] = {
    bool: _read_flag,
    int: _read_int,
    float: _read_float,
    str: str,
    Path: Path,
}
_ABSENT = object()


def _optional(kind: Any) -> Any:
    """X for ``X | None``, else None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [one for one in typing.get_args(kind) if one is not type(None)]
        if len(rest) == 1 and len(typing.get_args(kind)) == 2:
            return rest[0]
    return None


def _choices(kind: Any) -> dict[str, object]:
    """The words of a Literal or Enum with their values; empty for other types."""
    if typing.get_origin(kind) is Literal:
        return {str(value): value for value in typing.get_args(kind)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {_word(member): member for member in kind}
    return {}


def _word(member: Enum) -> str:
    """How an enum's member is written: its value where that is a text, else its name."""
    return member.value if isinstance(member.value, str) else member.name


def _escape(text: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    raw = bytearray()
    end = 0
    for match in _ESCAPE.finditer(text):
        raw += text[end : match.start()].encode("utf-8", "surrogateescape")
        if match.group(1) is None:
            raise ValueError("`%` begins an escape of two hexadecimal digits; a percent sign is `%25`")
        raw.append(int(match.group(1), 16))
        end = match.end()
    raw += text[end:].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")
