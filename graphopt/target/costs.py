"""What an operator costs on a device, in nanoseconds, in float and in int8.

The estimate of one node is linear in a few counts,

    t = node + element * E + mac * M + tap * T + weight * W + odd * O

    E  elements of the output (of the input where ``basis = "input"``: global pooling reads much and writes little)
    M  multiply-accumulates, output channels rounded up to the device's channel step
    T  output pixels * kernel taps (* groups, for grouped convolutions): gathering the input patch, which dominates where there
       are few channels
    W  elements of the weight: reading it from memory, which dominates where a matrix has one row
    O  T again, if the channels are no multiple of the row's ``align``, else 0

and ``cold`` nanoseconds an element more where an integer operator reads what was quantized just before it. The coefficients
come from the target's table, one row for each (operator, kind). The estimate is meant to choose between float and int8, where a
factor of two matters and ten percent do not; what a model really costs is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Domain = Literal["float", "int8"]


@dataclass(frozen=True, slots=True)
class Counts:
    """The sizes that a cost is linear in (see the module's docstring)."""

    elements: int = 0
    macs: int = 0
    taps: int = 0
    weights: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Coefficients in nanoseconds."""

    node: float = 0.0
    element: float = 0.0
    mac: float = 0.0
    tap: float = 0.0
    weight: float = 0.0
    odd: float = 0.0
    cold: float = 0.0

    def of(self, counts: Counts, align: int = 1) -> float:
        """The estimate in nanoseconds."""
        return (
            self.node
            + self.element * counts.elements
            + self.mac * counts.macs
            + self.tap * counts.taps
            + self.weight * counts.weights
            + (self.odd * counts.taps if counts.channels % align else 0.0)
        )


@dataclass(frozen=True, slots=True)
class CostRow:
    """One operator (and kind of it): its cost in either domain, None where it does not run there."""

    op: str
    kind: str = ""
    basis: Literal["output", "input"] = "output"
    float_: Cost | None = None
    int8: Cost | None = None
    align: int = 1


def _no_rows() -> dict[tuple[str, str], CostRow]:
    return {}


@dataclass(frozen=True, slots=True)
class CostTable:
    """All rows of a target, by (operator, kind)."""

    rows: Mapping[tuple[str, str], CostRow] = field(default_factory=_no_rows)

    def row(self, op: str, kind: str = "") -> CostRow | None:
        """The row of an operator and kind, or of the operator whatever its kind, or the target's row for ``*``, or None."""
        return self.rows.get((op, kind)) or self.rows.get((op, "")) or self.rows.get(("*", ""))

    def cost(self, op: str, kind: str, domain: Domain, counts: Counts) -> float | None:
        """Nanoseconds of one node, None where the table does not know."""
        row = self.row(op, kind)
        if row is None:
            return None
        cost = row.float_ if domain == "float" else row.int8
        return None if cost is None else cost.of(counts, row.align)
