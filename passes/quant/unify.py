"""Concat without rounding: operands and result share a scale where that loses nothing.

A Concat whose operands have other scales than its result rounds all of them anew, and a chain of them (a dense block: each
concatenates what the last one did and something new) does so to the same values again and again. With D the steps of operand and
result, noise D^2 / 12 a rounding, and n the readers of all that has the scale of either, one of m operands costs

    n_in D_in^2 + n_out (D_out^2 + D_in^2 / m)    apart,    (n_in + n_out) max(D_in, D_out)^2    with one scale for both,

and they share one where that is less. An operand that nobody but the Concat reads, in integers or in float, counts for nothing by
itself: it takes the result's range as it is. A Concat that only copies is no reader any more.

A tensor whose quantizer absorbs a Relu shares with such as are not negative either; one whose range ends where a Clip ends keeps
its own, as does one whose scale was given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphopt.passes.quant.units import Bounds, Unit

Range = tuple[float, float]

JOINING = "Concat"


def unify(
    units: Sequence[Unit],
    ranges: Mapping[str, Range],
    root: Callable[[gs.Tensor], str],
    bounds: Mapping[str, Bounds],
    readers: Mapping[str, int],
    fixed: Collection[str] = (),
) -> dict[str, Range]:
    """The ranges after operands and results of Concat have agreed.

    Args:
        units: that run in integers, in the graph's order.
        ranges: tensor -> least and greatest value.
        root: the name of the tensor from which one takes its range.
        bounds: tensor -> what an absorbed activation lets through.
        readers: tensor -> how many read its integers, or floats made of them.
        fixed: tensors that keep the range they have.
    """
    one_sided = {name for name, limits in bounds.items() if limits == Bounds(low=0.0)}
    classes = {name: _Class([name], one, readers.get(name, 0), name in one_sided) for name, one in ranges.items()}

    def free(name: str) -> bool:
        return name in ranges and name not in fixed and (name in one_sided or bounds.get(name, Bounds()) == Bounds())

    for unit in units:
        result = root(unit.outputs[0])
        if unit.head.op != JOINING or not free(result):
            continue
        operands = [name for name in dict.fromkeys(root(t) for t in unit.data) if free(name)]
        for operand in operands:
            mine, other = classes[operand], classes[result]
            alone = mine.readers == 1
            if mine is not other and mine.fits(other) and (alone or mine.may_join(other, len(unit.data))):
                shared = other.range if alone else mine.both(other)
                small, large = sorted((mine, other), key=lambda c: len(c.names))
                large.absorb(small, shared)
                classes |= dict.fromkeys(small.names, large)
    return {name: classes[name].range for name in ranges}


@dataclass(eq=False, slots=True)
class _Class:
    """Tensors of one scale, how often they are read, and whether the quantizer of one absorbs a Relu."""

    names: list[str]
    range: Range
    readers: int
    one_sided: bool

    @property
    def width(self) -> float:
        return self.range[1] - self.range[0]

    def both(self, other: _Class) -> Range:
        """A range for all of both."""
        return min(self.range[0], other.range[0]), max(self.range[1], other.range[1])

    def absorb(self, other: _Class, shared: Range) -> None:
        """Take the other's tensors in; the Concat between them reads no more."""
        self.range, self.readers = shared, self.readers + other.readers - 1
        self.one_sided |= other.one_sided
        self.names.extend(other.names)

    def fits(self, other: _Class) -> bool:
        """Whether a range for both begins at zero if that of one must."""
        return not (self.one_sided or other.one_sided) or min(self.range[0], other.range[0]) >= 0

    def may_join(self, result: _Class, operands: int) -> bool:
        """Whether it costs less to share a scale with the result of a Concat; see the module's docstring."""
        low, high = self.both(result)
        apart = self.readers * self.width**2 + result.readers * (result.width**2 + self.width**2 / operands)
        return apart > (self.readers + result.readers) * (high - low) ** 2
