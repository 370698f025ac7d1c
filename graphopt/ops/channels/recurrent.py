"""RNN, GRU and LSTM: the hidden units are channels.

One unit h of a layer of H owns a row of the input weight W and of the recurrent weight R in each of the g gates, an entry of the
biases for each of them (twice, for W and for R), of the peepholes, of the initial states; and a column of R, by which the next
step reads it. So the layer is two mixers: W sums over the channels of the input, R over the units themselves. A removed unit is
one that neither R nor what follows reads. A layer of two directions has one attribute ``hidden_size`` for both, so unit h of the
one goes with unit h of the other.

Source: the ONNX operator specification (onnx.ai, RNN, GRU, LSTM).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.model import node_key, node_label
from graphopt.ops import attrs
from graphopt.ops.channels.layout import Labels, Layout, blank, with_axis
from graphopt.ops.channels.rule import Mixer, Resizing, View
from graphopt.ops.channels.ties import couple, seal, seal_inputs, vector
from graphopt.ops.facts import has_input

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

_PEEPHOLES = 3
"""An LSTM's, for its input, output and forget gates."""


def recurrent(view: View) -> Sequence[Layout | None]:
    """X [T, B, I], W [D, gH, I], R [D, gH, H], B [D, 2gH], lengths, h0 and c0 [D, B, H], P [D, 3H] -> Y [T, D, B, H], h, c."""
    node, why, gates = view.node, node_label(view.node), GATES[view.node.op]
    data, weight, state = view.layout(0), view.layout(1), view.layout(2)
    nothing: list[Layout | None] = [None] * len(node.outputs)
    hidden = state.size(2) if state is not None and state.rank == 3 else None
    if data is None or weight is None or state is None or data.rank != 3 or weight.rank != 3 or not hidden:
        seal_inputs(view, f"{why}: its rank or its size is not known")
        return nothing
    if weight.size(1) != gates * hidden or state.size(1) != gates * hidden:
        seal_inputs(view, f"{why}: weights of other sizes than its hidden size")
        return nothing
    key = node_key(node)
    data, weight, state = seal(view, data, [0, 1], why), seal(view, weight, [0], why), seal(view, state, [0], why)
    view.mixes(Mixer(key, 0, 1, None, 2, 2, 1, repeats=gates, linear=False))
    view.mixes(Mixer(key, None, 2, None, 2, 2, 1, repeats=gates, linear=False))
    couple(view, data, 2, weight, 2, why)
    state, units = vector(view, state, 2, why)
    if units is None:
        units = view.fixed(hidden, "units", why)
    for parameter in (weight, state):
        _repeated(view, parameter, 1, units, gates, why)
    for index, times in ((3, 2 * gates), (7, _PEEPHOLES)):
        bias = view.layout(index) if has_input(node, index) else None
        if bias is not None and bias.rank == 2:
            _repeated(view, seal(view, bias, [0], why), 1, units, times, why)
        elif has_input(node, index):
            view.freeze(units, f"{why}: a bias of unknown rank")
    for index in (5, 6):
        if has_input(node, index):
            _initial(view, view.layout(index), units, why)
    return [_output(view, index, units, why) for index in range(len(node.outputs))]


def _repeated(view: View, layout: Layout, axis: int, units: Labels, times: int, why: str) -> None:
    """The units ``times`` over, along an axis of a parameter."""
    layout, labels = vector(view, layout, axis, why)
    if labels is None or labels.size != times * units.size:
        view.freeze(units, f"{why}: {layout.why or 'a parameter of another size'}")
        if labels is not None:
            view.freeze(labels, why)
        return
    view.equate(labels.reshape(times, -1), units[None], why)


def _initial(view: View, layout: Layout | None, units: Labels, why: str) -> None:
    if layout is None or layout.rank != 3:
        view.freeze(units, f"{why}: an initial state of unknown rank")
        return
    layout = seal(view, layout, [0, 1], why)
    layout, labels = vector(view, layout, 2, why)
    if labels is not None and labels.shape == units.shape:
        view.equate(labels, units, why)
    else:
        view.freeze(units, f"{why}: its initial state ({layout.why})")


def _output(view: View, index: int, units: Labels, why: str) -> Layout | None:
    shape = view.shape(index)
    rank = 4 if index == 0 else 3
    known = shape if shape is not None and len(shape) == rank else (None,) * rank
    return with_axis(blank(known, f"a time, direction or batch axis of {why}"), rank - 1, (units.size,), units)


def resize_hidden(change: Resizing) -> None:
    """The attribute ``hidden_size``."""
    before, after = change.before(2), change.after(2)
    if before is None or after is None or before.rank != 3 or after.rank != 3:
        return
    old, new = before.size(2), after.size(2)
    if new is not None and new != old and attrs.int_(change.node, "hidden_size", 0):
        change.set_attribute("hidden_size", new)
