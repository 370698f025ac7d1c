"""The nodes of a graph as units of quantization: what would run as one kernel, in float or in integers.

A unit is a node, together with

- the bias Add behind a MatMul (the runtime makes one kernel of the two), and
- the activations behind a kernel that its output's quantizer absorbs (Relu; Clip).

Whether a unit *can* run in integers follows from the operator's row (its role), the target (which kernels there are, for which
attributes and ranks) and the node itself (constant weights, float32). A unit that cannot carries the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model, node_key, node_label
from graphopt.model.bodies import bodies_within
from graphopt.ops import Facts, Role, activation, lookup
from graphopt.ops.facts import static
from graphopt.target import Int8Scheme

FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a unit stays in float: a kebab-case code and a sentence."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that an activation lets through: what the quantized range must lie inside of."""

    low: float = -math.inf
    high: float = math.inf

    def within(self, other: Bounds) -> Bounds:
        """Both at once."""
        return Bounds(max(self.low, other.low), min(self.high, other.high))


def _tensors() -> list[gs.Tensor]:
    return []


@dataclass(eq=False, slots=True)
class Unit:
    """One unit (see the module's docstring).

    Attributes:
        head: the node that gives the unit its kernel; ``nodes`` starts with it.
        key: a stable id: the node's when the units were made.
        role: the role of the head's operator.
        kind: for Conv: dense, grouped or depthwise.
        data: activations that the unit reads as quantized tensors when it runs in integers.
        constants: constant operands (not weights) that are quantized then, as (input index).
        weight, bias, axis: constant weight and bias of a kernel and the weight's output-channel axis (None: one scale for all).
        bias_node: the node that holds the bias, and the index of the input.
        bounds: of the absorbed activations.
        reason: why it must stay in float; None if it can run in integers.
        float_output: whether its result may stay in float although the kernel is an integer one.
    """

    head: gs.Node
    nodes: list[gs.Node]
    key: str
    role: Role = Role.NONE
    kind: str = ""
    data: list[gs.Tensor] = field(default_factory=_tensors)
    constants: list[int] = field(default_factory=list[int])
    weight: NDArray[Any] | None = None
    bias: NDArray[Any] | None = None
    axis: int | None = None
    bias_node: tuple[gs.Node, int] | None = None
    bounds: Bounds = Bounds()
    reason: Reason | None = None
    float_output: bool = False

    @property
    def label(self) -> str:
        """For people."""
        return node_label(self.head)

    @property
    def outputs(self) -> list[gs.Tensor]:
        """What the unit as a whole produces."""
        return [t for t in self.nodes[-1].outputs if t.name]

    @property
    def same_scale(self) -> bool:
        """Whether input and output share a scale."""
        return self.role is Role.SAME_SCALE

    @property
    def kernel(self) -> bool:
        """Whether it multiplies activations with constant weights."""
        return self.role is Role.KERNEL and self.weight is not None


