"""Raising a model's opset in place, so that quantizers with a scale a channel can be written (opset 13).

Most operators only gained types between versions; what really changed is the table below, one adapter an operator:

- attributes became inputs: Slice 10, Clip and Pad 11, Dropout 12, Squeeze, Unsqueeze, Split and ReduceSum 13, TopK 10;
- Upsample became Resize (10), whose coordinates were ``asymmetric`` before 11; which neighbour is the nearest was not said, and
  onnxruntime rounds down along an axis that grows and up along one that shrinks;
- Softmax, LogSoftmax and Hardmax worked on the input flattened to a matrix at ``axis`` (default 1) before 13, on one axis after it:
  the same where ``axis`` is the last one, else the input is flattened and the result given its shape again;
- BatchNormalization lost ``spatial`` (9).

Ranks and types are those that shape inference finds: what a file declares of its inner tensors may be wrong.

Every node of the graph and its subgraphs is checked before any is touched: one that no adapter covers and whose attributes or
inputs the new schema does not have, makes the whole raise impossible, and the reason is returned. The graph's nodes, names,
metadata and documentation stay; that is why this is done here and not by converting the whole proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphopt.analysis import Analyses, Shapes
from graphopt.model import Model, links, node_label
from graphopt.model.bodies import bodies
from graphopt.model.domains import STANDARD

LEAST = 7
"""Below this version broadcasting was another, and nothing can be said."""

Applies = Callable[["_Raise", gs.Node], bool]
Adapter = Callable[["_Raise", gs.Node], None]


def raise_opset(model: Model, version: int) -> str | None:
    """Raise the default domain to ``version`` if it is lower. Returns why that is impossible, or None; then nothing was edited."""
    if model.opset >= version:
        return None
    if model.opset < LEAST:
        return f"opset {model.opset} is too old to be raised to {version}"
    if model.functions:
        return "it has local functions, whose bodies have opsets of their own"
    work = _Raise(model, version)
    for node in _all(model.graph):
        reason = work.obstacle(node)
        if reason is not None:
            return f"{node_label(node)}: {reason}"
    for node in list(_all(model.graph)):
        adapter = work.adapter(node)
        if adapter is not None:
            adapter(work, node)
    model.set_opset(version)
    model.sort()
    return None


def _all(graph: gs.Graph) -> Iterator[gs.Node]:
    for node in list(graph.nodes):
        yield node
        for subgraph in bodies(node):
            yield from _all(subgraph)


class _Raise:
    """One raise: from the model's opset to ``version``."""

    def __init__(self, model: Model, version: int) -> None:
        self.model = model
        self.old = model.opset
        self.new = version
        self.top = {id(n) for n in model.graph.nodes}
        self.facts = Analyses(model).get(Shapes())

    def adapter(self, node: gs.Node) -> Adapter | None:
        """The adapter that this node needs, None if it is valid as it stands."""
        if node.domain not in STANDARD:
            return None
        for since, ops, applies, adapter in ADAPTERS:
            if node.op in ops and self.old < since <= self.new and applies(self, node):
                return adapter
        return None

    def obstacle(self, node: gs.Node) -> str | None:
        """Why this node cannot be raised; None if it can."""
        if node.domain not in STANDARD:
            return None
        if self.adapter(node) is not None:
            if id(node) not in self.top:
                return "an operator that changed, inside a subgraph"
            if node.op == "Resize" and self.nearest(node) is None:
                return "it resizes to the nearest, and its scales are not constant, or larger and smaller than 1"
            return None
        if node.op == "BatchNormalization" and node.attrs.get("spatial", 1) != 1:
            return "spatial=0 was removed in opset 9"
        if node.op == "Scan" and self.old < 9:
            return "Scan is another operator since opset 9"
        try:
            schema = onnx.defs.get_schema(node.op, self.new)
        except onnx.defs.SchemaError:
            return f"there is no such operator in opset {self.new}"
        if schema.deprecated:
            return f"deprecated in opset {self.new}"
        unknown = [name for name in node.attrs if name not in schema.attributes]
        if unknown:
            return f"its attribute '{unknown[0]}' is not in opset {self.new}"
        if not schema.min_input <= len(node.inputs) <= schema.max_input:
            return f"its {len(node.inputs)} inputs are not what opset {self.new} takes"
        if len(node.outputs) > schema.max_output:
            return f"its {len(node.outputs)} outputs are not what opset {self.new} gives"
        return None

    # -- facts -----------------------------------------------------------------------------------------------------------------

    def nearest(self, node: gs.Node) -> str | None:
        """The ``nearest_mode`` that stands for the rounding before opset 11; None if there is none."""
        scales = node.attrs.get("scales")
        if scales is None:
            scales = self.facts.value(node.inputs[1])
        if node.op == "Upsample" or node.attrs.get("mode", "nearest") != "nearest":
            return "floor"
        if scales is None:
            return None
        return "floor" if np.min(scales, initial=1.0) >= 1 else "ceil" if np.max(scales, initial=1.0) <= 1 else None

    def dtype(self, node: gs.Node) -> Any:
        """The element type of the node's data; float32 where it is not known."""
        kind = self.facts.dtype(node.inputs[0])
        return onnx.helper.tensor_dtype_to_np_dtype(kind) if kind else np.float32

    # -- edits -----------------------------------------------------------------------------------------------------------------

    def ints(self, node: gs.Node, name: str) -> gs.Tensor:
        """The attribute ``name`` as an int64 constant; it is taken off the node."""
        return self.model.constant(f"{self.stem(node)}_{name}", np.asarray(node.attrs.pop(name), np.int64))

    def number(self, node: gs.Node, name: str, dtype: Any) -> gs.Tensor:
        """The attribute ``name`` as a scalar constant."""
        return self.model.constant(f"{self.stem(node)}_{name}", np.asarray(node.attrs.pop(name), dtype))

    def stem(self, node: gs.Node) -> str:
        return node.name or node.outputs[0].name

    def rebuild(self, node: gs.Node, inputs: list[gs.Tensor], op: str = "") -> None:
        """Give the node other inputs, and perhaps another operator; it stays the same object, in the same place."""
        links.set_inputs(node, inputs)
        node.op = op or node.op
        self.model.edited()


