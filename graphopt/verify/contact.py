"""The first contact with a model: what it claims is looked at before anything is made of it.

Declared and inferred shapes say how large tensors will be. One that exceeds the limit of memory (``graphopt.guard.limits``) is
refused by name, before an input is generated or a node is run. What shapes do not tell (a loop that concatenates, a size that is
computed) meets the limit itself, and the time limit, both of which hold from ``begin`` until ``known``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx

from graphopt.analysis import Analyses, Cost, Shapes
from graphopt.analysis.shapes import InputShapes, ShapeTable
from graphopt.errors import ModelError
from graphopt.guard.death import MEMORY_HINT, size
from graphopt.guard.doing import about, watched
from graphopt.guard.limits import Limits, confine, confined, stored_bytes
from graphopt.model import Model, node_label
from graphopt.runtime.inputs import InputSpec, input_specs

AFTERWARDS = 2
"""How much more memory an exact pipeline may take than the first contact: two models are loaded at once."""

BYTES_OF_A_NODE = 64
MOST_UNSEEN = 2**16
"""Until a file is read, it may be all nodes; of a large file, most is weights."""


def begin(path: str | os.PathLike[str], limits: Limits) -> None:
    """Before a model is read: only the size of its file is known."""
    about(os.path.basename(os.fspath(path)))  # noqa: PTH119 - a name for messages, whatever it is
    stored = stored_bytes(path)
    page = watched()
    if page is not None:
        page.set_deadline(limits.base())
        page.extend(limits.for_bytes(stored) + limits.for_nodes(min(stored // BYTES_OF_A_NODE, MOST_UNSEEN)))
        confine(limits.memory_for(stored))


def unlimited() -> None:
    """No limits for now: the user's data is read, and the model has no part in how much that is."""
    page = watched()
    if page is not None:
        page.set_deadline(None)
        confine(0)


@dataclass(frozen=True, slots=True)
class Contact:
    """A model on trial.

    Attributes:
        model: the model.
        limits: what the user allows.
        stored: bytes that its files hold.
        given: bytes of the first feed, where it is the user's; a model's own claims about its inputs count for nothing.
    """

    model: Model
    limits: Limits
    stored: int
    given: int

    def admit(self, facts: Analyses, inputs: InputShapes) -> None:
        """Refuse the model if a tensor is larger than the limit; else give it the time that its arithmetic takes. ``facts`` are
        about the model.

        Raises:
            ModelError: GO042, with the node.
        """
        limit = self.limits.memory_for(self.stored, self.given)
        table = facts.get(Shapes(inputs=inputs))
        for where, count in _made(self.model, table) if limit else ():
            if count > limit:
                why = f"would make {size(count)}, more than the {size(limit)} it may have"
                raise ModelError("GO042", f"{self.model.label}: {where}", why, MEMORY_HINT)
        page = watched()
        if page is not None:
            page.extend(self.limits.for_macs(self.stored, facts.get(Cost(inputs=inputs)).macs))

    def known(self, *, exact: bool) -> None:
        """The model was run once and did no harm: lossy passes, which look at the user's data, get what they need."""
        if watched() is None:
            return
        if self.limits.memory is not None or not exact:
            confine(self.limits.memory or 0)
        else:
            confine(AFTERWARDS * self.limits.memory_for(self.stored, self.given))


@contextmanager
def first_contact(model: Model, limits: Limits, *, given: int = 0) -> Generator[Contact]:
    """While a model is checked, loaded and run for the first time; the arguments are as for ``Contact``.

    Raises:
        ModelError: GO042, instead of MemoryError.
    """
    page = watched()
    about(model.label)
    contact = Contact(model, limits, model.size(), given)
    limit = limits.memory_for(contact.stored, given)
    if page is not None:
        page.set_deadline(limits.base())
        page.extend(limits.for_bytes(contact.stored) + limits.for_nodes(model.count()))
        # What the data took meanwhile was asked for by the user, not by the model.
        confine(limit, anew=given > 0)
    try:
        _refuse_inputs(model, limit)
        yield contact
    except MemoryError:
        why = f"it takes more memory than the {size(limit)} it may have" if confined() else "it takes more memory than there is"
        raise ModelError("GO042", model.label, why, MEMORY_HINT) from None
    finally:
        if page is not None:
            page.set_deadline(None)


def _refuse_inputs(model: Model, limit: int) -> None:
    """Inputs as declared: open dimensions count as 1."""
    for spec in input_specs(model) if limit else ():
        count = _input_bytes(spec)
        if count > limit:
            where = f"{model.label}: input '{spec.name}'"
            why = f"{spec.describe()} takes {size(count)}, more than the {size(limit)} it may have"
            raise ModelError("GO042", where, why, MEMORY_HINT)


def _input_bytes(spec: InputSpec) -> int:
    return math.prod(d if isinstance(d, int) else 1 for d in spec.shape or ()) * spec.dtype.itemsize


def _made(model: Model, table: ShapeTable) -> Iterator[tuple[str, int]]:
    """Every tensor that a node makes, as far as its size is known: the node, and bytes."""
    for node in model.graph.nodes:
        for tensor in node.outputs:
            shape, kind = table.shape(tensor), table.dtype(tensor)
            if shape is None or not kind:
                continue
            item = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize
            yield node_label(node), math.prod(d if isinstance(d, int) else 1 for d in shape) * item
