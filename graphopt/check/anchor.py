"""Where a finding is, by structure: what stays the same when every node and tensor is renamed.

A node's colour is refined as by Weisfeiler and Lehman ("A reduction of a graph to a canonical form", 1968): it starts as operator,
attributes, and the shapes and types of its constants, and takes in the colours of what it reads and of what reads it, ``ROUNDS``
times. So an anchor depends on the node's neighbourhood and on nothing further away: an edit at one end of a network leaves the
anchors at its other end alone. Values of weights do not count (a retrained model has the same structure), nor do the places that
they are stored at.

Two nodes with the same neighbourhood have the same anchor; who counts findings by anchor must count how many there are.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model, node_key
from graphopt.model.domains import STANDARD

ROUNDS = 2
WHOLE = "model"
"""The anchor of what concerns the model as a whole."""


def anchors(model: Model) -> dict[str, str]:
    """Node id -> anchor, for the nodes of the main graph."""
    nodes = [node for node in model.graph.nodes if node_key(node)]
    colours = {id(node): _digest(*_local(node)) for node in nodes}
    for _ in range(ROUNDS):
        colours = {id(node): _digest(colours[id(node)], *_around(node, colours)) for node in nodes}
    return {node_key(node): colours[id(node)] for node in nodes}


def of_text(*parts: str) -> str:
    """An anchor for what is no node: a tensor's role, a message."""
    return _digest(*parts)


def _local(node: gs.Node) -> list[str]:
    domain = "" if node.domain in STANDARD else str(node.domain)
    attributes = [f"{name}={_value(value)}" for name, value in sorted(node.attrs.items())]
    return [domain, node.op, *attributes, *(_constant(t) for t in node.inputs)]


def _value(value: Any) -> str:
    if isinstance(value, gs.Graph):
        return f"graph of {','.join(sorted(n.op for n in value.nodes))}"
    if isinstance(value, gs.Tensor):
        return "tensor"
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        return f"array {array.shape} {array.dtype}"
    return repr(value)


def _constant(tensor: gs.Tensor) -> str:
    if isinstance(tensor, gs.Constant):
        return f"constant {tuple(tensor._values.shape)} {tensor._values.dtype}"
    return "tensor" if tensor.name else "none"


def _around(node: gs.Node, colours: dict[int, str]) -> list[str]:
    before = [_producer(t, colours) for t in node.inputs]
    after = sorted(colours.get(id(user), "body") for t in node.outputs for user in t.outputs)
    return ["in", *before, "out", *after]


def _producer(tensor: gs.Tensor, colours: dict[int, str]) -> str:
    if not tensor.inputs:
        return "source" if tensor.name else ""
    maker = tensor.inputs[0]
    place = next((str(i) for i, t in enumerate(maker.outputs) if t is tensor), "")
    return f"{colours.get(id(maker), 'outer')}.{place}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
