"""The pass, end to end: what is placed in integers fuses, the result is close to float, and the interface stays.

Oracles: the graph that onnxruntime runs; the quantized graph run as it stands; the float model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.quant import Quant
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import Feeds, Session, feeds_from, optimized_graph
from graphopt.target import Target
from tests.nets import Net, feed_for, outputs_of


def data(proto: onnx.ModelProto, count: int = 6) -> list[dict[str, Any]]:
    return [feed_for(proto, seed=seed, dynamic=1) for seed in range(count)]


def quantize(proto: onnx.ModelProto, *, target: str = "ort-x86-vnni", feeds: Any = None, **options: Any) -> tuple[Model, Outcome]:
    model = Model.load(proto)
    given: Feeds = feeds_from(data(proto) if feeds is None else feeds, model)
    options.setdefault("placement", "kernels")
    outcome = Quant(**options).run(model, Context(model, target=Target.load(target), feeds=given))
    return model, outcome


def kernels(model: Model) -> Counter[str]:
    return Counter(n.op_type for n in optimized_graph(model).graph.node)


def in_(net: Net, width: int = 16, size: int | str = 8, batch: int | str = 1) -> str:
    return net.input(batch, width, size, size)


# -- nets, and how many of which kernels they must come to -----------------------------------------------------------------


def plain(net: Net) -> str:
    return net.op("Relu", net.conv(in_(net), 16, pad=1))


def chain(net: Net) -> str:
    x = net.op("Relu", net.conv(in_(net, 3), 32, pad=1))
    x = net.op("Clip", net.conv(x, 32, pad=1, group=32), net.const(np.float32(0)), net.const(np.float32(6)))
    return net.conv(x, 16, 1)


def residual(net: Net) -> str:
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    y = net.conv(net.op("Relu", net.conv(x, 16, pad=1)), 16, pad=1)
    return net.conv(net.op("Relu", net.op("Add", x, y)), 16, 1)


def concat(net: Net) -> str:
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    y = net.op("Concat", net.op("Relu", net.conv(x, 16, 1)), net.op("Relu", net.conv(x, 16, pad=1)), axis=1)
    net.widths[y] = 32
    return net.conv(y, 16, 1)


def silu(net: Net) -> str:
    x = net.conv(in_(net), 16, pad=1)
    x = net.op("Mul", x, net.op("Sigmoid", x))
    return net.conv(x, 16, pad=1)


def head(net: Net) -> str:
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    return net.op("Gemm", x, net.const(net.random(10, 16)), net.const(net.random(10)), transB=1)


def mean_head(net: Net) -> str:
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    x = net.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    return net.op("Gemm", x, net.const(net.random(16, 10)), net.const(net.random(1, 10)))


def perceptron(net: Net) -> str:
    x = net.input(8, 64)
    x = net.op("Relu", net.op("Add", net.op("MatMul", x, net.const(net.random(64, 64))), net.const(net.random(64))))
    return net.op("Add", net.op("MatMul", x, net.const(net.random(64, 32))), net.const(net.random(32)))


def sequence(net: Net) -> str:
    x = net.input("N", 4, 64)
    x = net.op("Relu", net.op("Add", net.op("MatMul", x, net.const(net.random(64, 64))), net.const(net.random(64))))
    return net.op("MatMul", x, net.const(net.random(64, 32)))


def pooled(net: Net) -> str:
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    net.widths[x] = 16
    return net.conv(x, 16, pad=1)


def shared(net: Net) -> str:
    weight = net.const(net.random(16, 16, 3, 3))
    x = net.op("Relu", net.op("Conv", in_(net), weight, pads=[1] * 4))
    return net.op("Conv", x, weight, pads=[1] * 4)


def upscale(net: Net) -> str:
    x = net.conv(in_(net, 3, "H", "N"), 12, pad=1)
    return net.op("DepthToSpace", net.conv(net.op("Relu", x), 12, pad=1), blocksize=2)


def two_scales(net: Net) -> str:
    """One tensor read by Relu and by an Add: Relu cannot vanish into a quantizer."""
    x = net.conv(in_(net), 16, pad=1)
    return net.conv(net.op("Add", x, net.op("Relu", x)), 16, 1)


def constant_scale(net: Net) -> str:
    x = net.conv(in_(net), 16, pad=1)
    x = net.op("Mul", x, net.const(net.random(16, 1, 1)))
    net.widths[x] = 16
    return net.conv(x, 16, 1)


NETS: dict[str, tuple[Callable[[Net], str], dict[str, int]]] = {
    "conv": (plain, {"QLinearConv": 1}),
    "chain": (chain, {"QLinearConv": 3}),
    "residual": (residual, {"QLinearConv": 4, "QLinearAdd": 1}),
    "concat": (concat, {"QLinearConv": 4, "QLinearConcat": 1}),
    "silu": (silu, {"QLinearConv": 2}),
    "head": (head, {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1}),
    "mean head": (mean_head, {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1}),
    "perceptron": (perceptron, {"QGemm": 2}),
    "sequence": (sequence, {"QLinearMatMul": 1, "MatMulIntegerToFloat": 1}),
    "pooled": (pooled, {"QLinearConv": 2}),
    "shared weight": (shared, {"QLinearConv": 2}),
    "upscale": (upscale, {"QLinearConv": 2}),
    "two scales": (two_scales, {"QLinearConv": 2}),
    "constant scale": (constant_scale, {"QLinearConv": 2}),
}
FLOATS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}


def build(name: str) -> onnx.ModelProto:
    net = Net(seed=1)
    return net.model(NETS[name][0](net))


@pytest.mark.parametrize("name", NETS)
def test_kernels_fuse(name: str) -> None:
    model, outcome = quantize(build(name))
    found = kernels(model)
    assert outcome.changed and not [n for n in outcome.notes if "planned" in n]
    assert {k: found[k] for k in NETS[name][1]} == NETS[name][1]
    assert not FLOATS & set(found)


@pytest.mark.parametrize("name", NETS)
def test_close_to_float(name: str) -> None:
    proto = build(name)
    model, _ = quantize(proto)
    floats, integers = Session(proto), Session(model)
    signal = noise = 0.0
    for feed in data(proto):
        for key, value in floats.run(feed).items():
            signal += float((value**2).sum())
            noise += float(((integers.run(feed)[key] - value) ** 2).sum())
    assert 10 * np.log10(signal / noise) > 28  # dB, on the calibration data


@pytest.mark.parametrize("name", NETS)
def test_the_runtime_computes_what_the_graph_says(name: str) -> None:
    """Within one step of the output's quantizer, or for float outputs of one inner step: three quantizers may round differently."""
    proto = build(name)
    model, _ = quantize(proto)
    fast, plain_ = Session(model), Session(model, optimize=False)
    for feed in data(proto, 2):
        for key, value in plain_.run(feed).items():
            span = float(value.max() - value.min())
            assert np.abs(fast.run(feed)[key] - value).max() <= 3 * span / 255


