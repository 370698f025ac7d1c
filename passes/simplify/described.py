"""What a file says about its graph beside the graph itself, where that is in the way.

- *Descriptions* of inner tensors (value_info) that contradict shape inference: exporters and earlier tools leave them behind.
  Readers are lenient with them as long as the operators stay what they were; on new operators they are new contradictions.
- *Names* of nodes that are not unique: a branch that moves into the main graph can bring names that are there already.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype

from graphopt.model import node_label
from graphopt.ops.facts import Facts
from graphopt.passes.simplify.editor import Editor
from graphopt.pipeline import Rewrite


def mend_descriptions(editor: Editor) -> list[Rewrite]:
    """Describe the inner tensors of the main graph as inference finds them, where the file says something else."""
    rewrites: list[Rewrite] = []
    for node in editor.model.graph.nodes:
        for tensor in node.outputs:
            if tensor.name and not editor.is_output(tensor) and _contradicts(tensor, editor.facts):
                tensor.dtype = np.dtype(tensor_dtype_to_np_dtype(editor.facts.dtype(tensor)))
                tensor.shape = editor.facts.shape(tensor)
                editor.edits += 1
                rewrites.append(Rewrite(f"'{tensor.name}'", "its description was wrong", code="wrong-description"))
    if rewrites:
        editor.model.edited()
    return rewrites


def _contradicts(tensor: gs.Tensor, facts: Facts) -> bool:
    """Another type or rank, or another number for a dimension. Less than what is known is no contradiction."""
    kind, shape = facts.dtype(tensor), facts.shape(tensor)
    if not kind or tensor.dtype is None:
        return False
    if np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)) != kind:
        return True
    if shape is None or tensor.shape is None:
        return False
    pairs = list(zip(tensor.shape, shape, strict=False))
    return len(tensor.shape) != len(shape) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def separate_names(editor: Editor) -> list[Rewrite]:
    """Give every node a name of its own."""
    renamed = editor.model.separate_names()
    editor.edits += len(renamed)
    return [Rewrite(node_label(node), f"renamed '{node.name}': another node has its name", code="shared-name") for node in renamed]
