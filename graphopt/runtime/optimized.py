"""The graph that onnxruntime really runs: after constant folding, fusions and its layout changes.

What a model looks like on disk says little about its speed: an operator between two quantizers may or may not become an
integer kernel. onnxruntime writes its final graph where ``optimized_model_filepath`` says; this is how fusion is proved
rather than hoped.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from graphopt.model import Model
from graphopt.runtime.session import Runnable, as_proto, create, session_options


def optimized_graph(model: Runnable) -> onnx.ModelProto:
    """What onnxruntime runs for ``model`` (ORT_ENABLE_ALL, CPU, one thread). Raises ModelError GO030 if it does not load."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "optimized.onnx"
        options = session_options(threads=1, optimize=True)
        options.optimized_model_filepath = str(path)
        label = model.label if isinstance(model, Model) else "<memory>"
        create(model if isinstance(model, bytes) else as_proto(model), options, label)
        return onnx.ModelProto.FromString(path.read_bytes())


def kernel_counts(model: Runnable) -> dict[str, int]:
    """How often each operator occurs in the optimized graph, subgraphs left out: ``{"QLinearConv": 12, ...}``, by name."""
    counts = Counter(node.op_type for node in optimized_graph(model).graph.node)
    return dict(sorted(counts.items()))
