"""Trained networks with 64 samples to calibrate on and others to judge by: what ``benchmarks.quant`` measures.

A ``Judge`` takes a model as bytes and gives figures by name, compared with the float model where that is what counts. Nothing that
judges is among the calibration samples.

- ``mobilenet``, ``squeezenet``: photographs whose file name is their class index; those divisible by four calibrate. Signal to
  noise is that of the logits, which for a net that ends in Softmax are the Softmax's input.
- ``rdn`` (by two) and ``sr_x3``: PSNR on scikit-image's five photographs, reduced; crops of the calibration photographs calibrate.
- ``text``: rendered lines of words and numbers; a match is exact. Widths differ from line to line.
- ``cifar_rep``, ``cifar_qat``, ``fashion_rep``, ``depth``: those of ``models/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from graphopt.runtime import parse_preprocess
from models.cifar_rep import data as cifar
from models.depth import evaluate as depth
from models.depth import render
from models.sr_x3 import data as enlarging

Array = NDArray[Any]
Feed = dict[str, Array]
Judge = Callable[[bytes], dict[str, float]]

SAMPLES = 64
ROOT = Path(__file__).parents[1]
PHOTOS_JUDGED = 250


@dataclass(frozen=True, slots=True)
class Task:
    """One network: its file, what to calibrate on, the input to time with, and the judge."""

    name: str
    path: Path
    calibration: list[Feed]
    timed: Feed
    judge: Judge


@dataclass(frozen=True, slots=True)
class Places:
    """Where files are: trained models, photographs named by class."""

    models: Path
    photos: Path


class Runner:
    """A model as bytes, run with one thread."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, x: Array) -> Array:
        return np.asarray(self.session.run(None, {self.input: x})[0])


def psnr(a: Array, b: Array) -> float:
    """Of arrays in 0..255, in dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def sqnr(wanted: Array, got: Array) -> float:
    """Signal over noise in dB."""
    return float(10 * np.log10((wanted.astype(np.float64) ** 2).sum() / max(((wanted - got).astype(np.float64) ** 2).sum(), 1e-30)))


def with_logits(model: bytes) -> bytes:
    """A final Softmax taken off, whatever quantizers stand around it."""
    proto = onnx.ModelProto.FromString(model)
    makers = {name: node for node in proto.graph.node for name in node.output}
    last = makers.get(proto.graph.output[0].name)
    while last is not None and last.op_type in ("QuantizeLinear", "DequantizeLinear"):
        last = makers.get(last.input[0])
    if last is None or last.op_type != "Softmax":
        return model
    proto.graph.output.insert(0, onnx.ValueInfoProto(name=last.input[0]))
    return proto.SerializeToString()


def centred(logits: Array) -> Array:
    """What is the same for all classes does not count."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


# -- classifiers -----------------------------------------------------------------------------------------------------------


def classifier(name: str, path: Path, calibration: Sequence[Array], judged: Sequence[Array], labels: Array) -> Task:
    """Batches [n, C, H, W] of inputs to judge by, with their labels one after the other."""
    key = onnxruntime.InferenceSession(str(path)).get_inputs()[0].name
    float_run = Runner(with_logits(path.read_bytes()))
    wanted = np.concatenate([float_run(x).reshape(len(x), -1) for x in judged])

    def judge(model: bytes) -> dict[str, float]:
        run = Runner(with_logits(model))
        got = np.concatenate([run(x).reshape(len(x), -1) for x in judged])
        right, was = got.argmax(1) == labels, wanted.argmax(1) == labels
        return {
            "top-1 %": 100 * float(right.mean()),
            "lost": float(was.sum() - right.sum()),
            "agreement %": 100 * float((got.argmax(1) == wanted.argmax(1)).mean()),
            "SQNR dB": sqnr(centred(wanted), centred(got)),
        }

    return Task(name, path, [{key: x} for x in calibration], {key: calibration[0]}, judge)


