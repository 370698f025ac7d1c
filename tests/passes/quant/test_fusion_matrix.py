"""What onnxruntime makes of QuantizeLinear and DequantizeLinear: each line is a fact that the target's table relies on.

The oracle is the graph that onnxruntime runs. Each model is also run with and without onnxruntime's rewrites, which must agree
within one step of the output's scale.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.runtime import Session, optimized_graph

STEP = 0.05
IMAGE = (1, 16, 8, 8)


class Lab:
    """A QDQ model under construction; tensors are names."""

    def __init__(self, act: str = "uint8", opset: int = 17) -> None:
        self.act, self.opset = act, opset
        self.least = 0 if act == "uint8" else -128
        self.middle = self.least + 128
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.rng = np.random.default_rng(0)

    def input(self, *shape: int | str) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def const(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{len(self.nodes)}", **attrs))
        return name

    def quantize(self, x: str, scale: float = STEP, zero: int | None = None) -> str:
        return self.op("QuantizeLinear", x, *self.affine(scale, zero))

    def dequantize(self, x: str, scale: float = STEP, zero: int | None = None) -> str:
        return self.op("DequantizeLinear", x, *self.affine(scale, zero))

    def affine(self, scale: float, zero: int | None) -> tuple[str, str]:
        return self.const(np.float32(scale)), self.const(np.asarray(self.middle if zero is None else zero, self.act))

    def pair(self, x: str, scale: float = STEP, zero: int | None = None) -> str:
        return self.dequantize(self.quantize(x, scale, zero), scale, zero)

    def stored(self, *shape: int) -> str:
        """A quantized constant operand."""
        return self.dequantize(self.const(self.rng.integers(1, 50, shape).astype(self.act)), 0.02, self.least)

    def weight(self, *shape: int, axis: int = 0, bias: bool = True, off: float = 1.0, per_channel: bool = True) -> list[str]:
        n = shape[axis]
        scale = (0.01 + 1e-4 * np.arange(n)).astype(np.float32) if per_channel else np.float32(0.01)
        along = {"axis": axis} if per_channel else {}
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        w = self.op("DequantizeLinear", self.const(values), self.const(scale), self.const(np.zeros_like(scale, np.int8)), **along)
        if not bias:
            return [w]
        b_scale = (np.float32(STEP) * scale * np.float32(off)).astype(np.float32)
        b = self.const(self.rng.integers(-500, 500, n).astype(np.int32))
        along = {"axis": 0} if per_channel else {}
        return [w, self.op("DequantizeLinear", b, self.const(b_scale), self.const(np.zeros_like(b_scale, np.int32)), **along)]

    def model(self, *outputs: str) -> onnx.ModelProto:
        outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "lab", self.inputs, outs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def kernels(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in optimized_graph(model).graph.node)


def worst_step(model: onnx.ModelProto, seed: int = 0) -> float:
    """Largest difference between the rewritten graph and the graph as it stands, in steps of the coarsest quantizer."""
    rng = np.random.default_rng(seed)
    feed = {
        v.name: (3 * rng.standard_normal([d.dim_value or 4 for d in v.type.tensor_type.shape.dim])).astype(np.float32)
        for v in model.graph.input
    }
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    step = max(float(values[n.input[1]].max()) for n in model.graph.node if n.op_type == "QuantizeLinear")
    fast, plain = Session(model).run(feed), Session(model, optimize=False).run(feed)
    return max(float(np.abs(fast[k] - plain[k]).max()) for k in fast) / step


def int64(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


# -- one operator between quantizers -----------------------------------------------------------------------------------------


def alone(op: str, *constants: Any, shape: tuple[int, ...] = IMAGE, scale: float = STEP, zero: int | None = None, opset: int = 17,
          operands: int = 1, act: str = "uint8", behind: str = "", **attrs: Any) -> onnx.ModelProto:  # fmt: skip
    lab = Lab(act, opset)
    inputs = [lab.pair(lab.input(*shape)) for _ in range(operands)]
    y = lab.op(op, *inputs, *("" if c is None else lab.const(c) for c in constants), **attrs)
    if behind:
        y = lab.op(behind, y)
    return lab.model(lab.op("Neg", lab.pair(y, scale, zero)))


KERNELS = {
    "Add": (alone("Add", operands=2, scale=0.06), "QLinearAdd"),
    "Add of a tensor and itself": (alone("Add", operands=2), "QLinearAdd"),
    "Mul": (alone("Mul", operands=2, scale=0.06), "QLinearMul"),
    "Concat of equal scales": (alone("Concat", operands=2, axis=1), "QLinearConcat"),
    "Concat to another scale": (alone("Concat", operands=2, axis=1, scale=0.06), "QLinearConcat"),
    "Sigmoid": (alone("Sigmoid", scale=1 / 255, zero=0), "QLinearSigmoid"),
    "LeakyRelu": (alone("LeakyRelu", scale=0.06), "QLinearLeakyRelu"),
    "Softmax": (alone("Softmax", axis=1, scale=1 / 255, zero=0), "QLinearSoftmax"),
    "AveragePool": (alone("AveragePool", kernel_shape=[2, 2]), "QLinearAveragePool"),
    "GlobalAveragePool": (alone("GlobalAveragePool", scale=0.06), "QLinearGlobalAveragePool"),
    "GlobalAveragePool, 1 dimension": (alone("GlobalAveragePool", shape=(1, 4, 9)), "QLinearGlobalAveragePool"),
    "MatMul of two activations": (alone("MatMul", operands=2), "QLinearMatMul"),
    "Add and Relu, zero point least": (alone("Add", operands=2, behind="Relu", zero=0), "QLinearAdd"),
    "Concat and Relu, zero point least": (alone("Concat", operands=2, axis=1, behind="Relu", zero=0), "QLinearConcat"),
}


@pytest.mark.parametrize("name", KERNELS)
def test_integer_kernels(name: str) -> None:
    model, kernel = KERNELS[name]
    found = kernels(model)
    assert found[kernel] == 1
    assert set(found) <= {kernel, "QuantizeLinear", "DequantizeLinear", "Neg"}
    assert worst_step(model) < 1.01


FLOOR_RESIZE = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
TWICE = np.asarray([1, 1, 2, 2], np.float32)
MOVES: dict[str, dict[str, Any]] = {
    "MaxPool": {"kernel_shape": [2, 2]},
    "Reshape": {"constants": [int64(1, -1)]},
    "Flatten": {},
    "Transpose": {"perm": [0, 2, 3, 1]},
    "Slice": {"constants": [int64(0), int64(4), int64(1)]},
    "DepthToSpace": {"blocksize": 2},
    "Resize": {"constants": [None, TWICE], **FLOOR_RESIZE},
    "Gather": {"constants": [int64(1, 2)], "axis": 1},
    "Squeeze": {"shape": (1, 16, 1, 8), "constants": [int64(2)]},
    "Unsqueeze": {"constants": [int64(2)]},
    "Tile": {"constants": [int64(1, 1, 2, 2)]},
    "Expand": {"shape": (1, 16, 1, 1), "constants": [int64(1, 16, 4, 4)]},
}


def moved(op: str, **kwargs: Any) -> onnx.ModelProto:
    settings = {**MOVES[op], **kwargs}
    return alone(op, *settings.pop("constants", []), **settings)


@pytest.mark.parametrize("op", MOVES)
def test_movement_passes_through_with_equal_scales(op: str) -> None:
    assert kernels(moved(op)) == {"QuantizeLinear": 1, op: 1, "DequantizeLinear": 1, "Neg": 1}


@pytest.mark.parametrize("op", MOVES)
def test_movement_stays_in_float_with_another_scale(op: str) -> None:
    assert kernels(moved(op, scale=0.06))["DequantizeLinear"] == 2


@pytest.mark.parametrize(("opset", "integer"), [(10, False), (11, False), (12, True), (13, True)])
def test_max_pool_takes_bytes_from_opset_12(opset: int, integer: bool) -> None:
    assert (kernels(moved("MaxPool", opset=opset))["DequantizeLinear"] == 1) == integer


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
def test_what_does_nothing_vanishes(op: str) -> None:
    lab = Lab()
    x = lab.quantize(lab.op("Conv", lab.pair(lab.input(*IMAGE)), *lab.weight(16, 16, 3, 3)))
    y = lab.quantize(lab.op(op, lab.dequantize(x)))
    z = lab.pair(lab.op("Conv", lab.dequantize(y), *lab.weight(16, 16, 3, 3)))
    found = kernels(lab.model(lab.op("Neg", z)))
    assert found["QLinearConv"] == 2 and found["DequantizeLinear"] == 1


ISLANDS: dict[str, onnx.ModelProto] = {
    "Sub": alone("Sub", operands=2),
    "Div": alone("Div", operands=2),
    "Max": alone("Max", operands=2),
    "HardSwish": alone("HardSwish"),
    "HardSigmoid": alone("HardSigmoid"),
    "Tanh": alone("Tanh"),
    "PRelu": alone("PRelu", np.full((16, 1, 1), 0.1, np.float32)),
    "ReduceMean": alone("ReduceMean", axes=[2, 3]),
    "SpaceToDepth": alone("SpaceToDepth", blocksize=2),
    "Pad": alone("Pad", int64(0, 0, 1, 1, 0, 0, 1, 1)),
    "Resize": alone("Resize", None, TWICE, mode="linear"),
    "GlobalMaxPool": alone("GlobalMaxPool"),
    "LayerNormalization": alone("LayerNormalization", np.ones(8, np.float32)),
    "Relu": alone("Relu"),
    "Clip": alone("Clip", np.float32(-0.5), np.float32(0.5)),
    "Mul": alone("Mul", np.full((16, 1, 1), 0.1, np.float32)),
}


@pytest.mark.parametrize("op", ISLANDS)
def test_float_islands(op: str) -> None:
    """No integer kernel (Relu: with a zero point in the middle; Mul: with a float constant)."""
    found = kernels(ISLANDS[op])
    assert found["DequantizeLinear"] >= 2 and not any(k.startswith("QLinear") for k in found)


def test_where_chooses_between_integers() -> None:
    """With equal scales throughout."""
    lab = Lab()
    a, b = (lab.pair(lab.input(*IMAGE)) for _ in range(2))
    y = lab.op("Where", lab.const(np.arange(8) % 2 == 0), a, b)
    found = kernels(lab.model(lab.op("Neg", lab.pair(y))))
    assert found["QLinearWhere"] == 1 and found["Where"] == 0


def test_split_hands_on_integers() -> None:
    lab = Lab()
    lab.nodes.append(helper.make_node("Split", [lab.pair(lab.input(*IMAGE))], ["a", "b"], axis=1))
    found = kernels(lab.model(*(lab.op("Neg", lab.pair(half)) for half in "ab")))
    assert found == {"QuantizeLinear": 1, "Split": 1, "DequantizeLinear": 2, "Neg": 2}


# -- kernels with weights ------------------------------------------------------------------------------------------------------


def conv(*, group: int = 1, activation: str = "", high: float = 6.0, low: float = 0.0, scale: float = STEP, zero: int | None = None,
         head: str = "", act: str = "uint8", **weight: Any) -> onnx.ModelProto:  # fmt: skip
    lab = Lab(act)
    x = lab.pair(lab.input(*IMAGE))
    y = lab.op("Conv", x, *lab.weight(16, 16 // group, 3, 3, **weight), group=group, pads=[1, 1, 1, 1])
    if activation == "Clip":
        y = lab.op("Clip", y, lab.const(np.float32(low)), lab.const(np.float32(high)))
    elif activation:
        y = lab.op(activation, y)
    if head == "float":
        return lab.model(y)
    zero = lab.least if zero == -1 else zero
    y = lab.pair(y, scale, zero)
    return lab.model(y if head else lab.op("Neg", y))


LEAST = -1
CONVS: dict[str, tuple[dict[str, Any], bool]] = {
    "plain": ({}, True),
    "without bias": ({"bias": False}, True),
    "one scale for the weight": ({"per_channel": False}, True),
    "depthwise": ({"group": 16}, True),
    "grouped": ({"group": 4}, True),
    "as a graph output, with quantizers": ({"head": "quantized"}, True),
    "as a graph output, in float": ({"head": "float"}, False),
    "bias of another scale": ({"off": 4.0}, False),
    "Relu, zero point least": ({"activation": "Relu", "zero": LEAST}, True),
    "Relu, zero point in the middle": ({"activation": "Relu"}, False),
    "Clip, range 6": ({"activation": "Clip", "scale": 6 / 255, "zero": LEAST}, True),
    "Clip, range 5": ({"activation": "Clip", "scale": 5 / 255, "zero": LEAST}, True),
    "Clip, range 8": ({"activation": "Clip", "scale": 8 / 255, "zero": LEAST}, False),
    "Clip, zero point in the middle": ({"activation": "Clip", "scale": 6 / 255}, False),
    "Clip both sides, inside": ({"activation": "Clip", "low": -1, "high": 1, "scale": 1 / 128}, True),
    "Clip both sides, half a step outside": ({"activation": "Clip", "low": -1, "high": 1, "scale": 2 / 255}, False),
    "HardSwish": ({"activation": "HardSwish"}, False),
    "Sigmoid": ({"activation": "Sigmoid"}, False),
    "LeakyRelu": ({"activation": "LeakyRelu"}, False),
}


@pytest.mark.parametrize("act", ["uint8", "int8"])
@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str, act: str) -> None:
    settings, integer = CONVS[name]
    if name == "Clip both sides, inside" and act == "int8":
        settings = {**settings, "zero": 0}
    model = conv(**settings, act=act)
    found = kernels(model)
    assert found["QLinearConv"] == int(integer)
    assert found["Conv"] + found["FusedConv"] == int(not integer)
    assert worst_step(model) < 1.01


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_of_other_ranks(rank: int) -> None:
    lab = Lab()
    y = lab.op("Conv", lab.pair(lab.input(1, 4, *[5] * rank)), *lab.weight(8, 4, *[3] * rank))
    assert kernels(lab.model(lab.op("Neg", lab.pair(y))))["QLinearConv"] == 1


def test_conv_of_dynamic_size_and_residual() -> None:
    lab = Lab()
    y = lab.quantize(lab.op("Conv", lab.pair(lab.input("N", 3, "H", "W")), *lab.weight(16, 3, 3, 3), pads=[1] * 4))
    z = lab.pair(lab.op("Conv", lab.dequantize(y), *lab.weight(16, 16, 3, 3), pads=[1] * 4))
    found = kernels(lab.model(lab.op("Neg", lab.pair(lab.op("Add", lab.dequantize(y), z)))))
    assert found["QLinearConv"] == 2 and found["QLinearAdd"] == 1


def test_conv_transpose_stays_in_float() -> None:
    lab = Lab()
    y = lab.op("ConvTranspose", lab.pair(lab.input(*IMAGE)), *lab.weight(16, 16, 2, 2), strides=[2, 2])
    assert kernels(lab.model(lab.op("Neg", lab.pair(y))))["ConvTranspose"] == 1


def gemm(*, op: str = "Gemm", bias: str = "int32", quantized: bool = True, activation: str = "", rank: int = 2,
         batch: int | str = 2, swapped: bool = False, **attrs: Any) -> onnx.ModelProto:  # fmt: skip
    lab = Lab()
    x = lab.pair(lab.input(*([batch] * (rank - 2)), 4, 32))
    w, b = lab.weight(32, 16, axis=1)
    if op == "Gemm":
        y = lab.op("Gemm", x, w, *([b] if bias else []), **attrs)
    else:
        y = lab.op("MatMul", x, w)
        if bias:
            operands = [y, b if bias == "int32" else lab.const(np.ones(16, np.float32))]
            y = lab.op("Add", *(operands[::-1] if swapped else operands))
    if activation:
        y = lab.op(activation, y)
    return lab.model(lab.op("Neg", lab.pair(y, zero=0 if activation else None) if quantized else y))


GEMMS: dict[str, tuple[dict[str, Any], str]] = {
    "Gemm": ({}, "QGemm"),
    "Gemm without bias": ({"bias": ""}, "QGemm"),
    "Gemm giving float": ({"quantized": False}, "QGemm"),
    "Gemm and Relu": ({"activation": "Relu"}, "QGemm"),
    "Gemm and Relu giving float": ({"activation": "Relu", "quantized": False}, "FusedGemm"),
    "Gemm and Sigmoid giving float": ({"activation": "Sigmoid", "quantized": False}, "QGemm"),
    "Gemm and Softmax giving float": ({"activation": "Softmax", "quantized": False}, "QGemm"),
    "MatMul, bias int32, and Relu giving float": ({"op": "MatMul", "activation": "Relu", "quantized": False}, "FusedGemm"),
    "MatMul, bias int32 first": ({"op": "MatMul", "swapped": True}, "QGemm"),
    "Gemm with alpha": ({"alpha": 2.0}, "Gemm"),
    "Gemm with beta": ({"beta": 0.5}, "Gemm"),
    "MatMul": ({"op": "MatMul", "bias": ""}, "QLinearMatMul"),
    "MatMul giving float": ({"op": "MatMul", "bias": "", "quantized": False}, "MatMulIntegerToFloat"),
    "MatMul, bias int32": ({"op": "MatMul"}, "QGemm"),
    "MatMul, bias int32, giving float": ({"op": "MatMul", "quantized": False}, "QGemm"),
    "MatMul, bias float, giving float": ({"op": "MatMul", "bias": "float", "quantized": False}, "Gemm"),
    "MatMul of rank 3": ({"op": "MatMul", "rank": 3}, "QGemm"),
    "MatMul of rank 3, dynamic": ({"op": "MatMul", "rank": 3, "batch": "N"}, "MatMulIntegerToFloat"),
    "MatMul of rank 3, no bias": ({"op": "MatMul", "rank": 3, "batch": "N", "bias": ""}, "QLinearMatMul"),
}


@pytest.mark.parametrize("name", GEMMS)
def test_matrix_products(name: str) -> None:
    settings, kernel = GEMMS[name]
    products = {"QGemm", "Gemm", "FusedGemm", "QLinearMatMul", "MatMul", "MatMulIntegerToFloat"}
    model = gemm(**settings)
    assert {k: n for k, n in kernels(model).items() if k in products} == {kernel: 1}
    assert worst_step(model) < 1.01


# -- several readers -------------------------------------------------------------------------------------------------------------


def readers(act: str, *, shared: bool) -> onnx.ModelProto:
    lab = Lab(act)
    y = lab.op("Relu", lab.op("Conv", lab.pair(lab.input(*IMAGE)), *lab.weight(16, 16, 3, 3), pads=[1] * 4))
    q = lab.quantize(y, zero=lab.least)
    first = lab.dequantize(q, zero=lab.least)
    second = first if shared else lab.dequantize(q, zero=lab.least)
    z = lab.pair(lab.op("Conv", first, *lab.weight(16, 16, 3, 3), pads=[1] * 4))
    return lab.model(lab.op("Neg", lab.pair(lab.op("Add", second, z))))


def test_a_residual_with_a_shared_dequantizer_is_integer_throughout() -> None:
    found = kernels(readers("uint8", shared=True))
    assert found == {"QuantizeLinear": 1, "Transpose": 2, "QLinearConv": 2, "QLinearAdd": 1, "DequantizeLinear": 1, "Neg": 1}


def test_a_dequantizer_for_each_reader_is_as_good() -> None:
    assert kernels(readers("uint8", shared=False)) == kernels(readers("uint8", shared=True))


def test_int8_activations_with_two_readers_stay_in_float() -> None:
    found = kernels(readers("int8", shared=True))
    assert found["QLinearConv"] == 0 and found["Conv"] == 2


def test_a_float_reader_before_the_quantizer_blocks_the_kernel() -> None:
    lab = Lab()
    y = lab.op("Conv", lab.pair(lab.input(*IMAGE)), *lab.weight(16, 16, 3, 3))
    assert kernels(lab.model(lab.op("Neg", lab.pair(y)), lab.op("Neg", y)))["Conv"] == 1


def test_a_float_reader_behind_the_dequantizer_does_not() -> None:
    lab = Lab()
    y = lab.pair(lab.op("Conv", lab.pair(lab.input(*IMAGE)), *lab.weight(16, 16, 3, 3)))
    z = lab.pair(lab.op("Conv", y, *lab.weight(16, 16, 3, 3)))
    assert kernels(lab.model(lab.op("Neg", y), lab.op("Neg", z)))["QLinearConv"] == 2


# -- what the runtime does without being asked -----------------------------------------------------------------------------------


def between(op: str, copy: str = "") -> onnx.ModelProto:
    """A float operator between quantizers, with a copy before or behind it."""
    lab = Lab()
    x = lab.pair(lab.input(*((4, 16) if op in ("Gemm", "MatMul") else IMAGE)))
    x = lab.op("Sum", x) if copy == "before" else x
    draw = lab.rng.standard_normal
    if op in ("Gemm", "MatMul"):
        y = lab.op(op, x, lab.const(draw((16, 16)).astype(np.float32)))
    else:
        taps = 2 if op == "ConvTranspose" else 3
        attrs = {"strides": [2, 2]} if op == "ConvTranspose" else {}
        y = lab.op(op, x, lab.const(draw((16, 16, taps, taps)).astype(np.float32)), **attrs)
    y = lab.op("Sum", y) if copy == "behind" else y
    return lab.model(lab.op("Neg", lab.pair(y)))


def quantized_weights(model: onnx.ModelProto) -> bool:
    return any(
        i.data_type in (TensorProto.INT8, TensorProto.UINT8) and len(i.dims) > 1 for i in optimized_graph(model).graph.initializer
    )


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_float_weights_between_quantizers_are_quantized_in_silence(op: str) -> None:
    assert quantized_weights(between(op))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_a_copy_prevents_it(op: str) -> None:
    assert not quantized_weights(between(op, "before"))


def test_float_weights_of_matmul_are_left_alone() -> None:
    assert not quantized_weights(between("MatMul"))


def behind_float(op: str, *, copy: bool) -> onnx.ModelProto:
    lab = Lab()
    settings = dict(MOVES[op])
    lab_input = lab.input(*settings.pop("shape", IMAGE))
    y = lab.op(op, lab.op("Neg", lab_input), *(lab.const(c) for c in settings.pop("constants", [])), **settings)
    return lab.model(lab.op("Neg", lab.pair(lab.op("Sum", y) if copy else y)))


@pytest.mark.parametrize("op", ["MaxPool", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze"])
def test_a_quantizer_moves_up_past_movement(op: str) -> None:
    """For MaxPool that is slow: it is then not moved to the channels-last kernel."""
    order = [n.op_type for n in optimized_graph(behind_float(op, copy=False)).graph.node]
    assert order.index("QuantizeLinear") < order.index(op)


def test_a_copy_behind_max_pool_prevents_it() -> None:
    order = [n.op_type for n in optimized_graph(behind_float("MaxPool", copy=True)).graph.node]
    assert order.index("QuantizeLinear") > order.index("MaxPool")
