"""Every target's scheme: what is written is what its file says, and computes what the float model does.

Oracle: the float model, and onnxruntime running the graph as it stands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.check.quantized import Quantizers
from graphopt.model import Model, node_key
from graphopt.passes.quant import Quant
from graphopt.pipeline import Context
from graphopt.runtime import Session, feeds_from
from graphopt.target import Target
from tests.nets import Net, feed_for

TARGETS = [name for name in Target.names() if Target.load(name).int8 is not None]


def net() -> onnx.ModelProto:
    net = Net(seed=2)
    x = net.op("Relu", net.conv(net.input(1, 8, 16, 16), 16, pad=1))
    y = net.op("Relu", net.op("Add", net.conv(net.op("Relu", net.conv(x, 16, pad=1)), 16, pad=1, bias=False), x))
    y = net.op("Flatten", net.op("GlobalAveragePool", y), axis=1)
    return net.model(net.op("Gemm", y, net.const(net.random(10, 16)), net.const(net.random(10)), transB=1))


@pytest.fixture(scope="module", params=TARGETS)
def quantized(request: pytest.FixtureRequest) -> tuple[str, onnx.ModelProto, Model]:
    proto = net()
    model, target = Model.load(proto), Target.load(request.param)
    data: list[dict[str, Any]] = [feed_for(proto, seed=seed) for seed in range(8)]
    outcome = Quant(placement="kernels").run(model, Context(model, target=target, feeds=feeds_from(data, model)))
    assert outcome.changed
    return request.param, proto, model


def test_types_and_zero_points(quantized: tuple[str, onnx.ModelProto, Model]) -> None:
    name, _, model = quantized
    scheme = Target.load(name).int8
    assert scheme is not None
    graph = model.proto().graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    made = {n.output[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    zeros = [values[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert {str(z.dtype) for z in zeros} == {scheme.activation}
    assert not scheme.symmetric or not any(z.any() for z in zeros)
    makers = {o: n for n in graph.node for o in n.output}
    for conv in (n for n in graph.node if n.op_type in ("Conv", "Gemm")):
        weight = makers[conv.input[1]]
        assert values[weight.input[0]].dtype == np.int8 and not values[weight.input[2]].any() and weight.input[0] not in made
        if len(conv.input) > 2:
            assert (conv.input[2] in values) == (scheme.bias == "float32")


def test_comes_close(quantized: tuple[str, onnx.ModelProto, Model]) -> None:
    _, proto, model = quantized
    before, after = Session(proto), Session(model, optimize=False)
    signal = noise = 0.0
    for seed in range(20, 26):
        feed = feed_for(proto, seed=seed)
        for key, value in before.run(feed).items():
            signal += float((value**2).sum())
            noise += float(((after.run(feed)[key] - value) ** 2).sum())
    assert 10 * np.log10(signal / noise) > 28


def test_the_linter_sees_the_kernels_in_integers(quantized: tuple[str, onnx.ModelProto, Model]) -> None:
    name, _, model = quantized
    integer = Quantizers(model, Target.load(name).int8).integer
    convs = [n for n in model.graph.nodes if n.op == "Conv"]
    assert convs and all(node_key(n) in integer for n in convs)
