"""Every reason for which fold leaves a region alone: its code stands in the documentation, and has a case here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from tests.nets import Net
from tests.passes.fold.moved import Build, deconv, ints, upscaled, x

ROOT = Path(__file__).parents[3]
RAISED = re.compile(r'Refused\(\s*"([a-z-]+)"')
Made = onnx.ModelProto


def codes_in_source() -> set[str]:
    rooms = [ROOT / "graphopt" / "ops" / "affine", ROOT / "passes" / "fold"]
    files = [*(f for room in rooms for f in room.glob("*.py")), ROOT / "graphopt" / "analysis" / "affine.py"]
    return {code for file in files for code in RAISED.findall(file.read_text(encoding="utf-8"))}


def codes_in_docs() -> list[str]:
    return re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "fold.md").read_text(encoding="utf-8"), re.MULTILINE)


def open_bias(net: Net) -> str:
    return net.conv(net.conv(x(net, size="s"), 32, 1), 4, 3, pad=1)


def gelu(net: Net) -> str:
    i = net.input(2, 5, 8)
    y = net.op("Add", net.op("MatMul", i, net.const(net.random(8, 8))), net.const(net.random(8)))
    erf = net.op("Erf", net.op("Div", y, net.const(np.sqrt(2.0))))
    return net.op("Mul", net.op("Mul", y, net.op("Add", erf, net.const(1.0))), net.const(0.5))


def pooled(**attrs: object) -> Build:
    return lambda net: net.op("AveragePool", net.conv(x(net), 4, 1), kernel_shape=[2, 2], **attrs)


def resized(mode: str, factor: float) -> Build:
    scales = np.asarray([1, 1, factor, factor], np.float32)
    return lambda net: net.conv(net.op("Resize", x(net), "", net.const(scales), mode=mode), 4)


def padded(mode: str, value: float) -> Build:
    def build(net: Net) -> str:
        fill = [net.const(value)] if mode == "constant" else []
        return net.conv(net.op("Pad", x(net), ints(net, 0, 0, 1, 1, 0, 0, 1, 1), *fill, mode=mode), 4)

    return build


def normed(variance: float = 1.0, **attrs: int) -> Build:
    def build(net: Net) -> str:
        y, shift = net.conv(x(net), 4), net.const(np.zeros(4))
        return net.op("BatchNormalization", y, net.const(np.ones(4)), shift, shift, net.const(np.full(4, variance)), **attrs)

    return build


def training(net: Net) -> str:
    y, shift = net.conv(x(net), 4), net.const(np.zeros(4))
    ones = net.const(np.ones(4))
    return net.op("BatchNormalization", y, ones, shift, shift, ones, outputs=3, training_mode=1)


def any_rank(net: Net) -> str:
    net.inputs.append(onnx.helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, ["rank"]))
    open_rank = net.bn_of(net.op("Reshape", x(net), "shape"), 4)
    return net.op("Reshape", open_rank, net.const(np.asarray([1, -1])))


def split(net: Net) -> str:
    net.nodes.append(onnx.helper.make_node("Split", [net.conv(x(net), 8)], list("abcd"), name="split", axis=1))
    net.widths |= dict.fromkeys("abcd", 2)
    return net.op("Concat", *(net.op("Relu", part) for part in "abcd"), axis=1)


def read_twice(net: Net) -> str:
    y = net.conv(x(net), 16, 1)
    return net.op("Concat", net.conv(y, 4, 1), net.op("Relu", y), axis=1)


def behind(activation: str, low: float) -> Build:
    factor = np.linspace(low, 1.0, 4).reshape(4, 1, 1)
    return lambda net: net.op("Mul", net.op(activation, net.conv(x(net), 4)), net.const(factor))


def infinite(net: Net) -> str:
    weight = net.random(4, 4, 1, 1)
    weight[0, 0] = np.inf
    return net.bn(net.op("Conv", x(net), net.const(weight)))


CASES: dict[str, Callable[[], Made]] = {}


def case(code: str, build: Build, dtype: type = np.float32, opset: int = 17) -> None:
    def make() -> Made:
        net = Net(3, dtype, opset)
        return net.model(build(net), ir=8)

    CASES[code] = make


case("activation", behind("Sigmoid", 0.5))
case("attributes", lambda n: n.bn(deconv(n, x(n), 4, 2, 2, auto_pad="SAME_UPPER")))
case("batch-norm-per-element", normed(spatial=0), opset=8)
case("batch-norm-training", training)
case("batch-norm-variance", normed(-1.0))
case("bias-per-row", lambda n: n.op("Gemm", n.input(3, 8), n.const(n.random(8, 4)), n.const(n.random(3, 1))))
case("bias-under-padding", open_bias)
case("border-continues", lambda n: n.conv(n.conv(x(n), 32, 3, bias=False), 4, 1, pad=1))
case("border-map", lambda n: n.conv(n.bn(x(n)), 6, pad=1))
case("cost", lambda n: n.conv(n.conv(x(n), 4, 3, group=4), 8, 1))
case("different-roots", lambda n: n.op("Add", n.conv(x(n), 4, pad=1), n.input(1, 4, 9, 9, name="z")))
case("division-by-zero", lambda n: n.op("Div", n.conv(x(n), 4), n.const(0.0)))
case("dynamic-auto-pad", lambda n: n.bn(n.conv(x(n, size="s"), 4, auto_pad="SAME_UPPER")))
case("dynamic-mean", lambda n: n.op("GlobalAveragePool", n.conv(x(n, size="s"), 16, 1)))
case("extra-consumer", read_twice)
case("fused-by-runtime", gelu)
case("layout", lambda n: n.op("MatMul", n.conv(x(n), 4, 1), n.const(n.random(9, 5))))
case("non-finite-weights", infinite)
case("overflow", lambda n: n.op("Mul", n.op("Mul", n.conv(x(n), 4), n.const(6e4)), n.const(6e4)), np.float16)
case("pad-mode", padded("reflect", 0.0))
case("pad-value", padded("constant", np.inf))
case("parts-cost", split)
case("phases", lambda n: n.conv(upscaled(n, n.conv(x(n), 8, 3, pad=1), 2), 2, 1, strides=[3, 3]))
case("pool-excludes-pad", pooled(pads=[1, 1, 1, 1]))
case("pool-rounding", pooled(ceil_mode=1))
case("resize-mode", resized("linear", 2.0))
case("resize-scale", resized("nearest", 1.5))
case("scale-sign", behind("Relu", -2.0))
case("sizes", lambda n: n.op("Add", n.conv(i := x(n, size=1), 4, 1), n.conv(i, 4, 3, pad=2)))
case("strides", lambda n: n.op("Add", n.conv(i := x(n, size=1), 4, 1, strides=[2, 2]), n.conv(i, 4, 3, pad=1)))
case("too-large", lambda n: n.conv(n.conv(x(n, size="s"), 4, dilations=[2**13, 2**13]), 4))
case("unknown-shape", any_rank)
case("weights-not-constant", lambda n: n.bn_of(n.op("Conv", x(n), n.op("Relu", n.input(4, 4, 3, 3, name="w"))), 4))


def graph_output() -> Made:
    net = Net()
    inner = net.conv(x(net), 32, 3, pad=1)
    return net.model(net.conv(inner, 4, 1), inner)


def unknown_size() -> Made:
    """A tensor that another domain's operator makes: nobody knows its size."""
    net = Net()
    y = net.op("Custom", x(net), domain="somewhere")
    out = net.op("Conv", net.op("Conv", y, net.const(net.random(16, 4, 1, 1))), net.const(net.random(4, 16, 1, 1)))
    kind = onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(net.nodes, "net", net.inputs, [kind], net.initializers)
    sets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("somewhere", 1)]
    return onnx.helper.make_model(graph, opset_imports=sets, ir_version=8)


CASES |= {"graph-output": graph_output, "unknown-size": unknown_size}


def test_every_code_is_documented_and_every_documented_code_is_told() -> None:
    documented = codes_in_docs()
    assert documented == sorted(set(documented))
    assert set(documented) == codes_in_source()


def test_every_code_has_a_case() -> None:
    assert set(CASES) == codes_in_source()


@pytest.mark.parametrize("code", CASES)
def test_code(code: str) -> None:
    model = Model.load(CASES[code]())
    outcome = Fold(simplify=False).run(model, Context(model.copy()))
    assert code in {r.code for r in outcome.refusals}


@pytest.mark.parametrize(("bias", "told"), [(3e38, True), (1e6, False)])
def test_where_sums_overflow_nothing_is_moved(bias: float, told: bool) -> None:
    """The mean of 64 of these is infinite in float32, and a mean that moves before the convolution would not be."""
    net = Net()
    y = net.op("Conv", net.input(1, 4, 8, 8), net.const(net.random(4, 4, 1, 1)), net.const(np.full(4, bias)))
    model = Model.load(net.model(net.op("GlobalAveragePool", y)))
    outcome = Fold(simplify=False).run(model, Context(model.copy()))
    assert ("overflow" in {r.code for r in outcome.refusals}) == told
