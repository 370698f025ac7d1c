"""Writing a trained network as ONNX, its branches and batch norms left in, and holding the file against torch.

The traced export must not fold anything: ``TrainingMode.PRESERVE`` on a network in evaluation mode writes
``BatchNormalization`` in its inference form and leaves the convolution before it alone. The exporter also writes
initializers of equal content only once, and reads the others through ``Identity`` nodes (the shifts of batch norms in
parallel branches begin at 0, get the same gradient and stay equal for ever); ``own_initializers`` gives each its own again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn


def traced(
    net: nn.Module,
    example: Tensor,
    names: tuple[str, str],
    axes: tuple[Mapping[int, str], Mapping[int, str]] = ({0: "batch"}, {0: "batch"}),
    *,
    opset: int,
    preserve: bool = True,
) -> onnx.ModelProto:
    """What torch's TorchScript exporter makes of a network in evaluation mode.

    Args:
        net: the network.
        example: an input to trace with.
        names: of the input and of the output.
        axes: the dynamic axes of the input and of the output, with their names.
        opset: of the standard operators.
        preserve: keep batch norms and constants as they are.
    """
    how = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False} if preserve else {}
    with tempfile.TemporaryDirectory() as folder:
        raw = str(Path(folder) / "raw.onnx")
        torch.onnx.export(
            net.eval(),
            (example,),
            raw,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={name: dict(dynamic) for name, dynamic in zip(names, axes, strict=True)},
            opset_version=opset,
            dynamo=False,
            **how,  # type: ignore[arg-type]
        )
        return onnx.load(raw)


def own_initializers(graph: onnx.GraphProto) -> None:
    """Replace every ``Identity`` of an initializer by an initializer of its own, in place."""
    constants = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in constants:
            graph.initializer.add().CopyFrom(constants[node.input[0]])
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def own_scales(graph: onnx.GraphProto) -> None:
    """Replace every ``Concat`` of constants (the exporter's way to write a Resize's scales) by an initializer, in place."""
    constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
    for node in list(graph.node):
        if node.op_type == "Concat" and all(name in constants for name in node.input):
            parts = [onnx.numpy_helper.to_array(constants[name].attribute[0].t) for name in node.input]
            graph.initializer.append(onnx.numpy_helper.from_array(np.concatenate(parts), node.output[0]))
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for name, node in constants.items():
        if name not in read:
            graph.node.remove(node)


def described(model: onnx.ModelProto, name: str, text: str, properties: dict[str, str]) -> onnx.ModelProto:
    """The model, named and described in place, without the source locations of the machine that exported.

    Raises:
        RuntimeError: a batch norm is in its training form.
    """
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for node in graph.node:
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.op_type == "BatchNormalization" and (training or len(node.output) != 1):
            raise RuntimeError(f"{node.name}: exported in its training form")
    graph.name = name
    model.doc_string = text
    onnx.helper.set_model_props(model, properties)
    return model


def save(model: onnx.ModelProto, net: nn.Module, x: Tensor, path: Path, *, tolerance: float) -> None:
    """Write the model, after onnxruntime computed the same from it as torch does from the network.

    Args:
        model: the network as ONNX, with one input and one output.
        net: the network in evaluation mode.
        x: an input.
        path: where to write.
        tolerance: the largest difference of a value: float32 sums in another order.

    Raises:
        RuntimeError: the graph does not compute what the network computes.
    """
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = net(x).numpy()
    error = float(np.abs(np.asarray(session.run(None, {model.graph.input[0].name: x.numpy()})[0]) - wanted).max())
    if not error <= tolerance:
        raise RuntimeError(f"onnxruntime and torch differ by {error:.3g}")
    part = path.with_suffix(".part")  # a run that is stopped here leaves the committed file whole
    onnx.save(model, str(part))
    part.replace(path)
    print(f"{path.name}: {path.stat().st_size} bytes, onnxruntime and torch differ by {error:.2g}", flush=True)
