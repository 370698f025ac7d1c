"""What a case is: a small network, and what must be said of its channels.

``free`` counts, for a tensor, the channels that can go (along its channel axis, in all groups together); ``frozen`` gives the
reason's code of a tensor none of whose channels can; ``together`` are tensors that have a group in common, ``apart`` such that have
none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.pruning.nets import Distinct

Build = Callable[[Distinct], str | tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    build: Build
    free: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    together: tuple[tuple[str, ...], ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    opset: int = 17
    half: bool = False


def image(net: Distinct, c: int = 3, size: int | str = 8) -> str:
    return net.input(2, c, size, size)


def wide(net: Distinct, x: str, width: int) -> str:
    """The same tensor, with its number of channels noted."""
    net.widths[x] = width
    return x


def relu(net: Distinct, x: str, name: str = "") -> str:
    return net.op("Relu", x, out=name)


def conv(net: Distinct, x: str, width: int, name: str = "", kernel: int = 3, group: int = 1) -> str:
    """A padded convolution and a Relu, which has the name."""
    return relu(net, net.conv(x, width, kernel, pad=kernel // 2, group=group), name)


def head(net: Distinct, x: str, width: int = 5) -> str:
    return net.conv(x, width, 1)


def ints(net: Distinct, *values: int) -> str:
    return net.const(np.array(values, np.int64))


def linear(net: Distinct, x: str, inner: int, width: int, name: str = "", *, bias: bool = True) -> str:
    made = net.op("MatMul", x, net.const(net.random(inner, width)), out="" if bias else name)
    return net.op("Add", made, net.const(net.random(width)), out=name) if bias else made
