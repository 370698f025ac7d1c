"""Quantizers of every form: parameters for all, for a channel, for a block, and such as fit nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.check import registry
from graphopt.check.runner import Settings, check_file
from graphopt.check.subject import Asked
from graphopt.model import Model
from graphopt.ops.quantizers import Scale, dequantize
from graphopt.pipeline import Context
from graphopt.pipeline.placement import planned
from graphopt.target import Target
from tests.check.number_cases import Integers

RNG = np.random.default_rng(0)
STORED = RNG.integers(-100, 100, (6, 4)).astype(np.int8)


def scale_of(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RNG.uniform(0.01, 0.02, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "axis", "block", "factors"),
    [
        ((), 1, 0, lambda s: s),
        ((1,), 7, 0, lambda s: s),
        ((4,), 1, 0, lambda s: s[None, :]),
        ((4,), -1, 0, lambda s: s[None, :]),
        ((6,), 0, 0, lambda s: s[:, None]),
        ((3, 4), 0, 2, lambda s: np.repeat(s, 2, 0)),
        ((2, 4), 0, 4, lambda s: np.repeat(s, 4, 0)[:6]),  # the last block is not whole
    ],
)
def test_each_element_has_its_scale(shape: tuple[int, ...], axis: int, block: int, factors: object) -> None:
    scale = scale_of(*shape)
    found = dequantize(STORED, Scale(scale, None, axis, block))
    assert found is not None
    np.testing.assert_allclose(found, STORED * factors(scale), rtol=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize(("shape", "axis", "block"), [((5,), 0, 0), ((4,), 5, 0), ((3, 4), 0, 0), ((3, 4), 0, 3)])
def test_what_fits_nothing_gives_nothing(shape: tuple[int, ...], axis: int, block: int) -> None:
    assert dequantize(STORED, Scale(scale_of(*shape), None, axis, block)) is None


def blocks(kind: int) -> onnx.ModelProto:
    """The weights of a language model: a scale for 16 of them."""
    values = RNG.integers(-7, 7, (64, 32))
    weight = helper.make_tensor("w", kind, [64, 32], values.reshape(-1).tolist())
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], axis=0, block_size=16),
        helper.make_node("MatMul", ["x", "wf"], ["y"]),
    ]
    zero = helper.make_tensor("z", kind, [4, 32], [0] * 128)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [4, 64]), ("y", [4, 32]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight, numpy_helper.from_array(scale_of(4, 32), "s"), zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def convolution(scales: int, axis: int, biases: int) -> onnx.ModelProto:
    net = Integers()
    x = net.quantized(net.input(1, 16, 8, 8))
    weight = net.dequantize(
        RNG.integers(-9, 9, (16, 16, 3, 3)).astype(np.int8), scale_of(scales), np.zeros(scales, np.int8), axis=axis
    )
    bias = net.dequantize(np.zeros(16, np.int32), scale_of(biases), np.zeros(biases, np.int32), axis=0)
    return net.model(net.quantized(net.op("Conv", x, weight, bias, pads=[1] * 4, kernel_shape=[3, 3])))


@pytest.mark.parametrize(
    "model",
    [blocks(TensorProto.INT8), blocks(TensorProto.INT4), convolution(5, 0, 16), convolution(16, 5, 16), convolution(16, 0, 4)],
    ids=["blocks", "blocks of int4", "scales", "axis", "bias"],
)
def test_the_rules_can_be_asked(model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "model.onnx")
    result = check_file(tmp_path / "model.onnx", Settings(Asked(Target.load("ort-x86-vnni")), registry.chosen(["GO2"], [])))
    assert {"GO203", "GO204", "GO205", "GO206", "GO207", "GO208"} <= set(result.ran)


def test_a_bias_has_as_many_scales_as_its_weight(tmp_path: Path) -> None:
    onnx.save(convolution(16, 0, 4), tmp_path / "model.onnx")
    result = check_file(tmp_path / "model.onnx", Settings(Asked(Target.load("ort-x86-vnni")), ["GO204"]))
    assert [f.why for f in result.findings if f.code == "GO204"] == ["its bias has 4 scales, its input 1 and its weight 16"]


def narrow_middle() -> onnx.ModelProto:
    """A net whose convolution of four channels is left in float by the estimate's best placement, not by the first to be tried."""
    net = Integers()
    x = net.op("Relu", net.conv(net.input(1, 64, 32, 32), 64, pad=1))
    for width in (4, 64):
        x = net.op("Sigmoid", x)
        net.widths[x] = 64 if width == 4 else 4
        x = net.conv(x, width)
    return net.model(x)


def test_the_placements_of_the_net_below_differ() -> None:
    model = Model.load(narrow_middle())
    first, second = planned(model, Context(model.copy()))
    assert second < first


@pytest.mark.parametrize("placement", ["kernels", "cost"])
def test_no_placement_that_a_run_may_end_with_is_complained_of(placement: str, tmp_path: Path) -> None:
    onnx.save(
        graphopt.run(narrow_middle(), f"quant:placement={placement}:allow-slower", timing=False).model.proto(),
        tmp_path / "model.onnx",
    )
    result = check_file(tmp_path / "model.onnx", Settings(Asked(Target.load("ort-x86-vnni")), ["GO201", "GO202"]))
    assert not result.findings
    assert result.ran == ("GO201", "GO202")


def test_a_check_of_placement_times_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(*_: object, **__: object) -> None:
        raise AssertionError("a static rule looked at the clock")

    monkeypatch.setattr("graphopt.runtime.timing.paired_times", timed)
    onnx.save(narrow_middle(), tmp_path / "model.onnx")
    result = check_file(tmp_path / "model.onnx", Settings(Asked(Target.load("ort-x86-vnni")), ["GO200"]))
    assert [f.code for f in result.findings] == ["GO200"]


def test_integer_operators_are_named_as_the_reason(tmp_path: Path) -> None:
    net = Integers()
    scale, zero = net.const(np.float32(0.05)), net.const(np.uint8(128))
    weight = net.const(RNG.integers(-9, 9, (16, 16, 3, 3)).astype(np.int8))
    x = net.op("QuantizeLinear", net.input(1, 16, 8, 8), scale, zero)
    x = net.op("Cast", net.op("ConvInteger", x, weight, zero, pads=[1] * 4), to=TensorProto.FLOAT)
    net.widths[x] = 16
    onnx.save(net.model(net.conv(x, 16)), tmp_path / "model.onnx")
    result = check_file(tmp_path / "model.onnx", Settings(Asked(Target.load("ort-x86-vnni")), ["GO201"]))
    assert "computes with integers" in result.skipped["GO201"]
