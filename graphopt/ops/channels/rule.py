"""What a channel rule is, and what it may ask and say.

A rule runs one operator on labels: it reads the layouts of the inputs, says what must hold between labels, and gives the
layouts of the outputs. It says it through a ``View``, and there are two: the analysis *makes* it hold (labels that must be
equal become one, labels that cannot go become frozen), the certificate of a pruned graph *checks* that it holds. So there is
one rule for both, and whatever a rule does must depend only on the node, the layouts and what ``View.once`` remembers.

A channel-mixing operator (a ``Mixer``) sums over a channel axis with weights. It ends the labels of its data input, which must
be those of the weight's columns, and begins the labels of its weight's rows. A removed channel is one that every mixer reads as
zero; nothing else may look across channels, so whatever else would is told to freeze them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.ops.channels.layout import Labels, Layout
from graphopt.ops.facts import Facts, Shape


@dataclass(frozen=True, slots=True)
class Mixer:
    """An operator that sums over channels with constant weights.

    Attributes:
        node: its id.
        data, weight: indices of its inputs; ``data`` is None where it sums over its own outputs (the state of a recurrent layer);
            ``bias`` is where a bias is or could be added, None if there is no such input.
        data_axis: the axis of the data input that it sums over.
        columns, rows: the axes of the weight that it sums over and that make its output channels.
        groups: blocks of a grouped convolution.
        blockwise: whether such blocks go as a whole (as in a depthwise convolution) instead of shrinking alike.
        repeats: how many rows one output channel has (the gates of a recurrent layer).
        linear: whether what it makes is the sum, or a function of it.
        rows_in_data_order: whether the axis ``rows`` (Conv) or the axis ``columns`` (ConvTranspose) counts through all blocks.
    """

    node: str
    data: int | None
    weight: int
    bias: int | None
    data_axis: int
    columns: int
    rows: int
    groups: int = 1
    blockwise: bool = False
    rows_in_data_order: bool = True
    repeats: int = 1
    linear: bool = True


@dataclass(frozen=True, slots=True)
class Product:
    """An operator that sums over channels of two computed tensors, as attention does over the dimensions of a head.

    A removed channel is one of which input ``data`` reads zero.

    Attributes:
        node: its id.
        data: index of the input that is masked.
        labels: its labels, of its rank and of size 1 along the axes that they do not depend on: they vary along the axis that is
            summed over, and along that of the heads if the channels of one head are not those of another.
    """

    node: str
    data: int
    labels: Labels


@dataclass(frozen=True, slots=True)
class Average:
    """An operator that averages over channels, and is allowed to do so over fewer.

    Attributes:
        node: its id.
        over: the axes of its first input that it averages over.
        axes: those of them that have labels, with the labels along them.
    """

    node: str
    over: tuple[int, ...]
    axes: tuple[tuple[int, Labels], ...]


class View(Protocol):
    """One node, as its rule sees it."""

    @property
    def node(self) -> gs.Node:
        """The node."""
        ...

    @property
    def facts(self) -> Facts:
        """Shapes, types and constants."""
        ...

    def layout(self, index: int) -> Layout | None:
        """The layout of an input; None if it is not given or its rank is not known. Constants are labelled on every axis."""
        ...

    def value(self, index: int) -> NDArray[Any] | None:
        """The value of a constant input, None if it is not given or not constant."""
        ...

    def known(self, index: int) -> bool:
        """Whether an input is computed from constants alone."""
        ...

    def shape(self, index: int) -> Shape | None:
        """The shape of an output."""
        ...

    def equate(self, a: Labels, b: Labels, why: str) -> None:
        """Say that these labels, broadcast against each other, go together or stay together."""
        ...

    def alike(self, blocks: Labels, why: str) -> None:
        """Say that of the labels [blocks, n] as many of every row stay: the n-th ones go together, whichever those are."""
        ...

    def freeze(self, labels: Labels, why: str) -> None:
        """Say that these labels cannot go."""
        ...

    def fixed(self, count: int, tag: str, why: str) -> Labels:
        """Frozen labels for elements that have none; the same ones whenever the same node asks with the same tag."""
        ...

    def once(self, tag: str, make: Callable[[], int]) -> int:
        """What ``make`` gave when this node asked first, in the analysis: for choices that depend on sizes."""
        ...

    def mixes(self, mixer: Mixer) -> None:
        """Say that this node is a mixer."""
        ...

    def multiplies(self, product: Product) -> None:
        """Say that this node is a product of two computed tensors."""
        ...

    def averages(self, average: Average) -> None:
        """Say that this node averages over channels that may go all the same."""
        ...

    @property
    def lossy(self) -> bool:
        """Whether channels may go that a normalisation averages over."""
        ...

    @property
    def heads(self) -> bool:
        """Whether attention loses whole heads rather than dimensions of every head."""
        ...


class Resizing(Protocol):
    """One node of a graph whose channels were removed, as the rule sees it that mends its constants and attributes."""

    @property
    def node(self) -> gs.Node:
        """The node, in the new graph."""
        ...

    @property
    def facts(self) -> Facts:
        """Shapes, types and constants of the graph before."""
        ...

    def before(self, index: int) -> Layout | None:
        """The layout that an input had."""
        ...

    def after(self, index: int) -> Layout | None:
        """What is left of it."""
        ...

    def out_before(self, index: int) -> Layout | None:
        """The layout that an output had."""
        ...

    def out_after(self, index: int) -> Layout | None:
        """What is left of it."""
        ...

    def kept(self, index: int, axis: int) -> NDArray[Any] | None:
        """The positions along an axis of an input that stay, None if that is not known."""
        ...

    def once(self, tag: str) -> int | None:
        """What ``View.once`` remembers."""
        ...

    def value(self, index: int) -> NDArray[Any] | None:
        """The value of a constant input."""
        ...

    def set_attribute(self, name: str, value: Any) -> None:
        """Give the node another attribute."""
        ...

    def set_input(self, index: int, value: NDArray[Any]) -> None:
        """Give the node a new constant as input; the old one stays as it is for its other readers."""
        ...

    def set_entry(self, index: int, position: int, value: int) -> bool:
        """Change one entry of a vector input, constant or concatenated from constants and others; whether that was possible."""
        ...

    def replace(self, op: str, inputs: Sequence[gs.Tensor | NDArray[Any]], attrs: dict[str, Any]) -> None:
        """Make the node another operator."""
        ...


Flow = Callable[[View], Sequence[Layout | None]]
"""The layouts of a node's outputs; None for an output that nothing is known of."""

Resize = Callable[[Resizing], None]


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """How channels flow through an operator, and what names them in its constants and attributes.

    Attributes:
        flow: runs the operator on labels.
        resize: mends constants and attributes once channels are gone; None if there are none to mend.
        zero: whether a channel that is zero in all inputs is zero in the output.
        sizes: inputs that hold sizes of tensors (Reshape's shape); sizes may flow there.
    """

    flow: Flow
    resize: Resize | None = None
    zero: bool = False
    sizes: tuple[int, ...] = ()
