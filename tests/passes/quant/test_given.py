"""Models that come with quantizers: what they say is kept, what is missing is added, what cannot be read is refused.

Oracles: the integers and scales that the model came with; the model as it came, run in float; the graph that onnxruntime runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphopt.cli.main import run as graphopt
from graphopt.model import Model
from graphopt.passes.quant import Quant
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import feeds_from, optimized_graph
from graphopt.target import Target
from tests.nets import Net, feed_for, outputs_of

Array = NDArray[Any]
STEP = 0.05
"""Scale of the activations."""


class Trained(Net):
    """A network with the quantizers of training."""

    def fake(self, x: str, *, scale: float = STEP, zero: int = 128, dtype: Any = np.uint8, out: str = "") -> str:
        """An activation through its quantizer."""
        s, z = self.const(np.float32(scale)), self.const(np.asarray(zero, dtype))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, s, z), s, z, out=out)

    def weight(self, values: Array, *, stored: bool = False, dtype: Any = np.int8, axis: int = 0) -> str:
        """A weight through its quantizer: rounded in the graph, or ``stored`` in integers."""
        rows = np.abs(np.moveaxis(values, axis, 0)).reshape(values.shape[axis], -1)
        scale = (rows.max(axis=1) / 127).astype(np.float32)
        middle = np.full(scale.shape, 128 if dtype is np.uint8 else 0, dtype)
        s, z = self.const(scale), self.const(middle)
        spread = scale.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        if stored:
            source = self.const((np.rint(values.astype(np.float32) / spread) + int(middle[0])).astype(dtype))
        else:
            source = self.op("QuantizeLinear", self.const(values), s, z, axis=axis)
        return self.op("DequantizeLinear", source, s, z, axis=axis)

    def kernel(self, x: str, width: int, **how: Any) -> str:
        """Conv 3x3 with a quantized weight, no bias."""
        made = self.op("Conv", x, self.weight(self.random(width, 8, 3, 3, low=-0.1, high=0.1), **how), pads=[1, 1, 1, 1])
        self.widths[made] = width
        return made


def block(net: Trained) -> str:
    x = net.fake(net.input(1, 8, 6, 6))
    x = net.fake(net.op("Relu", net.bn(net.kernel(x, 8))), zero=0)
    return net.fake(net.kernel(x, 8))


def residual(net: Trained) -> str:
    """As exporters leave it: the skip has no quantizer, nor has the sum."""
    x = net.op("Relu", net.kernel(net.fake(net.input(1, 8, 6, 6)), 8))
    y = net.kernel(net.fake(x, zero=0), 8)
    return net.kernel(net.fake(net.op("Add", x, y)), 4)


def clipped_input(net: Trained) -> str:
    """What the quantizer does not let through is taken out before it."""
    return net.fake(net.kernel(net.fake(net.input(1, 8, 6, 6), zero=0), 8))


def unsigned(net: Trained) -> str:
    return net.fake(net.kernel(net.fake(net.input(1, 8, 6, 6)), 8, dtype=np.uint8))


def signed_activations(net: Trained) -> str:
    return net.fake(net.kernel(net.fake(net.input(1, 8, 6, 6), zero=0, dtype=np.int8), 8), zero=3, dtype=np.int8)


def two_readers(net: Trained) -> str:
    x = net.input(1, 8, 6, 6)
    left, right = net.kernel(net.fake(x), 8), net.kernel(net.fake(x), 8)
    return net.op("Concat", net.fake(left), net.fake(right), axis=1)


def pooled(net: Trained) -> str:
    x = net.fake(net.kernel(net.fake(net.input(1, 8, 6, 6)), 8))
    return net.fake(net.kernel(net.fake(net.op("MaxPool", x, kernel_shape=[2, 2])), 4))


def linear(net: Trained) -> str:
    x = net.fake(net.input(2, 8))
    x = net.fake(net.op("Gemm", x, net.weight(net.random(5, 8)), net.const(net.random(5)), transB=1))
    return net.fake(net.op("MatMul", x, net.weight(net.random(5, 6, low=-0.1, high=0.1), axis=1)))


NETS: dict[str, tuple[Callable[[Trained], str], int]] = {
    # network -> its integer kernels
    "block": (block, 2),
    "residual": (residual, 3),
    "a quantizer that is a Relu too": (clipped_input, 1),
    "weights of uint8 around 128": (unsigned, 1),
    "signed activations": (signed_activations, 1),
    "one quantizer for each reader": (two_readers, 2),
    "a quantizer behind a pool": (pooled, 2),
    "Gemm and MatMul": (linear, 2),
    "onnxruntime's": (block, 2),
}


def build(name: str) -> onnx.ModelProto:
    net = Trained()
    proto = net.model(NETS[name][0](net))
    if name == "onnxruntime's":
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        for node in proto.graph.node:
            node.domain = "com.microsoft" if node.op_type.endswith("Linear") else ""
    return proto


def quantize(proto: onnx.ModelProto, **options: Any) -> tuple[Model, Outcome]:
    model = Model.load(proto)
    feeds = feeds_from([feed_for(proto, seed=seed) for seed in range(8)], model)
    options.setdefault("allow_slower", True)
    return model, Quant(**options).run(model, Context(model.copy(), feeds=feeds))


def initializers(proto: onnx.ModelProto) -> dict[str, Array]:
    return {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}


def scales(proto: onnx.ModelProto) -> set[float]:
    """Of the activations."""
    return {float(v) for v in initializers(proto).values() if v.dtype == np.float32 and v.ndim == 0}


@pytest.mark.parametrize("name", NETS)
def test_what_was_trained_is_what_runs(name: str) -> None:
    """Every kernel in integers, as ONNX says and as onnxruntime runs it, within two steps of the outputs as trained."""
    count, proto = NETS[name][1], build(name)
    model, outcome = quantize(proto)
    assert outcome.changed
    found = Counter(n.op_type for n in optimized_graph(model).graph.node)
    assert found["QLinearConv"] + found["QGemm"] + found["QLinearMatMul"] + found["MatMulIntegerToFloat"] == count, found
    assert not found["Conv"] + found["Gemm"] + found["MatMul"] + found["BatchNormalization"]
    for seed in range(20, 24):
        feed = feed_for(proto, seed=seed)
        for expected, got in zip(outputs_of(proto, feed), outputs_of(model.proto(), feed), strict=True):
            assert np.abs(expected - got).max() <= 2.001 * STEP


@pytest.mark.parametrize("name", NETS)
def test_the_integers_and_scales_are_those_that_came(name: str) -> None:
    proto = build(name)
    model, outcome = quantize(proto)
    given: dict[str, int] = outcome.facts["given"]  # type: ignore[assignment]
    assert given["weights"] == NETS[name][1]
    found = scales(model.proto())
    assert np.float32(STEP) in found
    if name == "residual":
        assert given["added"] >= 2
    else:
        assert given["added"] == 0 and found == {float(np.float32(STEP))}
        assert not [note for note in outcome.notes if "NOT calibrated" in note]


@pytest.mark.parametrize("name", NETS)
def test_twice_is_once(name: str) -> None:
    model, _ = quantize(build(name))
    before = model.proto().SerializeToString(deterministic=True)
    outcome = Quant().run(model, Context(model))
    assert not outcome.changed and [r.code for r in outcome.refusals] == ["already-quantized"]
    assert model.proto().SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(("target", "told"), [("ort-x86-avx2", True), ("ort-x86-vnni", False)])
def test_given_weights_that_a_device_may_saturate_are_told(target: str, told: bool) -> None:
    proto = build("block")
    model = Model.load(proto)
    context = Context(model, target=Target.load(target), feeds=feeds_from([feed_for(proto)], model))
    outcome = Quant(placement="kernels").run(model, context)
    assert any("saturate" in note for note in outcome.notes) == told


def normalized(factor: Array, weight: Array) -> onnx.ModelProto:
    """A kernel and a batch normalization that multiplies by ``factor``, with mean 0 and variance 1."""
    net = Trained()
    count = len(factor)
    x = net.fake(net.input(1, 8, 4, 4))
    s, z = net.const(np.full(count, 0.01, np.float32)), net.const(np.zeros(count, np.int8))
    w = net.op("DequantizeLinear", net.op("QuantizeLinear", net.const(weight * np.float32(0.01)), s, z, axis=0), s, z, axis=0)
    zeros, ones = net.const(np.zeros(count)), net.const(np.ones(count))
    x = net.op("BatchNormalization", net.op("Conv", x, w), net.const(factor), zeros, zeros, ones, epsilon=0.0)
    return net.model(net.fake(x))


def test_batch_normalization_goes_into_the_scales() -> None:
    factor = np.array([2.0, -0.5, 0.0, 1.0])
    weight = np.random.default_rng(0).integers(-127, 128, (4, 8, 1, 1)).astype(np.float32)
    model, _ = quantize(normalized(factor, weight))
    (stored,) = [v for v in initializers(model.proto()).values() if v.dtype == np.int8 and v.ndim == 4]
    np.testing.assert_array_equal(stored, weight * np.sign(factor).reshape(4, 1, 1, 1))
    wanted = np.float32(0.01) * np.array([2.0, 0.5, 1.0, 1.0], np.float32)
    vectors = [v for v in initializers(model.proto()).values() if v.dtype == np.float32 and v.shape == (4,)]
    assert any(np.allclose(v, wanted, rtol=1e-7) for v in vectors)


def test_an_integer_without_a_negative_stays_behind_its_normalization() -> None:
    weight = np.full((2, 8, 1, 1), -128, np.float32)
    kept, _ = quantize(normalized(np.array([1.0, -1.0]), weight))
    folded, _ = quantize(normalized(np.array([1.0, 1.0]), weight))
    assert "BatchNormalization" in {n.op_type for n in kept.proto().graph.node}
    assert "BatchNormalization" not in {n.op_type for n in folded.proto().graph.node}


def test_a_tensor_that_float_operators_read_through_its_quantizer_is_still_read_so() -> None:
    """Softmax stays in float; what it reads is rounded as in training."""
    net = Trained()
    x = net.fake(net.op("Gemm", net.fake(net.input(1, 8)), net.weight(net.random(5, 8)), transB=1), scale=0.5)
    y = net.op("Softmax", x)
    proto = net.model(net.op("Add", y, net.op("Erf", x)))
    model, _ = quantize(proto)
    feed = feed_for(proto, seed=3)
    np.testing.assert_allclose(outputs_of(model.proto(), feed)[0], outputs_of(proto, feed)[0], atol=1e-6)


def read_raw(net: Trained) -> str:
    """The quantizer is a Relu as well, but not for the sum."""
    x = net.kernel(net.fake(net.input(1, 8, 6, 6)), 8)
    return net.op("Add", x, net.kernel(net.fake(x, zero=0), 8))


def leaves_clipped(net: Trained) -> str:
    x = net.kernel(net.fake(net.input(1, 8, 6, 6)), 8)
    return net.op("Add", net.op("Sigmoid", x), net.op("Erf", net.fake(x, zero=0)))


def two_ranges(net: Trained) -> str:
    x = net.kernel(net.fake(net.input(1, 8, 6, 6)), 8)
    return net.op("Add", net.kernel(net.fake(x, zero=0), 8), net.kernel(net.fake(x, scale=2 * STEP), 8))


def only_float_around(net: Trained) -> str:
    x = net.op("Tanh", net.kernel(net.fake(net.input(1, 8, 6, 6)), 8))
    return net.op("Erf", net.fake(x, zero=0, scale=0.01))


def halves_of_two_scales(net: Trained) -> str:
    x = net.kernel(net.fake(net.input(1, 8, 6, 6)), 8)
    first, second = (
        net.op("Slice", x, net.const(np.array([k])), net.const(np.array([k + 4])), net.const(np.array([1]))) for k in (0, 4)
    )
    return net.op("Concat", net.fake(first), net.fake(second, scale=0.001), axis=1)


CLIPPED = {make.__name__: make for make in (read_raw, leaves_clipped, two_ranges, only_float_around, halves_of_two_scales)}


@pytest.mark.parametrize("name", CLIPPED)
@pytest.mark.parametrize("placement", ["kernels", "cost"])
def test_a_quantizer_clips_for_those_who_read_through_it(name: str, placement: str) -> None:
    net = Trained()
    proto = net.model(CLIPPED[name](net))
    model, _ = quantize(proto, placement=placement, ranges="minmax", bias="keep", rounding="nearest")
    for seed in range(4):
        feed = feed_for(proto, seed=seed)
        expected, got = outputs_of(proto, feed)[0], outputs_of(model.proto(), feed)[0]
        assert np.abs(expected - got).max() <= 0.1 * np.abs(expected).max()


def test_stored_integers_are_left_and_made_anew_when_asked() -> None:
    net = Trained()
    proto = net.model(net.fake(net.kernel(net.fake(net.input(1, 8, 6, 6), scale=0.5), 8, stored=True)))
    _, left = quantize(proto)
    assert [r.code for r in left.refusals] == ["already-quantized"]
    model, outcome = quantize(proto, requantize=True, placement="kernels")
    assert outcome.changed
    assert 0.5 not in scales(model.proto()), "one step for all that the data holds: it must be found finer"
    feed = feed_for(proto, seed=30)
    net = Trained()
    exact = net.model(net.kernel(net.input(1, 8, 6, 6), 8, stored=True))
    wanted, was, now = (outputs_of(p, feed)[0] for p in (exact, proto, model.proto()))
    assert ((now - wanted) ** 2).sum() < 0.25 * ((was - wanted) ** 2).sum()


def per_channel(net: Trained) -> str:
    x = net.input(1, 8, 6, 6)
    s, z = net.const(np.full(8, STEP, np.float32)), net.const(np.full(8, 128, np.uint8))
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", x, s, z, axis=1), s, z, axis=1)
    return net.kernel(x, 8)


def moved_in_integers(net: Trained) -> str:
    s, z = net.const(np.float32(STEP)), net.const(np.uint8(128))
    x = net.op("QuantizeLinear", net.input(1, 8, 6, 6), s, z)
    return net.kernel(net.op("DequantizeLinear", net.op("MaxPool", x, kernel_shape=[1, 1]), s, z), 8)


def computed_scale(net: Trained) -> str:
    s, z = net.op("Abs", net.input("k", name="s")), net.const(np.uint8(128))
    s = net.op("ReduceMax", s, keepdims=0)
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", net.input(1, 8, 6, 6), s, z), s, z)
    return net.kernel(x, 8)


def other_scale(net: Trained) -> str:
    z = net.const(np.uint8(128))
    x = net.op("QuantizeLinear", net.input(1, 8, 6, 6), net.const(np.float32(STEP)), z)
    return net.kernel(net.op("DequantizeLinear", x, net.const(np.float32(2 * STEP)), z), 8)


def dynamic(net: Trained) -> str:
    x = net.input(1, 8, 6, 6)
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ["q", "s", "z"]))
    return net.kernel(net.op("DequantizeLinear", "q", "s", "z"), 8)


REFUSED: dict[str, tuple[Callable[[Trained], str], str]] = {
    "a scale for each channel of an activation": (per_channel, "per-channel"),
    "an operator on integers": (moved_in_integers, "no-pair"),
    "a scale that is computed": (computed_scale, "scale"),
    "undone with another scale": (other_scale, "no-pair"),
    "quantized at run time": (dynamic, "integer-operators"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("requantize", [False, True])
def test_what_cannot_be_read_is_left_as_it_is(name: str, requantize: bool) -> None:
    make, code = REFUSED[name]
    net = Trained()
    proto = net.model(make(net))
    model = Model.load(proto)
    before = model.proto().SerializeToString(deterministic=True)
    outcome = Quant(requantize=requantize).run(model, Context(model.copy()))
    assert not outcome.changed
    assert outcome.refusals[0].code == code
    assert model.proto().SerializeToString(deterministic=True) == before


def test_outputs_keep_their_names_and_inputs_their_types() -> None:
    net = Trained()
    x = net.input(1, 8, 6, 6)
    shown = net.fake(x, out="shown")
    proto = net.model(net.fake(net.kernel(shown, 8), out="result"))
    proto.graph.output.append(helper.make_tensor_value_info("shown", TensorProto.FLOAT, [1, 8, 6, 6]))
    model, outcome = quantize(proto)
    assert outcome.changed
    result = model.proto()
    assert [o.name for o in result.graph.output] == [o.name for o in proto.graph.output]
    feed = feed_for(proto, seed=4)
    for expected, got in zip(outputs_of(proto, feed), outputs_of(result, feed), strict=True):
        assert np.abs(expected - got).max() <= 1.001 * STEP


def test_the_command_makes_them_anew(tmp_path: Path) -> None:
    proto = build("block")
    onnx.save(proto, str(tmp_path / "in.onnx"))
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed_for(proto, seed=seed)["x"] for seed in range(4)]))
    words = ["run", str(tmp_path / "in.onnx"), "--passes", "quant:placement=kernels", "--data", str(tmp_path / "data.npz")]
    words += ["--allow-slower", "--no-timing"]
    kept, anew = tmp_path / "kept.onnx", tmp_path / "anew.onnx"
    assert graphopt([*words, "-o", str(kept)]) == 0
    assert graphopt([*words, "--requantize", "-o", str(anew)]) == 0
    assert [np.float32(STEP) in scales(onnx.load(path)) for path in (kept, anew)] == [True, False]
