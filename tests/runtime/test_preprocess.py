"""Preprocessing: the line and the side file, their errors, and the pixels against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graphopt.errors import DataError
from graphopt.runtime import Preprocess, parse_preprocess
from graphopt.runtime.preprocess import PRESETS, side_file

LINES: list[tuple[str, Preprocess]] = [
    ("", Preprocess()),
    ("imagenet", PRESETS["imagenet"]),
    ("imagenet,crop=299", replace(PRESETS["imagenet"], crop=(299, 299))),
    ("resize=256,crop=224,mean=123.675/116.28/103.53,std=58.395/57.12/57.375,order=rgb,layout=nchw,scale=1", PRESETS["imagenet"]),
    ("resize=320x240", Preprocess(resize=(320, 240))),
    ("crop=32x16", Preprocess(crop=(32, 16))),
    ("scale=1/255,order=grey,layout=nhwc", Preprocess(scale=1 / 255, order="grey", layout="nhwc")),
    ("mean=127.5,std=127.5,order=bgr", Preprocess(mean=(127.5,), std=(127.5,), order="bgr")),
    ("mean=-1/0/1e2", Preprocess(mean=(-1.0, 0.0, 100.0))),
    (" resize=8 , crop=8 ", Preprocess(resize=(8, 0), crop=(8, 8))),
]


@pytest.mark.parametrize(("text", "steps"), LINES)
def test_lines(text: str, steps: Preprocess) -> None:
    assert parse_preprocess(text) == steps


@pytest.mark.parametrize("steps", [*PRESETS.values(), *(steps for _, steps in LINES), Preprocess(resize=(8, 8), crop=(8, 4))])
def test_the_text_of_steps_gives_them_again(steps: Preprocess) -> None:
    assert parse_preprocess(str(steps)) == steps
    assert not set(str(steps)) & set(" {}()[]*?$&;|<>'\"\\"), "not safe in a shell"


WRONG = [
    ("imagnet", "did you mean imagenet?"),
    ("nothinglikeit", "there are: imagenet"),
    ("resiz=256", "did you mean resize?"),
    ("depth=3", "there are: resize, crop"),
    ("resize=big", "resize=big: not a number of pixels, or WxH"),
    ("resize=0", "not a number of pixels"),
    ("resize=-5", "not a number of pixels"),
    ("resize=10x0", "not a number of pixels"),
    ("crop=1.5", "crop=1.5"),
    ("order=rbg", "not rgb, bgr or grey"),
    ("layout=NCHW", "not nchw or nhwc"),
    ("scale=0", "scale=0"),
    ("scale=1/0", "scale=1/0"),
    ("scale=nan", "scale=nan"),
    ("mean=a/b", "mean=a/b"),
    ("mean=inf", "mean=inf"),
    ("mean=1/2", "mean has 2 numbers for 3 channels (rgb)"),
    ("order=grey,std=1/2/3", "std has 3 numbers for 1 channels (grey)"),
    ("std=1/0/1", "not a positive number"),
    ("std=-1", "not a positive number"),
    ("crop=8,crop=9", "given twice"),
    ("crop=8,imagenet", "only the first may be a preset"),
    ("resize=", "resize="),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_preprocess(text)
    assert caught.value.diagnostic.code == "GO813"
    assert told in str(caught.value)
    assert caught.value.diagnostic.hint


SIDE_FILES = [
    ("m.preprocess.toml", "resize = 256\ncrop = [1, 2]", None),
    ("m.preprocess.toml", 'preset = "imagenet"\ncrop = 227', replace(PRESETS["imagenet"], crop=(227, 227))),
    ("m.onnx.preprocess.toml", 'mean = [104, 117, 123]\norder = "bgr"', Preprocess(mean=(104.0, 117.0, 123.0), order="bgr")),
    ("m.preprocess.json", '{"scale": "1/255", "resize": "8x4"}', Preprocess(scale=1 / 255, resize=(8, 4))),
    ("m.preprocess.json", "[1]", None),
    ("m.preprocess.json", "{", None),
    ("m.preprocess.toml", "resize = ", None),
    ("m.preprocess.toml", "resise = 8", None),
]


@pytest.mark.parametrize(("name", "text", "steps"), SIDE_FILES)
def test_side_files(tmp_path: Path, name: str, text: str, steps: Preprocess | None) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert side_file(tmp_path / "m.onnx") == path
    if steps is None:
        with pytest.raises(DataError, match="GO813"):
            parse_preprocess(str(path))
    else:
        assert parse_preprocess(str(path)) == steps


def test_a_side_file_that_is_not_there(tmp_path: Path) -> None:
    assert side_file(tmp_path / "m.onnx") is None
    with pytest.raises(DataError, match="GO801"):
        parse_preprocess(str(tmp_path / "no.toml"))


def picture(width: int, height: int) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels), pixels.astype(np.float32)


def test_pixels_come_through_in_order_and_layout() -> None:
    image, pixels = picture(5, 4)
    np.testing.assert_array_equal(parse_preprocess("raw")(image, "i")[0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(parse_preprocess("layout=nhwc")(image, "i")[0], pixels)
    np.testing.assert_array_equal(parse_preprocess("order=bgr")(image, "i")[0], pixels[:, :, ::-1].transpose(2, 0, 1))


def test_scale_then_mean_then_std_in_the_order_of_the_channels() -> None:
    image, pixels = picture(3, 3)
    got = parse_preprocess("scale=1/255,mean=0.1/0.2/0.3,std=0.5/0.25/2,order=bgr,layout=nhwc")(image, "i")[0]
    expected = (pixels[:, :, ::-1] / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("resize=10", (3, 10, 20)),
        ("resize=10x6", (3, 6, 10)),
        ("resize=10,crop=8", (3, 8, 8)),
        ("crop=20x10", (3, 10, 20)),
        ("order=grey", (1, 20, 40)),
        ("order=grey,layout=nhwc", (20, 40, 1)),
    ],
)
def test_sizes(line: str, shape: tuple[int, ...]) -> None:
    image, _ = picture(40, 20)
    assert parse_preprocess(line)(image, "i").shape == (1, *shape)


def test_the_crop_is_the_middle() -> None:
    image, pixels = picture(9, 7)
    np.testing.assert_array_equal(parse_preprocess("crop=3,layout=nhwc")(image, "i")[0], pixels[2:5, 3:6])


def test_resizing_keeps_a_plain_colour_and_averages() -> None:
    plain = Image.new("RGB", (300, 200), (10, 20, 30))
    assert np.unique(parse_preprocess("resize=37,crop=30,order=bgr,layout=nhwc")(plain, "i").reshape(-1, 3), axis=0).tolist() == [
        [30, 20, 10]
    ]
    stripes = Image.fromarray(np.tile(np.array([0, 200], np.uint8), (64, 32)))
    shrunk = parse_preprocess("resize=8,order=grey")(stripes, "i")
    assert abs(float(shrunk.mean()) - 100) < 2
    assert float(shrunk.std()) < 20


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "1", "CMYK"])
def test_every_kind_of_image(mode: str) -> None:
    image = picture(8, 8)[0].convert(mode)
    assert parse_preprocess("resize=4")(image, "i").shape == (1, 3, 4, 4)


def test_a_crop_larger_than_the_image() -> None:
    with pytest.raises(DataError, match="smaller than crop=64x64"):
        parse_preprocess("crop=64")(picture(40, 20)[0], "i.png")
