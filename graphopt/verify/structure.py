"""Is the graph well formed? onnx's checker, and what it leaves out.

All checks run on the skeleton, the model without its big weights, and give diagnostics: a graph, however broken, is a
list of faults and not an exception.

    GO020   the model cannot even be written down
    GO021   onnx's checker refuses it
    GO022   a name is produced twice: single assignment holds for a graph and its subgraphs together
    GO023   a node reads, or the graph returns, a tensor that nothing produces
    GO024   a node reads a tensor that is produced only later
    GO025   shape inference contradicts a declared type or shape, or a node has a number that no tensor can have
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import onnx

from graphopt.errors import Diagnostic, GraphoptError
from graphopt.guard.doing import doing
from graphopt.model import Model
from graphopt.ops.inference import faults, infer

_MOST_OF_A_KIND = 5
_CONTEXT = re.compile(r"\s*==> Context:.*", re.DOTALL)


def check_structure(model: Model, label: str = "") -> list[Diagnostic]:
    """What is wrong with a model's graph; nothing, in the good case. ``label`` names the model in the diagnostics."""
    where = label or model.label
    try:
        proto = model.skeleton()
    except GraphoptError as error:
        return [error.diagnostic]
    except Exception as error:  # noqa: BLE001 - a graph that a pass broke can fail to be written in any way
        return [Diagnostic("GO020", where, f"cannot be written: {type(error).__name__}: {_one_line(str(error))}")]
    return check_proto(proto, where)


def check_proto(proto: onnx.ModelProto, where: str) -> list[Diagnostic]:
    """The same for a proto."""
    found = list(_scopes(proto.graph, where, ()))
    if found:
        # The checker would say the same again, less clearly.
        return _shortened(found)
    numbers = [Diagnostic("GO025", f"{where}: {_label(node)}", why) for node, why in faults(proto)]
    return _shortened([*_checker(proto, where), *numbers, *_types(proto, where)])


def _scopes(graph: onnx.GraphProto, where: str, outer: Sequence[set[str]]) -> Iterator[Diagnostic]:
    """Single assignment, dangling names and order, in one walk; ``outer``: the names so far, of each graph around this one."""
    inputs = [value.name for value in graph.input]
    weights = [tensor.name for tensor in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    for name in sorted({name for name in inputs if inputs.count(name) > 1}):
        yield Diagnostic("GO022", where, f"two graph inputs are named '{name}'")
    for name in sorted(name for name in {*inputs, *weights} if _is_in(name, outer)):
        yield Diagnostic("GO022", where, f"'{name}' of a subgraph hides a tensor of the graph around it")
    known = {*inputs, *weights}
    around = (*outer, known)
    later = {name for node in graph.node for name in node.output}
    for node in graph.node:
        place = f"{where}: {_label(node)}"
        for name in filter(None, node.input):
            if not _is_in(name, around):
                yield _missing(name, name in later, place, "reads")
        for inner in _subgraphs(node):
            yield from _scopes(inner, where, around)
        for name in filter(None, node.output):
            if _is_in(name, around):
                yield Diagnostic("GO022", place, f"produces '{name}', which exists already")
            known.add(name)
    for value in graph.output:
        if not _is_in(value.name, around):
            yield _missing(value.name, False, where, "returns")


def _is_in(name: str, scopes: Sequence[set[str]]) -> bool:
    return any(name in scope for scope in scopes)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _missing(name: str, later: bool, place: str, verb: str) -> Diagnostic:
    if later:
        return Diagnostic("GO024", place, f"{verb} '{name}', which is produced only later")
    return Diagnostic("GO023", place, f"{verb} '{name}', which nothing produces")


def _label(node: onnx.NodeProto) -> str:
    first = next(filter(None, node.output), "")
    return f"{node.op_type} '{node.name}'" if node.name else f"{node.op_type} -> '{first}'"


def _checker(proto: onnx.ModelProto, where: str) -> Iterator[Diagnostic]:
    try:
        with doing("onnx", "checking the model"):
            cast(Any, onnx.checker).check_model(proto)
    except Exception as error:  # noqa: BLE001 - ValidationError, and on odd input whatever its C++ part throws
        yield Diagnostic("GO021", where, f"onnx's checker: {_one_line(_CONTEXT.sub('', str(error)))}")


def _types(proto: onnx.ModelProto, where: str) -> Iterator[Diagnostic]:
    try:
        infer(proto, strict=True, check_type=True)
    except onnx.shape_inference.InferenceError as error:
        for line in str(error).splitlines():
            text = line.strip()
            if text and not text.startswith("[ShapeInferenceError] Shape inference error(s):"):
                yield Diagnostic("GO025", where, _one_line(text))
    except Exception as error:  # noqa: BLE001 - as above
        yield Diagnostic("GO025", where, _one_line(str(error)))


def _shortened(found: list[Diagnostic]) -> list[Diagnostic]:
    """At most five of each code: a single broken edge can bring hundreds."""
    seen: dict[str, int] = {}
    kept: list[Diagnostic] = []
    for diagnostic in found:
        seen[diagnostic.code] = seen.get(diagnostic.code, 0) + 1
        if seen[diagnostic.code] <= _MOST_OF_A_KIND:
            kept.append(diagnostic)
    return kept


def _one_line(text: str) -> str:
    return " ".join(text.split())
