"""Export every block in every way that torch offers.

    pip install torch==2.13.0 onnxscript
    python -m tests.passes.fold.blocks.make [NAME ...]

writes each missing NAME.EXPORTER.onnx beside this file, with batch norm statistics and parameters drawn from a seed:

    dynamo       torch.export
    dynamic      torch.export with dynamic height and width
    unoptimized  torch.export, the exporter's optimizer left out
    torchscript  TorchScript in evaluation mode (it fuses the batch norms that follow a convolution)
    preserve     TorchScript, batch norms kept, no constant folding

Traces of the source, which hold paths, are taken out.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from tests.passes.fold.blocks.nets import BLOCKS

HERE = Path(__file__).parent


def randomised(net: nn.Module, seed: int) -> nn.Module:
    """Parameters and statistics that no identity hides behind."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.5)
        elif isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.1, 0.4)
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data.uniform_(-0.7, 0.7)
    return net.eval()


EXPORTERS: dict[str, dict[str, Any]] = {
    "dynamo": {"dynamo": True, "verbose": False, "external_data": False},
    "dynamic": {"dynamo": True, "verbose": False, "external_data": False, "dynamic_shapes": True},
    "unoptimized": {"dynamo": True, "verbose": False, "external_data": False, "optimize": False},
    "torchscript": {"dynamo": False, "opset_version": 17},
    "preserve": {
        "dynamo": False, "opset_version": 17, "training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False,
    },
}  # fmt: skip


def export(net: nn.Module, shape: tuple[int, ...], exporter: str) -> onnx.ModelProto:
    options = dict(EXPORTERS[exporter])
    if options.pop("dynamic_shapes", False):
        auto = torch.export.Dim.AUTO
        options["dynamic_shapes"] = ({2: auto, 3: auto},)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        path = Path(folder) / "block.onnx"
        torch.onnx.export(net, (torch.randn(shape),), path, input_names=["x"], output_names=["y"], **options)
        return onnx.load(path)


def without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """No doc strings and no metadata: they hold the paths of the machine that exported."""
    graph = proto.graph
    bodies = [proto, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output]
    functions = [part for function in proto.functions for part in (function, *function.node, *function.value_info)]
    for part in [*bodies, *functions]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return proto


def main() -> None:
    warnings.filterwarnings("ignore")
    for seed, (name, (build, shape)) in enumerate(BLOCKS.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        for exporter in EXPORTERS:
            path = HERE / f"{name}.{exporter}.onnx"
            if path.exists():
                continue
            proto = without_traces(export(randomised(build(), seed), shape, exporter))
            onnx.save(proto, path)
            print(path.name, len(proto.graph.node), "nodes", path.stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    main()