def photographs(places: Places, preprocess: str) -> tuple[list[Array], list[Array], Array]:
    """64 photographs to calibrate on, 250 others and their classes."""
    steps = parse_preprocess(preprocess)
    files = sorted(places.photos.glob("*.jpg"), key=lambda p: int(p.stem))
    pool = [f for f in files if int(f.stem) % 4 == 0]
    chosen = [pool[i * len(pool) // SAMPLES] for i in range(SAMPLES)]
    judged = [f for f in files if int(f.stem) % 4][:PHOTOS_JUDGED]
    arrays = [[steps(Image.open(f), str(f)) for f in part] for part in (chosen, judged)]
    return arrays[0], arrays[1], np.asarray([int(f.stem) for f in judged])


def mobilenet(places: Places) -> Task:
    """ImageNet, ReLU6, depthwise, linear bottlenecks."""
    return classifier("mobilenet", places.models / "mobilenet_v2_imagenet_bn.onnx", *photographs(places, "imagenet"))


def squeezenet(places: Places) -> Task:
    """ImageNet, fire modules with Concat."""
    return classifier("squeezenet", places.models / "squeezenet_v1.1_imagenet.onnx", *photographs(places, "caffe,crop=227"))


def small(name: str) -> Task:
    """CIFAR-10."""
    folder = ROOT / cifar.FOLDER
    cifar.fetch(folder)
    train, (test, labels) = cifar.load(folder, "train")[0], cifar.load(folder, "test")
    judged = [cifar.to_input(test[i : i + 250]) for i in range(0, len(test), 250)]
    return classifier(
        name, ROOT / f"models/{name}/{name}.onnx", [cifar.to_input(train[i : i + 1]) for i in range(SAMPLES)], judged, labels
    )


def fashion(places: Places) -> Task:
    """Fashion-MNIST."""
    del places
    folder = ROOT / "models/fashion_rep"
    images, test = np.load(folder / "calib.npz")["image"], np.load(folder / "test.npz")
    judged = [test["image"][i : i + 250] for i in range(0, len(test["image"]), 250)]
    calibration = [images[i : i + 1] for i in range(SAMPLES)]
    return classifier("fashion_rep", folder / "fashion_rep.onnx", calibration, judged, test["labels"])


# -- enlarging -------------------------------------------------------------------------------------------------------------


def crops(places: Places, size: int) -> list[Array]:
    """Middles of the calibration photographs, reduced by two: [1, 3, size, size] in 0..1."""
    steps = parse_preprocess(f"resize=144,crop={size},scale=1/255")
    files = sorted(places.photos.glob("*.jpg"), key=lambda p: int(p.stem))
    pool = [f for f in files if int(f.stem) % 4 == 0]
    return [steps(Image.open(pool[i * len(pool) // SAMPLES]), "") for i in range(SAMPLES)]


def _luma(image: Array) -> Array:
    """ITU-R BT.601, of RGB in 0..255 [H, W, 3]."""
    return np.asarray(16 + image.astype(np.float64) @ np.asarray([65.481, 128.553, 24.966]) / 255)


def enlarger(name: str, path: Path, calibration: list[Array], factor: int, *, border: int, luma: bool) -> Task:
    """PSNR of five photographs, and how far the outputs are from float's."""
    pairs: list[tuple[Array, Array]] = []
    for photograph in enlarging.fetch_judged(ROOT / enlarging.FOLDER / "scikit-image"):
        with Image.open(photograph) as image:
            rgb = image.convert("RGB")
        large = rgb.crop((0, 0, rgb.width // factor * factor, rgb.height // factor * factor))
        pairs.append((enlarging.to_input(enlarging.reduced(large, factor)), np.asarray(large)))
    key = onnxruntime.InferenceSession(str(path)).get_inputs()[0].name
    float_run = Runner(path.read_bytes())
    wanted = [float_run(x) for x, _ in pairs]

    def judge(model: bytes) -> dict[str, float]:
        run = Runner(model)
        figures, noise = [], []
        for (x, large), was in zip(pairs, wanted, strict=True):
            out = run(x)
            inner = (slice(border, -border), slice(border, -border))
            image = np.rint(np.clip(out[0], 0, 1).transpose(1, 2, 0) * 255)
            both = (image[inner], large[inner])
            figures.append(psnr(*(_luma(v) for v in both)) if luma else psnr(*both))
            noise.append(sqnr(was, out))
        return {"PSNR dB": float(np.mean(figures)), "SQNR dB": float(np.mean(noise))}

    return Task(name, path, [{key: x} for x in calibration], {key: calibration[0]}, judge)


def rdn(places: Places) -> Task:
    """A residual dense network, twice the size."""
    path = places.models / "upscalerjs_rdn_psnr_small_x2.onnx"
    return enlarger("rdn", path, crops(places, 48), 2, border=4, luma=True)


def sr_x3(places: Places) -> Task:
    """Three times the size."""
    path = ROOT / "models/sr_x3/sr_x3.dynamo.onnx"
    return enlarger("sr_x3", path, crops(places, 64), 3, border=3, luma=False)


# -- text ------------------------------------------------------------------------------------------------------------------

WORDS = (
    *("graph", "order", "total", "invoice", "street", "number", "paper", "cloud", "river", "market", "signal", "window", "garden"),
    *("letter", "bridge", "summer", "winter", "engine", "silver", "orange", "valley", "island", "record", "travel", "museum"),
)


def lines(count: int, seed: int) -> Iterator[tuple[str, Array]]:
    """Words and numbers in one of three faces, dark on light: the text and [1, 3, 48, W] in -1..1, BGR."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        parts = [str(random.choice(WORDS)) for _ in range(int(random.integers(1, 4)))]
        parts.append("".join(str(d) for d in random.integers(0, 10, int(random.integers(2, 6)))))
        random.shuffle(parts)
        text = "".join(parts) if random.random() < 0.3 else "-".join(parts)
        text = text.upper() if random.random() < 0.3 else text
        font = ImageFont.load_default(float(random.integers(26, 34)))
        width = int(font.getlength(text)) + 24
        ink, paper = int(random.integers(0, 90)), int(random.integers(170, 256))
        image = Image.new("RGB", (width, 48), (paper, paper, paper))
        ImageDraw.Draw(image).text((12, int(random.integers(2, 8))), text, font=font, fill=(ink, ink, ink))
        pixels = np.asarray(image, np.float32)[:, :, ::-1] + random.normal(0, float(random.uniform(0, 12)), (48, width, 3))
        yield text, np.ascontiguousarray((np.clip(pixels, 0, 255) / 255 - 0.5) / 0.5, np.float32).transpose(2, 0, 1)[None]


def text(places: Places) -> Task:
    """A text recogniser of dynamic width, opset 11."""
    path = places.models / "ppocrv6_rec_tiny.onnx"
    proto = onnx.load(str(path))
    table = next(p.value for p in proto.metadata_props if p.key == "character").split("\n")
    table = ["", *(c for c in table if c), " "]
    judged = [(line, np.ascontiguousarray(x)) for line, x in lines(200, 1)]
    float_run = Runner(path.read_bytes())
    wanted = [float_run(x) for _, x in judged]
    key = proto.graph.input[0].name

    def read(scores: Array) -> str:
        best = scores[0].argmax(1)
        kept = [int(i) for n, i in enumerate(best) if i and (n == 0 or i != best[n - 1])]
        return "".join(table[i] for i in kept if i < len(table))

    def judge(model: bytes) -> dict[str, float]:
        run = Runner(model)
        got = [run(x) for _, x in judged]
        was = [read(w) == line for (line, _), w in zip(judged, wanted, strict=True)]
        right = [read(g) == line for (line, _), g in zip(judged, got, strict=True)]
        logs = [[np.log(np.maximum(v, 1e-12)) for v in pair] for pair in zip(wanted, got, strict=True)]
        return {
            "matches": float(sum(right)),
            "of float's %": 100.0 * sum(w and r for w, r in zip(was, right, strict=True)) / max(sum(was), 1),
            "SQNR dB": sqnr(np.concatenate([a.ravel() for a, _ in logs]), np.concatenate([b.ravel() for _, b in logs])),
        }

    calibration = [{key: np.ascontiguousarray(x)} for _, x in lines(SAMPLES, 0)]
    return Task("text", path, calibration, calibration[0], judge)


# -- depth -----------------------------------------------------------------------------------------------------------------

SCENES = 100


def depths(places: Places) -> Task:
    """Depth of synthetic scenes; 100 of the held-out ones judge."""
    del places
    folder = ROOT / "build/depth"
    images = np.load(folder / "calib.npz")["image"]
    kept = folder / f"judged-{SCENES}.npz"
    if not kept.exists():
        scenes = [depth._sample(render.HELD_OUT + i) for i in range(SCENES)]
        np.savez(kept, image=np.stack([s[0] for s in scenes]), depth=np.stack([s[1] for s in scenes]))
    held = np.load(kept)
    inputs = [depth.to_input(image) for image in held["image"]]
    path = ROOT / "models/depth/depth.onnx"
    float_run = Runner(path.read_bytes())
    wanted = np.stack([float_run(x)[0, 0] for x in inputs])

    def judge(model: bytes) -> dict[str, float]:
        run = Runner(model)
        got = np.stack([run(x)[0, 0] for x in inputs])
        errors = [depth.scene_error(g, d)[0] for g, d in zip(got, held["depth"], strict=True)]
        return {"siRMSE": float(np.mean(errors)), "SQNR dB": sqnr(wanted, got)}

    calibration = [{"image": images[i : i + 1]} for i in range(SAMPLES)]
    return Task("depth", path, calibration, calibration[0], judge)


def _of(name: str) -> Callable[[Places], Task]:
    def task(places: Places) -> Task:
        del places
        return small(name)

    return task


TASKS: dict[str, Callable[[Places], Task]] = {
    "mobilenet": mobilenet,
    "squeezenet": squeezenet,
    "rdn": rdn,
    "text": text,
    "cifar_rep": _of("cifar_rep"),
    "cifar_qat": _of("cifar_qat"),
    "cifar_bottleneck": _of("cifar_bottleneck"),
    "fashion_rep": fashion,
    "sr_x3": sr_x3,
    "depth": depths,
}
