"""Model-local functions: calls must end, and are inlined on request.

ONNX forbids functions that call themselves, directly or through others. Runtimes expand the calls, so a few nested functions can
also stand for any number of nodes; both are refused on reading (GO017), whether the functions are to be inlined or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from graphopt.errors import ModelError
from graphopt.model.domains import STANDARD
from graphopt.model.protos import nodes_within

MOST_NODES = 1_000_000
"""Nodes that a model may have once its functions are expanded."""

Key = tuple[str, str, str]


def check_functions(proto: onnx.ModelProto, label: str) -> None:
    """Raise ModelError GO017 if calls of functions do not end, or not soon, or if a function is there twice."""
    if not proto.functions:
        return
    calls: dict[Key, Counter[Key]] = {}
    for function in proto.functions:
        key = _key(function.domain, function.name, function.overload)
        if key in calls:
            raise ModelError("GO017", label, f"has two functions named '{function.name}'")
        calls[key] = Counter(_called(function.node))
    sizes: dict[Key, int] = {}
    for key in calls:
        _measure(key, calls, sizes, label)
    total = sum(sizes.get(key, 1) * count for key, count in Counter(_called(proto.graph.node)).items())
    if total > MOST_NODES:
        raise ModelError("GO017", label, f"its functions expand to {total} nodes; at most {MOST_NODES} are read")


def inline(proto: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """The model with all calls of its functions replaced by their bodies. Raises ModelError GO017 where that is not possible."""
    if not proto.functions:
        return proto
    try:
        inlined = inliner.inline_local_functions(proto)
    except Exception as error:  # noqa: BLE001 - onnx's C++ part throws whatever it likes
        raise ModelError("GO017", label, f"its functions cannot be inlined: {' '.join(str(error).split())}") from None
    left = {_key(f.domain, f.name, f.overload) for f in inlined.functions}
    called = [key for key in _called(inlined.graph.node) if key in left]
    if called:
        why = f"its function '{called[0][1]}' cannot be inlined: it needs other operator sets than the model"
        raise ModelError("GO017", label, why, "leave the functions as they are, or convert the model to one opset first")
    del inlined.functions[:]
    return inlined


def _measure(start: Key, calls: dict[Key, Counter[Key]], sizes: dict[Key, int], label: str) -> None:
    """Nodes that a call of each function expands to, callees first (depth first, with a stack of our own)."""
    open_: set[Key] = set()
    stack = [start]
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        missing = [callee for callee in calls[key] if callee in calls and callee not in sizes]
        if not missing:
            # A function without nodes costs one, too: what is called has to be looked at.
            sizes[key] = 1 + sum(sizes.get(callee, 1) * count for callee, count in calls[key].items())
            stack.pop()
            continue
        open_.add(key)
        back = next((callee for callee in missing if callee in open_), None)
        if back is not None:
            raise ModelError("GO017", label, f"its function '{back[1]}' calls itself", "ONNX allows no recursion")
        stack += missing


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[Key]:
    """What nodes refer to, functions or not, those of subgraphs too."""
    for node in nodes_within(nodes):
        yield _key(node.domain, node.op_type, node.overload)


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain in STANDARD else domain, name, overload)
