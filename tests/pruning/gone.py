"""What is gone in a pruned graph: for each tensor of the original, the elements that the pruned graph has not.

Nothing here knows labels. A pruned graph says by its weights which rows every operator lost (``elements.missing``); from there
the operators of the *original* are executed once more, on booleans instead of numbers: moves of data move them, element-wise
operators join them, and what sums over channels with weights starts anew with its own rows. What looks across an axis on which
some elements are gone and some are not (softmax, a mean over channels) has no exact pruning at all: ``Mixed``.

The masked original then multiplies what every channel-mixing operator reads by 0 where it is gone, and by 1 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from tests import oracle
from tests.pruning.elements import Unrelated, missing
from tests.pruning.nets import captured

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Attrs = dict[str, Any]


class Mixed(Exception):
    """An operator looks at elements that are gone and at elements that are not."""


@dataclass
class Facts:
    """What the walk knows of one model: its nodes, shapes on one feed, and the values of constants and of whole numbers."""

    nodes: Sequence[NodeProto]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Array]
    numbers: Mapping[str, Array]
    outputs: Sequence[str] = ()


@dataclass
class Gone:
    """The result: ``tensors`` by name, and what each mixing operator reads: (output name, input index) -> gone."""

    tensors: dict[str, Bools] = field(default_factory=dict)
    reads: dict[tuple[str, int], Bools] = field(default_factory=dict)
    recurrent: dict[tuple[str, int], Bools] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    """How many output channels each operator with constant weights lost."""


def key(node: NodeProto) -> str:
    """Nodes of the two graphs are the same if they make the same tensor."""
    return next(name for name in node.output if name)


def attrs_of(node: NodeProto) -> Attrs:
    return {a.name: v.decode() if isinstance(v := helper.get_attribute_value(a), bytes) else v for a in node.attribute}


def gone_in(before: Facts, after: Facts) -> Gone:
    """Walk the original, as far as its outputs depend on it."""
    walk = Walk(before, after)
    for node in live(before):
        walk.step(node)
    return walk.gone


def live(facts: Facts) -> list[NodeProto]:
    """The nodes that an output depends on and that depend on an input."""
    wanted, found = set(facts.outputs), list[NodeProto]()
    for node in reversed(facts.nodes):
        if any(name in wanted for name in node.output if name):
            wanted.update(node.input)
            wanted.update(captured(node))
            if any(name and name not in facts.constants for name in node.output):
                found.append(node)
    return found[::-1]


class Walk:
    def __init__(self, before: Facts, after: Facts) -> None:
        self.before = before
        self.after = after
        self.gone = Gone()
        self._kept = {name: node for node in after.nodes for name in node.output if name}

    def step(self, node: NodeProto) -> None:
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            if any(self.of(node, k).any() for k in range(len(node.input)) if node.input[k] not in self.before.constants):
                raise Mixed(f"{node.op_type} '{key(node)}' reads channels that are gone, and nothing is known of it")
            made: Any = np.zeros(self.before.shapes[key(node)], bool)
        else:
            made = rule(self, node, attrs_of(node))
        for name, one in zip(node.output, made if isinstance(made, (list, tuple)) else [made], strict=False):
            if name:
                self._check(node, name, one)
                self.gone.tensors[name] = np.broadcast_to(_narrow(one), one.shape)

    def _check(self, node: NodeProto, name: str, one: Bools) -> None:
        if name in self.before.shapes and tuple(one.shape) != tuple(self.before.shapes[name]):
            raise AssertionError(f"this walk gave {one.shape} for {node.op_type} '{name}' of {self.before.shapes[name]}")

    def of(self, node: NodeProto, index: int) -> Bools:
        """What is gone of an input: of a constant, by what became of it."""
        name = node.input[index]
        if name not in self.before.constants:
            found = self.gone.tensors.get(name)
            return np.zeros(self.before.shapes[name], bool) if found is None else found
        old = self.before.constants[name]
        twin = self._kept.get(key(node))
        if twin is None or twin.op_type != node.op_type or index >= len(twin.input) or old.dtype.kind not in "fiu":
            return np.zeros(old.shape, bool)
        new = self.after.constants.get(twin.input[index])
        if new is None:
            return np.zeros(old.shape, bool)
        group = attrs_of(node).get("group", 1)
        fewer = attrs_of(twin).get("group", 1) != group
        return missing(old, new, 1 if fewer else group)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.before.shapes[name])

    def number(self, node: NodeProto, index: int) -> Array | None:
        if index >= len(node.input) or not node.input[index]:
            return None
        name = node.input[index]
        return self.before.constants.get(name) if name in self.before.constants else self.before.numbers.get(name)

    def reads(self, node: NodeProto, index: int, gone: Bools) -> None:
        if node.input[index] not in self.before.constants and gone.any():
            self.gone.reads[key(node), index] = gone


Rule = Callable[[Walk, NodeProto, Attrs], Any]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _uniform(node: NodeProto, gone: Bools, axes: Sequence[int]) -> Bools:
    """Whether all is gone along ``axes``, with size 1 there."""
    every, some = gone.all(axis=tuple(axes), keepdims=True), gone.any(axis=tuple(axes), keepdims=True)
    if not np.array_equal(every, some):
        raise Mixed(f"{node.op_type} '{key(node)}' looks along axes {list(axes)}, on which some channels are gone and some are not")
    return every


@_rule("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def _reshaped(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    return walk.of(node, 0).reshape(walk.shape(node.output[0]))


@_rule("Transpose", "Concat", "Split", "Slice", "Gather", "Tile", "Pad", "DepthToSpace", "SpaceToDepth")
def _moved(walk: Walk, node: NodeProto, attrs: Attrs) -> Any:
    inputs: list[Any] = []
    for index, name in enumerate(node.input):
        data = index == 0 or node.op_type == "Concat"
        inputs.append(walk.of(node, index) if data else walk.number(node, index) if name else None)
    if node.op_type == "Tile":
        return np.tile(inputs[0], inputs[1])
    if node.op_type == "Pad":
        return _padded(attrs, inputs[0], *inputs[1:2], None, *inputs[3:4])
    if node.op_type == "Slice" and len(inputs) == 1:
        bounds = [np.asarray(attrs[k]) for k in ("starts", "ends")]
        return oracle.slice_({}, inputs[0], *bounds, np.asarray(attrs.get("axes", range(len(bounds[0])))))
    if node.op_type == "Split":
        sizes = [walk.shape(name)[attrs.get("axis", 0)] for name in node.output]
        return np.split(inputs[0], np.cumsum(sizes)[:-1].tolist(), attrs.get("axis", 0))
    return oracle.OPERATORS[node.op_type](attrs, *inputs)


def _padded(attrs: Attrs, gone: Bools, pads: Array | None = None, _value: None = None, axes: Array | None = None) -> Bools:
    """What is added beyond the end of a channel that is gone is gone; new channels are not."""
    amounts = np.asarray(attrs["pads"] if pads is None else pads).tolist()
    which = list(range(gone.ndim)) if axes is None else [int(a) % gone.ndim for a in axes]
    for k, axis in enumerate(which):
        alike = bool((gone == gone.take([0], axis)).all())
        ends = [0] * (2 * gone.ndim)
        ends[axis], ends[gone.ndim + axis] = amounts[k], amounts[k + len(which)]
        mode = "edge" if alike else attrs.get("mode", "constant")
        gone = oracle.pad({"mode": mode, "value": False}, gone, np.asarray(ends))
    return gone


@_rule("Expand")
def _expanded(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    return np.array(np.broadcast_to(walk.of(node, 0), walk.shape(node.output[0])))


ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Not", "Equal", "Greater", "Less"),
    *("GreaterOrEqual", "LessOrEqual", "Where", "Mod", "PRelu", "Clip", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"),
    *("HardSwish", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Gelu", "Mish", "Swish", "Erf", "Exp", "Log", "Sqrt", "Abs"),
    *("Neg", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Identity", "Dropout", "Cast", "CastLike", "ThresholdedRelu"),
    *("IsNaN", "IsInf", "Sin", "Cos", "BitShift", "QuantizeLinear", "DequantizeLinear", "BatchNormalization"),
)
_FIRST_ONLY = ("BatchNormalization", "QuantizeLinear", "DequantizeLinear", "Dropout", "Clip", "CastLike")


@_rule(*ELEMENTWISE)
def _elementwise(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    gone: Bools = np.zeros(walk.shape(node.output[0]), bool)
    inputs = range(1) if node.op_type in _FIRST_ONLY else range(len(node.input))
    for index in (k for k in inputs if node.input[k] not in walk.before.constants):
        gone |= walk.of(node, index)
    for index in (k for k in inputs if node.input[k] in walk.before.constants and not gone.any()):
        gone |= walk.of(node, index)
    return gone


@_rule("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "CumSum", "LRN", "LayerNormalization", "RMSNormalization")
@_rule("GroupNormalization", "MeanVarianceNormalization", "InstanceNormalization")
def _along_axis(walk: Walk, node: NodeProto, attrs: Attrs) -> Any:
    gone = walk.of(node, 0)
    rank, kind = gone.ndim, node.op_type
    axis = attrs.get("axis", -1)
    if kind == "CumSum":
        number = walk.number(node, 1)
        axis = int(np.asarray(number).reshape(-1)[0])
    axes = [axis % rank]
    if kind in ("LRN", "GroupNormalization"):
        axes = [1]
    elif kind == "InstanceNormalization":
        axes = list(range(2, rank))
    elif kind in ("LayerNormalization", "RMSNormalization"):
        axes = list(range(axis % rank, rank))
    elif kind == "MeanVarianceNormalization":
        axes = list(attrs.get("axes", [0, 2, 3]))
    _uniform(node, gone, axes)
    return gone


@_rule(*(f"Reduce{k}" for k in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")))
def _reduced(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    gone, given = walk.of(node, 0), walk.number(node, 1)
    axes = attrs.get("axes") if given is None else np.asarray(given).reshape(-1).tolist()
    if not axes and attrs.get("noop_with_empty_axes", 0):
        return gone
    named = [a % gone.ndim for a in axes] if axes else list(range(gone.ndim))
    return _uniform(node, gone, named).reshape(walk.shape(node.output[0]))


@_rule("ArgMax", "ArgMin", "TopK")
def _picked(walk: Walk, node: NodeProto, attrs: Attrs) -> Any:
    gone = walk.of(node, 0)
    axis = attrs.get("axis", -1 if node.op_type == "TopK" else 0) % gone.ndim
    every = _uniform(node, gone, [axis])
    if node.op_type != "TopK":
        return every.reshape(walk.shape(node.output[0]))
    return [np.array(np.broadcast_to(every, walk.shape(name))) for name in node.output]


@_rule("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Resize", "Upsample")
def _spatial(walk: Walk, node: NodeProto, attrs: Attrs) -> Any:
    gone = walk.of(node, 0)
    every = _uniform(node, gone, range(2, gone.ndim))
    return [np.array(np.broadcast_to(every, walk.shape(name))) if name else every for name in node.output]


@_rule("Shape", "Size", "ConstantOfShape", "NonZero", "Range", "EyeLike")
def _counted(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    return np.zeros(walk.shape(node.output[0]), bool)


# -- what mixes channels -----------------------------------------------------------------------------------------------------


@_rule("Conv", "ConvInteger", "ConvTranspose")
def _conv(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    data, weight, group = walk.of(node, 0), walk.of(node, 1), attrs.get("group", 1)
    walk.reads(node, 0, data)
    if node.op_type == "ConvTranspose":
        rows = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1).all((1, 3)).reshape(-1)
    else:
        rows = weight.reshape(len(weight), -1).all(1)
    shape = walk.shape(node.output[0])
    walk.gone.rows[key(node)] = int(np.count_nonzero(rows))
    samples = data.all(axis=tuple(range(1, data.ndim)), keepdims=True)
    return np.array(np.broadcast_to(samples | rows.reshape(-1, *[1] * (len(shape) - 2)), shape))


@_rule("MatMul", "Gemm", "MatMulInteger")
def _matmul(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    a, b = walk.of(node, 0), walk.of(node, 1)
    walk.reads(node, 0, a)
    walk.reads(node, 1, b)
    a = a.T if attrs.get("transA", 0) else a
    b = b.T if attrs.get("transB", 0) else b
    left = a.all(-1, keepdims=True) if a.ndim > 1 else np.zeros((1,), bool)
    right = b.all(-2, keepdims=True) if b.ndim > 1 else np.zeros((1,), bool)
    if node.input[1] in walk.before.constants:
        walk.gone.rows[key(node)] = int(np.count_nonzero(right))
    return np.array(np.broadcast_to(left | right, _spread(walk, node, a, b))).reshape(walk.shape(node.output[0]))


@_rule("Einsum")
def _einsum(walk: Walk, node: NodeProto, attrs: Attrs) -> Bools:
    """What is left of a sum of products is where a product of what is left is."""
    gone = [walk.of(node, index) for index in range(len(node.input))]
    for index, one in enumerate(gone):
        walk.reads(node, index, one)
    products = np.einsum(attrs["equation"].replace(" ", ""), *((~one).astype(np.float32) for one in gone), optimize=True)
    return np.asarray(products == 0)


def _spread(walk: Walk, node: NodeProto, a: Bools, b: Bools) -> tuple[int, ...]:
    shape = list(walk.shape(node.output[0]))
    if a.ndim == 1:
        shape.insert(max(len(shape) - 1, 0), 1)
    if b.ndim == 1:
        shape.append(1)
    return tuple(shape)


@_rule("LSTM", "GRU", "RNN")
def _recurrent(walk: Walk, node: NodeProto, attrs: Attrs) -> Any:
    """Hidden units of all gates go together; the recurrence reads zero for them, and so does who reads the outputs."""
    walk.reads(node, 0, walk.of(node, 0))
    weight = walk.of(node, 2)
    directions, hidden = weight.shape[0], weight.shape[2]
    units = weight.reshape(directions, -1, hidden, hidden).all((1, 3))
    if units.any():
        walk.gone.recurrent[key(node), 2] = np.array(np.broadcast_to(units[:, None, :], weight.shape))
    made: list[Bools] = []
    for index, name in enumerate(node.output):
        if not name:
            made.append(np.zeros((), bool))
            continue
        shape = walk.shape(name)
        along = units[None, :, None, :] if index == 0 else units[:, None, :]
        made.append(np.array(np.broadcast_to(along, shape)))
    return made


# -- the masked original -----------------------------------------------------------------------------------------------------


def masked(proto: onnx.ModelProto, gone: Gone, kind: Callable[[str], int]) -> onnx.ModelProto:
    """The original in which every mixing operator reads 0 for what is gone; ``kind`` gives a tensor's element type."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        for (name, index), lost in [*gone.reads.items(), *gone.recurrent.items()]:
            if name != next((o for o in node.output if o), ""):
                continue
            keep, zeros = f"{name}_keep{index}", f"{name}_masked{index}"
            dtype = helper.tensor_dtype_to_np_dtype(kind(node.input[index]))
            made.graph.initializer.append(onnx.numpy_helper.from_array((~_narrow(lost)).astype(dtype), keep))
            nodes.append(helper.make_node("Mul", [node.input[index], keep], [zeros], name=zeros))
            copy.input[index] = zeros
        nodes.append(copy)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _narrow(lost: Bools) -> Bools:
    """``lost`` with size 1 along the axes on which it does not change."""
    if not lost.any():
        return np.zeros([1] * lost.ndim, bool) if lost.size else lost
    for axis in reversed(range(lost.ndim)):
        first = lost.take([0], axis)
        if (lost == first).all():
            lost = first
    return lost


__all__ = ["Facts", "Gone", "Mixed", "Unrelated", "gone_in", "masked"]
