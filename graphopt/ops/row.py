"""The row: everything that graphopt knows about one operator.

A row says for which nodes it holds (domain, type, versions, predicate) and carries one rule for each concern. Depthwise, grouped
and plain Conv are separate rows. A missing rule means "not known", never "harmless".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from graphopt.ops.facts import Facts

if TYPE_CHECKING:
    from graphopt.ops.affine import AffineRule
    from graphopt.ops.channels import ChannelRule

Predicate = Callable[[gs.Node, Facts], bool]
CostRule = Callable[[gs.Node, Facts], int | None]
"""Multiply-accumulates of a node; None where its shapes are not static."""


class Role(Enum):
    """What quantization makes of an operator; the target says whether it has an integer kernel for it."""

    KERNEL = "kernel"
    """Multiplies activations with weights: Conv, Gemm, MatMul."""
    ARITHMETIC = "arithmetic"
    """Computes from activations with scales of their own: Add, Mul, Concat, AveragePool."""
    SAME_SCALE = "same-scale"
    """Moves or selects values: the output has the scale of the input."""
    ACTIVATION = "activation"
    """A function of one value that a kernel before it may absorb."""
    NONE = "none"
    """Stays in float."""


@dataclass(frozen=True, slots=True)
class QuantRule:
    """How a node is quantized: its role, and for kernels the indices of weight and bias and the weight's channel axis."""

    role: Role
    weight: int | None = None
    bias: int | None = None
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One operator, or one subtype of it. ``since``/``until``: versions of its domain's operator set, both included."""

    op: str
    domain: str = ""
    since: int = 1
    until: int | None = None
    subtype: str = ""
    when: Predicate | None = None
    cost: CostRule | None = None
    affine: AffineRule | None = None
    channels: ChannelRule | None = None
    quant: QuantRule | None = None
