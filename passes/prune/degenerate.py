"""Data that says nothing: where it does, channels are chosen by their weights and nothing is fitted, and the reader is told.

A fit to constant inputs expresses every channel by the constant, and is worthless for any other input; so is one to the same
sample many times, or one sample, which leaves nothing to judge by. (NaN and infinities in the data are refused when it is read.)
Nor do weights that are not finite: nothing can be removed by them, and no result held against a reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGraph
from graphopt.pipeline import Refusal
from graphopt.runtime import Feeds

_WEIGHTS = {"Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,), "BatchNormalization": (1, 2, 3, 4)}
"""Inputs that are weights too, beside those that mix channels."""


@dataclass(slots=True)
class Findings:
    """What is wrong with data.

    Attributes:
        useless: nothing can be learned from it.
        refusals: one a tensor.
    """

    useless: bool = False
    refusals: list[Refusal] = field(default_factory=list[Refusal])


def examined(feeds: Feeds) -> Findings:
    """Look at every sample once."""
    names = {spec.name for spec in feeds.specs if spec.kind == "tensor"}
    first: dict[str, NDArray[Any]] = {}
    constant: set[str] = set()
    equal: set[str] = set()
    for feed in feeds:
        arrays = {name: value for name, value in feed.items() if name in names}
        if not first:
            first = arrays
            constant = {name for name, value in arrays.items() if value.size and bool((value == value.reshape(-1)[0]).all())}
            equal = set(arrays)
            continue
        for name in constant | equal:
            same = name in arrays and arrays[name].shape == first[name].shape and bool((arrays[name] == first[name]).all())
            if not same:
                constant.discard(name)
                equal.discard(name)
        if not equal:
            break
    single = _samples(feeds) == 1
    useless = bool(first) and (single or equal == set(first))
    so = ": channels are chosen by weight norms, and nothing is fitted" if useless else ": it tells nothing, the other inputs must"
    found = Findings(useless)
    for name in sorted(constant):
        # One number of an input that is one number (a size, a threshold) is what such an input is for.
        if useless or first[name].size > 1:
            value = first[name].reshape(-1)[0]
            words = f"{value:g}" if first[name].dtype.kind in "fiu" else repr(value.item() if hasattr(value, "item") else value)
            found.refusals.append(Refusal(f"'{name}'", "constant-data", f"is {words} everywhere in all samples{so}"))
    if single and first:
        why = f"has one sample, which leaves nothing to judge by{so}"
        found.refusals.append(Refusal(f"'{next(iter(first))}'", "one-sample", why))
    elif not single:
        for name in sorted(equal - constant):
            found.refusals.append(Refusal(f"'{name}'", "equal-samples", f"is the same in all {len(feeds)} samples{so}"))
    return found


def _samples(feeds: Feeds) -> int:
    if len(feeds) != 1:
        return len(feeds)
    feed = feeds.first()
    rows = [feed[s.name].shape[0] for s in feeds.specs if s.kind == "tensor" and s.batch is not None and s.name in feed]
    return max(rows, default=1)


def not_finite(graph: ChannelGraph) -> list[Refusal]:
    """Weights of kernels and of batch normalisations with NaN or an infinity, by which no channel can be judged."""
    places = {(m.node, m.weight) for m in graph.flow.mixers} | {
        (key, index) for key, n in graph.nodes.items() for index in _WEIGHTS.get(n.op, ()) if index < len(n.inputs)
    }
    found: dict[str, Refusal] = {}
    for key, index in sorted(places):
        tensor = graph.nodes[key].inputs[index]
        value = graph.model.value(tensor) if tensor.name else None
        if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int(value.size - np.count_nonzero(np.isfinite(value)))
            why = f"{bad} of its {value.size} numbers are NaN or infinite in the model that was given: no channel is removed"
            found[tensor.name] = Refusal(f"'{tensor.name}'", "non-finite-weights", why)
    return list(found.values())
