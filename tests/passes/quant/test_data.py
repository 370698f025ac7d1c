"""Calibration data that is bad: an error with a code and nothing written, or a warning that names the tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from graphopt.cli.main import run as graphopt
from graphopt.model import Model
from graphopt.passes.quant import Quant
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import Session, feeds_from
from tests.nets import Net

X = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)


def network(*shape: int | str) -> onnx.ModelProto:
    net = Net(1)
    x = net.op("Relu", net.conv(net.input(*(shape or (1, 3, 8, 8))), 8, 3, pad=1))
    return net.model(net.conv(x, 4, 1))


def with_nan(value: float) -> NDArray[np.float32]:
    array = X.copy()
    array[3, 1, 2, 2] = value
    return array


WRITTEN: dict[str, tuple[Callable[[Path], object], str]] = {
    # file of samples -> code
    "no array": (np.savez, "GO808"),
    "no sample": (lambda p: np.savez(p, x=X[:0]), "GO808"),
    "NaN": (lambda p: np.savez(p, x=with_nan(np.nan)), "GO807"),
    "infinite": (lambda p: np.savez(p, x=with_nan(-np.inf)), "GO807"),
    "text": (lambda p: np.savez(p, x=np.array(["a", "b"])), "GO806"),
    "complex": (lambda p: np.savez(p, x=X.astype(np.complex64)), "GO806"),
    "channels": (lambda p: np.savez(p, x=X[:, :2]), "GO805"),
    "rank": (lambda p: np.savez(p, x=X[0, 0]), "GO805"),
    "name": (lambda p: np.savez(p, image=X), "GO804"),
    "pickled": (lambda p: np.savez(p, x=np.array([{}, None], dtype=object)), "GO809"),
    "not a file of arrays": (lambda p: p.write_bytes(b"x" * 100), "GO801"),
    "nothing": (lambda p: p.write_bytes(b""), "GO801"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_coded_error_and_nothing_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, code = WRITTEN[name]
    onnx.save(network(), str(tmp_path / "m.onnx"))
    write(tmp_path / "data.npz")
    words = ["run", str(tmp_path / "m.onnx"), "--passes", "quant", "--data", str(tmp_path / "data.npz")]
    assert graphopt([*words, "-o", str(tmp_path / "out.onnx")]) == 2
    assert code in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


def quantized(proto: onnx.ModelProto, feeds: list[NDArray[Any]]) -> tuple[Model, Outcome]:
    model = Model.load(proto)
    ctx = Context(model.copy(), feeds=feeds_from([{"x": f} for f in feeds], model), timing=False)
    return model, Quant(placement="kernels", allow_slower=True).run(model, ctx)


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "zero on all data, so its range is a guess: 'x'"), (0.5, "one and the same value on all data")]
)
def test_a_constant_is_warned_of(value: float, told: str) -> None:
    model, outcome = quantized(network(), [np.full((1, 3, 8, 8), value, np.float32)] * 3)
    (note,) = [n for n in outcome.notes if told in n]
    assert "'x'" in note
    assert all(np.isfinite(v).all() for v in Session(model).run({"x": X[:1]}).values())


FEW: dict[str, tuple[tuple[int | str, ...], list[NDArray[Any]]]] = {
    "one sample": ((1, 3, 8, 8), [X[:1]]),
    "two samples": ((1, 3, 8, 8), [X[:1], X[1:2]]),
    "sizes that differ": ((1, 3, "h", "w"), [X[:1], X[1:2, :, :5, :7], X[2:3, :, :3, :3], X[3:4]]),
    "batches that differ": (("n", 3, 8, 8), [X[:1], X[1:4], X[4:6]]),
}


@pytest.mark.parametrize("name", FEW)
def test_few_samples_and_odd_ones_will_do(name: str) -> None:
    shape, feeds = FEW[name]
    proto = network(*shape)
    model, outcome = quantized(proto, feeds)
    assert outcome.changed
    exact, integer = Session(Model.load(proto)), Session(model)
    for feed in feeds:
        for wanted, got in zip(exact.run({"x": feed}).values(), integer.run({"x": feed}).values(), strict=True):
            assert np.abs(wanted - got).max() <= 0.05 * np.ptp(wanted)


@pytest.mark.parametrize("size", [1e18, 1e-30])
def test_values_whose_squares_leave_float32(size: float) -> None:
    """The second convolution is rounded as if what it reads were of middling size."""

    def scaled(by: float) -> onnx.ModelProto:
        net = Net(1)
        x = net.op("Conv", net.input(1, 3, 8, 8), net.const(net.random(8, 3, 3, 3) * by), net.const(net.random(8) * by))
        return net.model(net.op("Conv", net.op("Relu", x), net.const(net.random(8, 8, 1, 1))))

    def stored(proto: onnx.ModelProto) -> list[NDArray[Any]]:
        model = Model.load(proto)
        ctx = Context(model.copy(), feeds=feeds_from([{"x": x[None]} for x in X], model), timing=False)
        options: dict[str, Any] = {"ranges": "minmax", "equalize": "off", "rounding": "second-order", "bias": "keep"}
        Quant(placement="kernels", allow_slower=True, **options).run(model, ctx)
        return [
            v for v in map(numpy_helper.to_array, model.proto().graph.initializer) if v.dtype == np.int8 and v.shape == (8, 8, 1, 1)
        ]

    np.testing.assert_allclose(stored(scaled(size)), stored(scaled(1.0)), atol=1)
