"""A sample of a constant is the same whether it lies in a file or in memory: equal constants are found wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphopt.model import Model
from tests.nets import Net


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.float64])
@pytest.mark.parametrize("size", [0, 1, 15, 40_000, 100_003])
@pytest.mark.parametrize("external", [False, True])
def test_sample(size: int, dtype: Any, external: bool, tmp_path: Path) -> None:
    net = Net()
    x = net.input(1)
    values = (np.arange(size) % 101).astype(dtype)
    net.initializers.append(onnx.numpy_helper.from_array(values, "w"))
    net.nodes.append(onnx.helper.make_node("Shape", ["w"], ["y"]))
    net.op("Relu", x)
    graph = onnx.helper.make_graph(
        net.nodes, "g", net.inputs, [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [1])], net.initializers
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=external, size_threshold=0)
    model = Model.load(path)
    in_file = model.constants()["w"]
    in_memory = gs.Constant("v", values)
    sampled = model.sample(in_file, 16)
    assert sampled == model.sample(in_memory, 16)
    assert len(sampled) == len(values[:: max(1, size // 16)]) * values.itemsize
