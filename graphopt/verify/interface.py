"""Is the model still used in the same way? Inputs and outputs: names, order, types, shapes.

    GO026   an input or output is gone, new or at another place
    GO027   its type changed
    GO028   its shape changed: the rank, a number, or a symbolic dimension

What was not declared (a dimension without a number or a name, a whole shape) may become known. A dimension with a name
may not become a number: the name is a promise to take any size.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphopt.errors import Diagnostic
from graphopt.model import Model


def check_interface(before: Model, after: Model) -> list[Diagnostic]:
    """What a user of ``before`` would notice when given ``after``."""
    first, second = before.interface(), after.interface()
    inputs = [_free_inputs(before, first), _free_inputs(after, second)]
    found = list(_compare("input", inputs[0], inputs[1], after.label))
    return found + list(_compare("output", list(first.output), list(second.output), after.label))


def _free_inputs(model: Model, graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    names = {tensor.name for tensor in model.graph.inputs}
    return [value for value in graph.input if value.name in names]


def _compare(what: str, before: list[onnx.ValueInfoProto], after: list[onnx.ValueInfoProto], label: str) -> Iterator[Diagnostic]:
    old, new = [value.name for value in before], [value.name for value in after]
    if old != new:
        yield Diagnostic("GO026", label, f"the {what}s were {_listed(old)} and are now {_listed(new)}")
        return
    for first, second in zip(before, after, strict=True):
        yield from _compare_types(f"{what} '{first.name}'", first.type, second.type, label)


def _compare_types(what: str, first: onnx.TypeProto, second: onnx.TypeProto, label: str) -> Iterator[Diagnostic]:
    kind = first.WhichOneof("value")
    if kind is None:
        return
    if kind != second.WhichOneof("value"):
        yield Diagnostic("GO027", label, f"{what} was a {kind} and is now a {second.WhichOneof('value')}")
    elif kind == "tensor_type":
        yield from _compare_tensors(what, first.tensor_type, second.tensor_type, label)
    elif first != second:
        yield Diagnostic("GO027", label, f"{what}, a {kind}, has another type than before")


def _compare_tensors(what: str, first: onnx.TypeProto.Tensor, second: onnx.TypeProto.Tensor, label: str) -> Iterator[Diagnostic]:
    if first.elem_type and first.elem_type != second.elem_type:
        names = [onnx.TensorProto.DataType.Name(t).lower() for t in (first.elem_type, second.elem_type)]
        yield Diagnostic("GO027", label, f"{what} was {names[0]} and is now {names[1]}")
    if not first.HasField("shape"):
        return
    old, new = _dims(first), _dims(second)
    if not second.HasField("shape") or len(old) != len(new) or any(a not in (b, None) for a, b in zip(old, new, strict=True)):
        after = _shown(new) if second.HasField("shape") else "without a shape"
        yield Diagnostic("GO028", label, f"{what} was {_shown(old)} and is now {after}")


def _dims(kind: onnx.TypeProto.Tensor) -> list[int | str | None]:
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]


def _shown(dims: list[int | str | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in dims)}]"


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