class UnitBuilder:
    """Divides a model into units."""

    def __init__(
        self, model: Model, facts: Facts, scheme: Int8Scheme, keep: Callable[[gs.Node], bool], *, float_head: bool = True
    ) -> None:
        self.float_head = float_head
        self.model = model
        self.facts = facts
        self.scheme = scheme
        self.keep = keep
        self._outputs = {id(t) for t in model.graph.outputs}
        self._captured = captured(model.graph)
        self._static = all(static(t.shape) is not None for t in model.graph.inputs)

    def build(self) -> list[Unit]:
        """All units in the graph's order; every node is in exactly one. Constant nodes are left out."""
        units: list[Unit] = []
        taken: set[int] = set()
        for node in self.model.graph.nodes:
            if id(node) in taken or (node.op == "Constant" and not node.domain):
                continue
            unit = self.unit(node)
            taken.update(id(n) for n in unit.nodes)
            units.append(unit)
        return units

    def unit(self, node: gs.Node) -> Unit:
        """The unit that begins with ``node``."""
        unit = Unit(node, [node], node_key(node))
        row = lookup(node, self.facts)
        rule = row.quant if row is not None else None
        if row is None or rule is None:
            unit.reason = Reason("unknown-operator", "an operator without a row: what quantization does to it is not known")
            return unit
        unit.role, unit.kind = rule.role, row.subtype or ("dense" if node.op == "Conv" else "")
        unit.reason = self.refuse(unit)
        if unit.reason is None:
            unit.reason = self.operands(unit)
        if node.op in self.scheme.kernels:
            self.absorb(unit)
            unit.float_output = self.may_give_float(unit)
        return unit

    # -- can it run in integers? ---------------------------------------------------------------------------------------------

    def refuse(self, unit: Unit) -> Reason | None:
        """The reason against the operator as such."""
        node, scheme = unit.head, self.scheme
        if self.keep(node):
            return Reason("kept", "kept in float as asked")
        listed = node.op in scheme.kernels or node.op in scheme.same_scale or node.op in scheme.fused_activations
        if unit.role is Role.NONE or not listed:
            return Reason("no-integer-kernel", f"the target has no integer kernel for {node.op}")
        if scheme.same_scale_since.get(node.op, 1) > self.facts.opset:
            return Reason("opset", f"{node.op} takes no 8-bit tensors below opset {scheme.same_scale_since[node.op]}")
        for name, allowed in scheme.require.items():
            op, _, attribute = name.partition(".")
            if op == node.op and attribute_of(node, attribute, self.facts.opset) not in allowed:
                return Reason("attribute", f"the target's integer kernel wants {attribute} in {list(allowed)}")
        ranks = scheme.ranks.get(node.op)
        shape = self.facts.shape(node.inputs[0]) if node.inputs else None
        if ranks is not None and (shape is None or len(shape) not in ranks):
            return Reason("rank", f"the target's integer kernel wants an input of rank {list(ranks)}")
        if self.float_head and unit.role is Role.ARITHMETIC and any(id(t) in self._outputs for t in node.outputs):
            return Reason("graph-output", "its result leaves the graph, and stays as fine as float")
        if any(t.name for t in node.outputs[1:]) and node.op != "Split":
            return Reason("second-output", "the integer kernel gives no second output")
        return None

    def operands(self, unit: Unit) -> Reason | None:
        """Sort the inputs into activations, constants, weight and bias; the reason if they do not fit."""
        node = unit.head
        if any(self.facts.dtype(t) != FLOAT for t in node.outputs if t.name):
            return Reason("not-float32", "only float32 tensors are quantized")
        reason = self.kernel(unit) if unit.role is Role.KERNEL else self.inputs(unit, self.indices(unit))
        if reason is None and any(self.facts.dtype(t) != FLOAT for t in unit.data):
            return Reason("not-float32", "only float32 tensors are quantized")
        return reason

    def indices(self, unit: Unit) -> Iterable[int]:
        """Which inputs carry values (the others are shapes, indices, conditions, bounds)."""
        if unit.role is Role.ARITHMETIC:
            return range(1 if unit.head.op == "Where" else 0, len(unit.head.inputs))
        return [0]

    def inputs(self, unit: Unit, indices: Iterable[int]) -> Reason | None:
        for index in indices:
            tensor = unit.head.inputs[index]
            value = self.facts.value(tensor)
            if value is None:
                unit.data.append(tensor)
            elif value.dtype != np.float32 or not np.isfinite(value).all():
                return Reason("constant-operand", f"its constant operand '{tensor.name}' is not finite float32")
            else:
                unit.constants.append(index)
        if not unit.data:
            return Reason("constant", "all its operands are constant")
        return None

    def kernel(self, unit: Unit) -> Reason | None:
        """Conv, Gemm, MatMul."""
        node = unit.head
        weight = self.facts.value(node.inputs[1])
        if node.op == "MatMul" and (weight is None or weight.ndim != 2):
            return self.inputs(unit, [0, 1])
        if weight is None:
            return Reason("weight-not-constant", f"its weight '{node.inputs[1].name}' is not constant")
        if self.facts.value(node.inputs[0]) is not None:
            return Reason("constant", "all its operands are constant")
        if weight.dtype != np.float32 or not np.isfinite(weight).all():
            return Reason("weight-not-float32", f"its weight '{node.inputs[1].name}' is not finite float32")
        unit.data, unit.weight, unit.axis = [node.inputs[0]], weight, weight_axis(node)
        channels = weight.shape[unit.axis]
        if len(node.inputs) > 2 and node.inputs[2].name:
            return self.bias(unit, node, 2, channels)
        if node.op == "MatMul":
            self.take_bias_add(unit, channels)
        return None

    def bias(self, unit: Unit, node: gs.Node, index: int, channels: int) -> Reason | None:
        value = self.facts.value(node.inputs[index])
        if value is None:
            return Reason("bias-not-constant", f"its bias '{node.inputs[index].name}' is not constant")
        if value.dtype != np.float32 or not np.isfinite(value).all():
            return Reason("bias-not-float32", f"its bias '{node.inputs[index].name}' is not finite float32")
        row = value.reshape(-1) if value.size in (1, channels) and value.shape[-1:] in ((), (1,), (channels,)) else None
        if row is None:
            return Reason("bias-shape", f"its bias of shape {list(value.shape)} is not one number a channel")
        unit.bias, unit.bias_node = np.broadcast_to(row, (channels,)), (node, index)
        return None

    def take_bias_add(self, unit: Unit, channels: int) -> None:
        """The runtime turns MatMul and Add of a row vector into Gemm, for matrices and where all dimensions are known."""
        follower = self.only_user(unit.head)
        shape = self.facts.shape(unit.head.inputs[0])
        if follower is None or follower.op != "Add" or follower.domain or shape is None or self.keep(follower):
            return
        if len(shape) != 2 and not self._static:
            return
        index = 1 if follower.inputs[0] is unit.head.outputs[0] else 0
        value = self.facts.value(follower.inputs[index])
        fits = value is not None and value.ndim == 1 and value.size == channels
        if fits and self.bias(unit, follower, index, channels) is None:
            unit.nodes.append(follower)

    # -- what the quantizer absorbs --------------------------------------------------------------------------------------------

    def absorb(self, unit: Unit) -> None:
        """Take in the activations behind the unit."""
        while (node := self.only_user(unit.nodes[-1])) is not None:
            if node.op not in self.scheme.fused_activations or node.domain or self.keep(node):
                return
            bounds = bounds_of(node, self.facts)
            if bounds is None:
                return
            joined = unit.bounds.within(bounds)
            if not joined.low <= 0 <= joined.high or joined.low == joined.high:
                return  # zero must be representable
            unit.bounds = joined
            unit.nodes.append(node)

    def only_user(self, node: gs.Node) -> gs.Node | None:
        """The one reader of a node's only output, None if there are more, or the world outside reads it too."""
        named = [t for t in node.outputs if t.name]
        if len(named) != 1 or id(named[0]) in self._outputs or id(named[0]) in self._captured:
            return None
        users = self.model.users(named[0])
        return users[0] if len(users) == 1 and sum(t is named[0] for t in users[0].inputs) == 1 else None

    def may_give_float(self, unit: Unit) -> bool:
        """Whether the kernel can give float: not with absorbed activations, nor where the runtime would fuse it with its reader."""
        if unit.head.op not in self.scheme.float_output or unit.bounds != Bounds() or not unit.kernel:
            return False
        readers = [user for tensor in unit.outputs for user in self.model.users(tensor)]
        return all(user.op not in self.scheme.float_output_unless for user in readers)


