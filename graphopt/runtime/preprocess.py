"""From an image file to a model's input: a list of typed steps, written in one line.

    resize=256,crop=224,mean=123.675/116.28/103.53,std=58.395/57.12/57.375,order=rgb,layout=nchw,scale=1
    imagenet,crop=227

A line is safe in a shell without quotes. Lists are divided by ``/``; a single number may be a fraction
(``scale=1/255``). It may begin with a preset, whose fields the rest overrides. In this order:

    resize   the short side to n pixels, or to w x h exactly (``resize=320x240``); Pillow's bilinear, which averages
             when it shrinks
    crop     the middle n x n, or w x h, pixels
    order    rgb, bgr or grey: which channels, and in which order
    scale    x * scale       (x is 0 to 255)
    mean     x - mean        one number, or one a channel in the order of ``order``
    std      x / std         likewise
    layout   nchw or nhwc

A field that is left out does nothing, except ``order`` (rgb) and ``layout`` (nchw). A model may carry its own in a side
file (``model.onnx.preprocess.toml`` or ``model.preprocess.toml``, or ``.json``): the same fields, lists as lists, and
``preset``.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Order = Literal["rgb", "bgr", "grey"]
Layout = Literal["nchw", "nhwc"]

_CODE = "GO813"
_SUFFIXES = (".toml", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """The steps; the module's docstring says what each does. A size is (width, height); (n, 0) is a short side of n."""

    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    order: Order = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "nchw"

    def __call__(self, image: Image, where: str) -> NDArray[np.float32]:
        """[1, C, H, W] or [1, H, W, C]. Raises DataError GO813 if the image is smaller than the crop."""
        values: NDArray[np.float32] = np.asarray(self._sized(image, where), np.float32)
        values = values[:, :, None] if values.ndim == 2 else values
        if self.order == "bgr":
            values = values[:, :, ::-1]
        values = values * np.float32(self.scale)
        if self.mean:
            values = np.subtract(values, np.asarray(self.mean, np.float32))
        if self.std:
            values = np.divide(values, np.asarray(self.std, np.float32))
        values = values.transpose(2, 0, 1) if self.layout == "nchw" else values
        return np.ascontiguousarray(values[None], np.float32)

    def _channels(self, image: Image) -> Image:
        return image.convert("L" if self.order == "grey" else "RGB")

    def _sized(self, image: Image, where: str) -> Image:
        from PIL.Image import Resampling

        # Palettes and bit masks cannot be interpolated.
        image = self._channels(image)
        if self.resize is not None:
            width, height = self.resize
            if height == 0:
                width, height = _short_side(image.size, width)
            if (width, height) != image.size:
                image = image.resize((width, height), Resampling.BILINEAR)
        if self.crop is not None:
            width, height = self.crop
            if width > image.width or height > image.height:
                why = f"is {image.width} x {image.height}, smaller than crop={width}x{height}"
                raise DataError(_CODE, where, why, "resize it first: resize=N with N at least the crop")
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
            image = image.crop((left, top, left + width, top + height))
        return image

    def __str__(self) -> str:
        """The line that gives this again."""
        parts: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default or field.name in ("order", "layout"):
                parts.append(f"{field.name}={_text(field.name, value)}")
        return ",".join(parts)


