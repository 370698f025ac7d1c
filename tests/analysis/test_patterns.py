"""Expressions that a runtime fuses: found in every spelling that is listed, and left in place by fold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis import Analyses
from graphopt.analysis.patterns import Fused, parse_pattern
from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from graphopt.runtime import kernel_counts
from graphopt.target import Target
from tests.nets import Net

GELU = "(Mul (Mul x (Add (Erf (Div x c)) c)) c)"


def gelu(net: Net, x: str, swap: bool = False) -> str:
    """x * (1 + erf(x / sqrt 2)) * 0.5"""
    erf = net.op("Erf", net.op("Div", x, net.const(np.sqrt(2.0))))
    one = net.const(1.0)
    total = net.op("Add", one, erf) if swap else net.op("Add", erf, one)
    return net.op("Mul", net.op("Mul", total, x) if swap else net.op("Mul", x, total), net.const(0.5))


def layer_norm(net: Net, x: str, width: int) -> str:
    d = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
    variance = net.op("ReduceMean", net.op("Pow", d, net.const(2.0)), axes=[-1])
    y = net.op("Div", d, net.op("Sqrt", net.op("Add", variance, net.const(1e-5))))
    return net.op("Add", net.op("Mul", y, net.const(net.random(width))), net.const(net.random(width)))


@pytest.mark.parametrize("swap", [False, True])
def test_a_pattern_is_found_in_either_order_of_operands(swap: bool) -> None:
    net = Net()
    model = Model.load(net.model(net.op("Relu", gelu(net, net.op("Neg", net.input(1, 4, 8, 8)), swap))))
    found = Analyses(model).get(Fused((GELU,)))
    assert [model.graph.nodes[i].op for i in sorted(found)] == ["Div", "Erf", "Add", "Mul", "Mul"]


def test_the_same_name_is_the_same_tensor() -> None:
    net = Net()
    i = net.input(1, 4, 8, 8)
    erf = net.op("Add", net.op("Erf", net.op("Div", i, net.const(2.0))), net.const(1.0))
    model = Model.load(net.model(net.op("Mul", net.op("Mul", net.op("Neg", i), erf), net.const(0.5))))
    assert not Analyses(model).get(Fused((GELU,)))


@pytest.mark.parametrize("text", ["", "x", "(Mul x", "Mul x)", "()", "(Mul x) (Add y)"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unbalanced|not one expression"):
        parse_pattern(text)


@pytest.mark.parametrize("name", Target.names())
def test_the_patterns_of_every_target_can_be_read(name: str) -> None:
    for pattern in Target.load(name).fusions:
        assert parse_pattern(pattern)


def transformer(kind: str) -> onnx.ModelProto:
    net = Net()
    if kind == "Gelu":
        return net.model(net.conv(gelu(net, net.conv(net.input(1, 4, 8, 8), 8, 1)), 4, 1))
    return net.model(net.op("MatMul", layer_norm(net, net.input(1, 5, 8), 8), net.const(net.random(8, 4))))


@pytest.mark.parametrize("kind", ["Gelu", "LayerNormalization"])
def test_fold_leaves_to_onnxruntime_what_onnxruntime_fuses(kind: str) -> None:
    """Without the target's patterns a scale would move into the next operator, and the fused kernel would be lost."""
    model = Model.load(transformer(kind))
    assert kernel_counts(model)[kind] == 1
    kept, lost = model.copy(), model.copy()
    Fold().run(kept, Context(model, target=Target.load("ort-x86-vnni")))
    Fold().run(lost, Context(model, target=Target.load("generic")))
    assert kernel_counts(kept).get(kind) == 1
    assert kernel_counts(lost).get(kind) is None