@pytest.mark.parametrize("name", NETS)
def test_interface_stays_and_nothing_is_left_over(name: str) -> None:
    proto = build(name)
    model, _ = quantize(proto)
    result = model.proto()
    onnx.checker.check_model(result, full_check=True)
    assert [i.SerializeToString() for i in result.graph.input] == [i.SerializeToString() for i in proto.graph.input]
    assert [(o.name, o.type.tensor_type.elem_type) for o in result.graph.output] == [
        (o.name, o.type.tensor_type.elem_type) for o in proto.graph.output
    ]
    read = {name for n in result.graph.node for name in n.input}
    assert {i.name for i in result.graph.initializer} <= read
    assert not [i for i in result.graph.initializer if i.data_type == TensorProto.FLOAT and len(i.dims) > 1]


@pytest.mark.parametrize("name", NETS)
def test_twice_is_once(name: str) -> None:
    model, _ = quantize(build(name))
    before = model.proto().SerializeToString(deterministic=True)
    outcome = Quant().run(model, Context(model))
    assert not outcome.changed and [r.code for r in outcome.refusals] == ["already-quantized"]
    assert model.proto().SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", ["residual", "head"])
def test_same_input_same_bytes(name: str) -> None:
    first, second = (quantize(build(name))[0].proto().SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


# -- how it is written -----------------------------------------------------------------------------------------------------


def test_biases_have_the_product_of_the_scales() -> None:
    proto = quantize(build("chain"))[0].proto()
    values = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    makers = {o: n for n in proto.graph.node for o in n.output}
    for conv in (n for n in proto.graph.node if n.op_type == "Conv"):
        x, w, b = (makers[name] for name in conv.input)
        np.testing.assert_array_equal(values[b.input[1]], values[x.input[1]] * values[w.input[1]])
        assert values[w.input[0]].dtype == np.int8 and values[b.input[0]].dtype == np.int32
        assert not values[b.input[2]].any() and not values[w.input[2]].any()


def test_a_tensor_is_quantized_once_for_all_readers() -> None:
    proto = quantize(build("concat"))[0].proto()
    counts = Counter(n.input[0] for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear"))
    assert set(counts.values()) == {1}


def test_relu6_lies_inside_six() -> None:
    proto = quantize(build("chain"))[0].proto()
    values = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    clip = next(n for n in proto.graph.node if n.op_type == "Clip")
    quantizer = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == clip.output[0])
    assert values[quantizer.input[2]] == 0 and values[quantizer.input[1]] * np.float32(255) <= np.float32(6)


@pytest.mark.parametrize(("options", "per_channel"), [({}, True), ({"weights": "per-tensor"}, False)])
def test_weight_scales(options: dict[str, Any], per_channel: bool) -> None:
    proto = quantize(build("conv"), **options)[0].proto()
    weight = next(i for i in proto.graph.initializer if i.data_type == TensorProto.INT8 and len(i.dims) == 4)
    scale = next(i for i in proto.graph.initializer if i.name == weight.name.replace("_quantized", "_scale"))
    assert list(scale.dims) == ([16] if per_channel else [])


def test_seven_bits_without_vnni() -> None:
    proto = quantize(build("conv"), target="ort-x86-avx2")[0].proto()
    weights = [numpy_helper.to_array(i) for i in proto.graph.initializer if i.data_type == TensorProto.INT8]
    assert max(np.abs(w.astype(int)).max() for w in weights) == 63


def test_outputs_in_int8() -> None:
    model, _ = quantize(build("head"), outputs="int8")
    found = kernels(model)
    assert found["QGemm"] == 1 and found["DequantizeLinear"] == 1


def test_kept_nodes_stay_in_float_and_their_weights_are_not_touched() -> None:
    proto = build("residual")
    kept = proto.graph.node[2].name
    assert proto.graph.node[2].op_type == "Conv"
    model, outcome = quantize(proto, keep=kept)
    found = kernels(model)
    assert found["QLinearConv"] == 3 and found["Conv"] + found["FusedConv"] == 1
    assert "kept" in [r.code for r in outcome.refusals]
    assert any(
        list(i.dims) == [16, 16, 3, 3] and i.data_type == TensorProto.FLOAT for i in optimized_graph(model).graph.initializer
    )


def test_unknown_kept_node() -> None:
    with pytest.raises(UsageError, match="GO930"):
        quantize(build("conv"), keep="nosuch")


@pytest.mark.parametrize("rule", ["auto", "minmax", "percentile", "mse"])
def test_every_range_rule(rule: str) -> None:
    model, outcome = quantize(build("residual"), ranges=rule)
    assert outcome.facts["ranges"] in ("minmax", "percentile", "mse")
    assert kernels(model)["QLinearConv"] == 4


def test_facts_tell_what_runs() -> None:
    _, outcome = quantize(build("residual"))
    assert outcome.facts["integer_kernels"] == {"QLinearConv": 4, "QLinearAdd": 1}
    assert outcome.facts["float_kernels"] == {}
    assert len([r for r in outcome.rewrites if r.what == "in int8"]) == 4


def test_a_kernel_that_leaves_the_graph_is_still_an_integer_one() -> None:
    net = Net()
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    y = net.conv(x, 16, pad=1)
    model, _ = quantize(net.model(x, y))
    assert kernels(model)["QLinearConv"] == 2


def test_probabilities_stay_in_float() -> None:
    net = Net()
    x = net.conv(in_(net), 16, pad=1)
    model, _ = quantize(net.model(net.op("Softmax", x, axis=1)))
    found = kernels(model)
    assert found["Softmax"] == 1 and found["QLinearConv"] == 1


# -- hard graphs -----------------------------------------------------------------------------------------------------------


def test_a_subgraph_reads_the_dequantized_value() -> None:
    net = Net()
    x = net.op("Relu", net.conv(in_(net), 16, pad=1))
    body = helper.make_graph(
        [helper.make_node("Add", [x, x], ["doubled"])], "then", [], [helper.make_tensor_value_info("doubled", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", [x], ["same"])], "else", [], [helper.make_tensor_value_info("same", 1, None)]
    )
    z = net.op("If", net.const(np.asarray(True)), then_branch=body, else_branch=other)
    proto = net.model(z, net.conv(x, 16, 1))
    model, _ = quantize(proto)
    assert kernels(model)["QLinearConv"] == 2
    feed = data(proto, 1)[0]
    wanted, got = Session(proto).run(feed), Session(model).run(feed)
    assert all(np.abs(got[k] - wanted[k]).max() < 0.05 * np.ptp(wanted[k]) for k in wanted)


def test_shared_weights_are_stored_once_and_never_edited() -> None:
    proto = build("shared weight")
    model, _ = quantize(proto)
    stored = [i for i in model.proto().graph.initializer if i.data_type == TensorProto.INT8 and len(i.dims) == 4]
    assert len(stored) == 1


def test_old_ir_where_every_initializer_is_an_input() -> None:
    net = Net(opset=8)
    proto = net.model(net.conv(net.op("Relu", net.conv(in_(net), 16, pad=1)), 16, 1), ir=4)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    model, _ = quantize(proto)
    result = model.proto()
    onnx.checker.check_model(result)
    assert model.opset == 13 and kernels(model)["QLinearConv"] == 2


def test_weights_in_constant_nodes() -> None:
    net = Net()
    weight = numpy_helper.from_array(net.random(16, 16, 1, 1).astype(np.float32))
    proto = net.model(net.op("Conv", in_(net), net.op("Constant", value=weight)))
    assert kernels(quantize(proto)[0])["QLinearConv"] == 1


def test_tiny_weights_with_a_large_bias() -> None:
    net = Net()
    weight, bias = net.const(1e-10 * net.random(16, 16, 1, 1)), net.const(100 * net.random(16))
    proto = net.model(net.op("Conv", in_(net), weight, bias))
    model, _ = quantize(proto)
    feed = data(proto, 1)[0]
    wanted, got = Session(proto).run(feed), Session(model).run(feed)
    assert all(np.abs(got[k] - wanted[k]).max() < 0.01 * np.ptp(wanted[k]) for k in wanted)


def test_dead_channels() -> None:
    net = Net()
    weight = net.random(16, 16, 3, 3)
    weight[::2] = 0
    proto = net.model(net.conv(net.op("Conv", in_(net), net.const(weight), pads=[1] * 4), 16, 1))
    assert kernels(quantize(proto)[0])["QLinearConv"] == 2


def test_unnamed_nodes() -> None:
    proto = build("residual")
    for node in proto.graph.node:
        node.name = ""
    assert kernels(quantize(proto)[0])["QLinearConv"] == 4


# -- refusals and warnings -------------------------------------------------------------------------------------------------


def test_weight_from_outside_is_refused() -> None:
    net = Net()
    x = in_(net)
    proto = net.model(net.op("Conv", x, net.input(16, 16, 1, 1, name="w")))
    model, outcome = quantize(proto)
    assert not outcome.changed and "weight-not-constant" in [r.code for r in outcome.refusals]
    assert model.proto().SerializeToString() == proto.SerializeToString()


def test_float16_is_refused() -> None:
    net = Net(dtype=np.float16)
    proto = net.model(net.conv(in_(net), 16))
    _, outcome = quantize(proto)
    assert not outcome.changed and "not-float32" in [r.code for r in outcome.refusals]


def test_a_target_without_integers() -> None:
    _, outcome = quantize(build("conv"), target="generic")
    assert not outcome.changed and [r.code for r in outcome.refusals] == ["no-int8-scheme"]


def test_nothing_to_gain_leaves_the_model_as_it_was() -> None:
    net = Net(opset=11)
    proto = net.model(net.op("Erf", net.input(1, 8)))
    model, outcome = quantize(proto, placement="auto")
    assert not outcome.changed and outcome.refusals[0].code == "nothing-to-gain"
    assert model.opset == 11


def test_generated_data_is_never_called_calibrated() -> None:
    model = Model.load(build("conv"))
    outcome = Quant(placement="kernels").run(model, Context(model))
    assert any("NOT calibrated" in note for note in outcome.notes)
    assert outcome.facts["calibrated"] is False


def test_zeros_are_warned_about_by_name() -> None:
    proto = build("conv")
    _, outcome = quantize(proto, feeds=[{"x": np.zeros((1, 16, 8, 8), np.float32)}] * 2)
    assert any("'x'" in note and "zero" in note for note in outcome.notes)


def test_what_overflows_stays_in_float() -> None:
    _, outcome = quantize(build("residual"), feeds=[{"x": np.full((1, 16, 8, 8), 1e38, np.float32)}] * 2)
    assert any("infinite" in note for note in outcome.notes)
    assert "not-finite" in [r.code for r in outcome.refusals]


def test_a_mask_of_infinities_leaves_the_rest_in_integers() -> None:
    """Attention adds minus infinity where nothing may be seen; Softmax makes zeros of it."""
    net = Net(opset=17)
    x = net.input(1, 32, 64)
    scores = net.op("MatMul", x, net.const(net.random(64, 32)))
    hidden = net.op("Add", scores, net.op("Mul", net.input(1, 32, 32, name="hide"), net.const(np.float32(1e38))))
    model = net.model(
        net.op("MatMul", net.op("Softmax", net.op("Mul", hidden, net.const(np.float32(1e3)))), net.const(net.random(32, 64)))
    )
    feed = {"x": np.ones((1, 32, 64), np.float32), "hide": np.triu(np.full((1, 32, 32), -1, np.float32), 1)}
    made, outcome = quantize(model, feeds=[feed] * 2, placement="kernels")
    assert outcome.changed
    assert outcome.facts["int8_units"] >= 2
    assert np.isfinite(outputs_of(made.proto(), feed)[0]).all()


def test_a_matrix_product_that_becomes_gemm_and_reshape_is_no_surprise() -> None:
    """The runtime makes Gemm and Reshape of MatMul and Add of three dimensions."""
    net = Net(opset=17)
    x = net.op("Softmax", net.input(1, 32, 64), axis=-1)
    x = net.op("Relu", net.op("Add", net.op("MatMul", x, net.const(net.random(64, 128))), net.const(net.random(128))))
    x = net.op("Add", net.op("MatMul", x, net.const(net.random(128, 64))), net.const(net.random(64)))
    _, outcome = quantize(net.model(net.op("Softmax", x, axis=-1)))
    assert not [n for n in outcome.notes if "planned" in n]