def weight_axis(node: gs.Node) -> int:
    """The axis of a kernel's weight that runs over output channels (Conv [M, C/g, ...]; Gemm [N, K] if transB; MatMul [K, N])."""
    if node.op == "Conv":
        return 0
    if node.op == "Gemm":
        return 0 if node.attrs.get("transB", 0) else 1
    return 1


def attribute_of(node: gs.Node, name: str, opset: int) -> Any:
    """The value of an attribute, or its default in the operator's schema."""
    if name in node.attrs:
        return node.attrs[name]
    try:
        schema = onnx.defs.get_schema(node.op, opset)
    except onnx.defs.SchemaError:
        return None
    declared_attribute = schema.attributes.get(name)
    if declared_attribute is None or not declared_attribute.default_value.name:
        return None
    value: Any = onnx.helper.get_attribute_value(declared_attribute.default_value)
    return value.decode() if isinstance(value, bytes) else value


def bounds_of(node: gs.Node, facts: Facts) -> Bounds | None:
    """The bounds of Relu and Clip; None if they are not constant."""
    found = activation.bounds(node, facts.value)
    return None if found is None else Bounds(*found)


def captured(graph: gs.Graph) -> set[int]:
    """Ids of the tensors of the main graph that subgraphs read."""
    found: set[int] = set()
    for node in graph.nodes:
        for subgraph in bodies_within(node):
            found.update(id(t) for t in subgraph.outputs)
            found.update(id(t) for inner in subgraph.nodes for t in inner.inputs)
    return found