EMPTY = ""
"""The name of an input that is left out."""


def _slice(work: _Raise, node: gs.Node) -> None:
    axes = node.attrs.get("axes", list(range(len(node.attrs["starts"]))))
    node.attrs["axes"] = axes
    work.rebuild(node, [node.inputs[0], *(work.ints(node, name) for name in ("starts", "ends", "axes"))])


def _clip(work: _Raise, node: gs.Node) -> None:
    dtype = work.dtype(node)
    bounds = [work.number(node, name, dtype) if name in node.attrs else gs.Variable(EMPTY) for name in ("min", "max")]
    work.rebuild(node, [node.inputs[0], *bounds])


def _pad(work: _Raise, node: gs.Node) -> None:
    node.attrs.setdefault("value", 0.0)
    work.rebuild(node, [node.inputs[0], work.ints(node, "pads"), work.number(node, "value", work.dtype(node))])


def _dropout(work: _Raise, node: gs.Node) -> None:
    node.attrs.pop("ratio", None)
    node.attrs.pop("is_test", None)
    work.rebuild(node, [node.inputs[0]])


def _axes(work: _Raise, node: gs.Node) -> None:
    name = "split" if node.op == "Split" else "axes"
    work.rebuild(node, [node.inputs[0], work.ints(node, name)])


def _top_k(work: _Raise, node: gs.Node) -> None:
    node.attrs["k"] = [node.attrs["k"]]
    work.rebuild(node, [node.inputs[0], work.ints(node, "k")])


def _resize(work: _Raise, node: gs.Node) -> None:
    nearest = work.nearest(node)
    if "scales" in node.attrs:
        scales: gs.Tensor = work.model.constant(f"{work.stem(node)}_scales", np.asarray(node.attrs.pop("scales"), np.float32))
    else:
        scales = node.inputs[1]
    node.attrs["coordinate_transformation_mode"] = "asymmetric"
    if node.attrs.get("mode", "nearest") == "nearest":
        node.attrs["nearest_mode"] = nearest
    work.rebuild(node, [node.inputs[0], gs.Variable(EMPTY), scales], "Resize")


def _flattened(work: _Raise, node: gs.Node) -> None:
    """f(x) over all axes from ``axis`` on = Reshape(f(Flatten(x)), shape of x)."""
    axis = node.attrs.get("axis", 1)
    source, result = node.inputs[0], node.outputs[0]
    stem = work.stem(node)
    flat, shape, made = (work.model.variable(f"{stem}_{part}") for part in ("flat", "shape", "rows"))
    work.model.add("Shape", [source], [shape], before=node)
    work.model.add("Flatten", [source], [flat], {"axis": axis}, before=node)
    work.model.add("Reshape", [made, shape], [result])
    links.set_outputs(node, [made])
    node.attrs["axis"] = -1
    work.rebuild(node, [flat])


def _plain_softmax(work: _Raise, node: gs.Node) -> None:
    del work
    node.attrs["axis"] = -1


def _without_spatial(work: _Raise, node: gs.Node) -> None:
    del work
    del node.attrs["spatial"]


def _last_axis(work: _Raise, node: gs.Node) -> bool:
    """Whether flattening changes nothing that the new version would not do by itself."""
    shape = work.facts.shape(node.inputs[0])
    axis = node.attrs.get("axis", 1)
    return bool(axis == -1 or (shape is not None and axis == len(shape) - 1))


def _always(work: _Raise, node: gs.Node) -> bool:
    del work, node
    return True


def _has(*names: str) -> Applies:
    """Any of these attributes is given."""

    def applies(work: _Raise, node: gs.Node) -> bool:
        del work
        return any(name in node.attrs for name in names)

    return applies


def _takes(count: int) -> Applies:
    """It has so many inputs."""

    def applies(work: _Raise, node: gs.Node) -> bool:
        del work
        return len(node.inputs) == count

    return applies


def _spatial(work: _Raise, node: gs.Node) -> bool:
    """Statistics for each channel, said outright; those for each element are gone since opset 9."""
    del work
    return bool(node.attrs.get("spatial") == 1)


SOFTMAX = ("Softmax", "LogSoftmax", "Hardmax")

ADAPTERS: tuple[tuple[int, tuple[str, ...], Applies, Adapter], ...] = (
    (9, ("BatchNormalization",), _spatial, _without_spatial),
    (10, ("Slice",), _has("starts"), _slice),
    (10, ("Upsample",), _always, _resize),
    (10, ("TopK",), _has("k"), _top_k),
    (11, ("Resize",), _takes(2), _resize),
    (11, ("Clip",), _takes(1), _clip),
    (11, ("Pad",), _has("pads"), _pad),
    (12, ("Dropout",), _has("ratio", "is_test"), _dropout),
    (13, ("Squeeze", "ReduceSum", "Unsqueeze"), _has("axes"), _axes),
    (13, ("Split",), _has("split"), _axes),
    (13, SOFTMAX, _last_axis, _plain_softmax),
    (13, SOFTMAX, _always, _flattened),
)
"""(since, operators, which nodes of them, adapter); the first that holds is used."""
