"""Where activations are flat: against what onnxruntime makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from graphopt.model import Model
from graphopt.ops.activation import flat_outside
from tests.nets import outputs_of

INF = math.inf
CASES: dict[str, tuple[str, dict[str, Any], list[float | None], int, tuple[float, float] | None]] = {
    "relu": ("Relu", {}, [], 17, (0.0, INF)),
    "clip": ("Clip", {}, [-1.0, 2.0], 17, (-1.0, 2.0)),
    "clip without a minimum": ("Clip", {}, [None, 2.0], 17, (-INF, 2.0)),
    "clip of before": ("Clip", {"min": 0.0, "max": 6.0}, [], 9, (0.0, 6.0)),
    "hard swish": ("HardSwish", {}, [], 17, (-3.0, INF)),
    "hard sigmoid": ("HardSigmoid", {}, [], 17, (-2.5, 2.5)),
    "hard sigmoid of a sixth": ("HardSigmoid", {"alpha": 0.25, "beta": 0.375}, [], 17, (-1.5, 2.5)),
    "falling hard sigmoid": ("HardSigmoid", {"alpha": -0.25}, [], 17, None),
    "sigmoid": ("Sigmoid", {}, [], 17, None),
    "leaky relu": ("LeakyRelu", {"alpha": 0.1}, [], 17, None),
}


def network(op: str, attributes: dict[str, Any], bounds: list[float | None], opset: int) -> onnx.ModelProto:
    names = ["" if b is None else f"bound{k}" for k, b in enumerate(bounds)]
    constants = [onnx.numpy_helper.from_array(np.float32(b), n) for b, n in zip(bounds, names, strict=True) if b is not None]
    node = make_node(op, ["x", *names], ["y"], **attributes)
    ports = [[make_tensor_value_info(n, TensorProto.FLOAT, [None])] for n in ("x", "y")]
    return make_model(make_graph([node], "g", *ports, constants), opset_imports=[make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("name", CASES)
def test_flat_ends(name: str) -> None:
    *parts, expected = CASES[name]
    proto = network(*parts)
    model = Model.load(proto)
    found = flat_outside(model.graph.nodes[0], model.value)
    assert found == (None if expected is None else pytest.approx(expected))
    if found is None:
        return
    for end, sign in zip(found, (-1, 1), strict=True):
        if math.isfinite(end):
            beyond = (end + sign * np.linspace(0, 10, 7)).astype(np.float32)
            assert np.ptp(outputs_of(proto, {"x": beyond})[0]) <= 1e-6
            assert np.ptp(outputs_of(proto, {"x": (end - sign * np.linspace(0, 0.5, 7)).astype(np.float32)})[0]) > 1e-3