PRESETS: Mapping[str, Preprocess] = {
    "imagenet": Preprocess(resize=(256, 0), crop=(224, 224), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    "caffe": Preprocess(resize=(256, 0), crop=(224, 224), order="bgr", mean=(104.0, 117.0, 123.0)),
    "symmetric": Preprocess(resize=(256, 0), crop=(224, 224), mean=(127.5,), std=(127.5,)),
    "unit": Preprocess(scale=1 / 255),
    "raw": Preprocess(),
}
"""``imagenet``: torchvision's; ``caffe``: BGR less the mean; ``symmetric``: -1 to 1; ``unit``: 0 to 1; ``raw``: 0 to 255."""


def parse_preprocess(text: str, where: str = "--preprocess") -> Preprocess:
    """A line, a preset, or the path of a side file. Raises DataError GO813, with the near names of an unknown one."""
    if text.endswith(_SUFFIXES):
        return read_side_file(Path(text))
    steps = Preprocess()
    seen: set[str] = set()
    for position, part in enumerate(filter(None, (p.strip() for p in text.split(",")))):
        name, equals, value = part.partition("=")
        if not equals:
            if position > 0:
                raise DataError(_CODE, where, f"'{part}' has no value", "write name=value; only the first may be a preset")
            steps = _preset(name, where)
            continue
        if name in seen:
            raise DataError(_CODE, where, f"'{name}' is given twice", "give it once")
        seen.add(name)
        steps = _with(steps, name, value, where)
    return _checked(steps, where)


def read_side_file(path: Path) -> Preprocess:
    """The steps of a TOML or JSON file. Raises DataError GO813."""
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise DataError("GO801", str(path), f"cannot be read: {error.strerror}", "check the path") from None
    except ValueError as error:
        raise DataError(_CODE, str(path), f"is not valid {path.suffix[1:].upper()}: {error}", "mend the file") from None
    if not isinstance(content, dict):
        raise DataError(_CODE, str(path), "must hold fields and their values", "for example: resize = 256")
    table = cast(dict[str, Any], content)
    preset = table.pop("preset", None)
    steps = Preprocess() if preset is None else _preset(str(preset), str(path))
    for name, value in table.items():
        steps = _with(steps, name, _as_text(value), str(path))
    return _checked(steps, str(path))


def side_file(model: Path) -> Path | None:
    """The preprocessing that lies beside a model, if there is any."""
    for base in (model.name, model.stem):
        for suffix in _SUFFIXES:
            path = model.with_name(f"{base}.preprocess{suffix}")
            if path.is_file():
                return path
    return None


def _preset(name: str, where: str) -> Preprocess:
    if name not in PRESETS:
        raise DataError(_CODE, where, f"no preset is named '{name}'", _near(name, PRESETS))
    return PRESETS[name]


def _with(steps: Preprocess, name: str, value: str, where: str) -> Preprocess:
    """The steps with one field set from its text."""
    reader = _READERS.get(name)
    if reader is None:
        raise DataError(_CODE, where, f"there is no field '{name}'", _near(name, _READERS))
    read, form = reader
    try:
        return replace(steps, **cast(dict[str, Any], {name: read(value)}))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise DataError(_CODE, where, f"{name}={value}: not {form}", f"for example {name}={_EXAMPLES[name]}") from None


def _checked(steps: Preprocess, where: str) -> Preprocess:
    channels = 1 if steps.order == "grey" else 3
    for name, values in (("mean", steps.mean), ("std", steps.std)):
        if len(values) not in (0, 1, channels):
            why = f"{name} has {len(values)} numbers for {channels} channels ({steps.order})"
            raise DataError(_CODE, where, why, "give one number, or one a channel")
    return steps


def _near(name: str, names: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, names, 2)
    return f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if found is None or 0 in (int(found[1]), int(found[2] or 1)):
        raise ValueError
    return int(found[1]), int(found[2] or 0)


def _square(text: str) -> tuple[int, int]:
    width, height = _size(text)
    return width, height or width


def _number(text: str) -> float:
    value = float(Fraction(text))
    if value == 0:
        raise ValueError
    return value


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split("/"))
    if not all(np.isfinite(values)):
        raise ValueError
    return values


def _divisors(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if any(value <= 0 for value in values):
        raise ValueError
    return values


def _one_of(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return read


_READERS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "resize": (_size, "a number of pixels, or WxH"),
    "crop": (_square, "a number of pixels, or WxH"),
    "order": (_one_of("rgb", "bgr", "grey"), "rgb, bgr or grey"),
    "scale": (_number, "a number other than 0"),
    "mean": (_numbers, "a number, or one a channel with / between them"),
    "std": (_divisors, "a positive number, or one a channel with / between them"),
    "layout": (_one_of("nchw", "nhwc"), "nchw or nhwc"),
}

_EXAMPLES: Mapping[str, str] = {
    "resize": "256",
    "crop": "224",
    "order": "rgb",
    "scale": "1/255",
    "mean": "123.675/116.28/103.53",
    "std": "58.395/57.12/57.375",
    "layout": "nchw",
}


def _as_text(value: object) -> str:
    """A value of a side file as it would stand in a line: lists with / between, sizes of two numbers with x."""
    if isinstance(value, list):
        return "/".join(str(part) for part in cast(list[object], value))
    return str(value)


def _text(name: str, value: object) -> str:
    if isinstance(value, tuple):
        parts = [str(part) for part in cast(tuple[object, ...], value)]
        if name in ("resize", "crop"):
            # n alone is a short side for resize, a square for crop.
            return parts[0] if parts[1] == ("0" if name == "resize" else parts[0]) else "x".join(parts)
        return "/".join(parts)
    return str(value)


def _short_side(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Both sides when the shorter one becomes ``short``; the other is rounded down, as torchvision does it."""
    width, height = size
    return (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
