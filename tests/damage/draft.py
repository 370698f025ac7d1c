"""Kinds of damage as data: a kind is one function that edits a draft, and what is allowed to come of it.

    @damage(REFUSED)
    def stride_0(d: Draft) -> None:
        set_attribute(d.node("Conv"), "strides", [0, 0])

The function's name is the kind's. It is tried on several bases; one that has nothing to damage there asks for a node or tensor that
the draft has not got, which raises ``Skip``. All that is random is drawn from ``d.rng``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import onnx
from onnx import TensorProto, helper

from tests.damage.bases import Files, base

Item = TypeVar("Item")

ANY = ("conv", "classifier", "branches", "quantized", "listed", "external", "functions", "attention", "opset9", "half")
"""All bases but the large one."""


class Allowed(StrEnum):
    """What may come of a damaged model."""

    REFUSED = "refused"
    """A clean error: exit code 2, ``error[GOnnn]``, nothing on stdout, nothing written."""
    KEPT = "kept"
    """It looks odd but is sound: it must come through and compute the same."""
    EITHER = "either"
    """A clean error, or a result that the runtime loads and that computes the same."""


REFUSED, KEPT, EITHER = Allowed.REFUSED, Allowed.KEPT, Allowed.EITHER


class Skip(Exception):
    """The base has nothing that this kind could damage."""


@dataclass
class Draft:
    """A model about to be damaged.

    Attributes:
        proto: the model.
        rng: everything random comes from here.
        files: further files of the model's folder, by name.
        links: symbolic links of the model's folder, name -> where they point; ``hard`` the same for hard links.
        raw: the bytes of the model file, if they are not the proto's.
    """

    proto: onnx.ModelProto
    rng: random.Random
    files: Files = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    hard: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None

    @property
    def graph(self) -> onnx.GraphProto:
        return self.proto.graph

    def bytes(self) -> bytes:
        return self.proto.SerializeToString(deterministic=True) if self.raw is None else self.raw

    def node(self, *ops: str) -> onnx.NodeProto:
        """A node of one of these types (any, without names)."""
        return self.one(n for n in self.graph.node if not ops or n.op_type in ops)

    def weight(self, *, least: int = 1, dtype: int | None = None, raw: bool = False) -> TensorProto:
        """An initializer of at least ``least`` dimensions (and of a type; and with its bytes at hand)."""
        return self.one(
            t for t in self.graph.initializer if len(t.dims) >= least and dtype in (None, t.data_type) and (t.raw_data or not raw)
        )

    def weight_of(self, node: onnx.NodeProto, index: int) -> TensorProto:
        """The initializer that a node reads as its input ``index``."""
        name = node.input[index] if index < len(node.input) else ""
        return self.one(t for t in self.graph.initializer if t.name == name)

    def one(self, items: Iterable[Item]) -> Item:
        """One of the items; Skip if there is none."""
        found = list(items)
        if not found:
            raise Skip
        return self.rng.choice(found)

    def add(self, op: str, inputs: list[str], outputs: list[str], *, first: bool = False, **attrs: object) -> onnx.NodeProto:
        """A further node, last or first."""
        node = helper.make_node(op, inputs, outputs, name=f"added_{op}", **attrs)
        self.graph.node.append(node)
        if first:
            rest = list(self.graph.node)[:-1]
            del self.graph.node[:]
            self.graph.node.extend([node, *rest])
        return node

    def returns(self, name: str, dtype: int = TensorProto.FLOAT, shape: list[int | str] | None = None) -> None:
        """A further output of the graph."""
        self.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))


@dataclass(frozen=True)
class Kind:
    """One kind of damage: ``count`` models of it, spread over those of ``bases`` that it fits."""

    name: str
    room: str
    allowed: Allowed
    apply: Callable[[Draft], None]
    bases: tuple[str, ...]
    count: int


KINDS: dict[str, Kind] = {}


def damage(allowed: Allowed, *, on: str = "", count: int = 2) -> Callable[[Callable[[Draft], None]], Callable[[Draft], None]]:
    """Register a kind. ``on``: names of bases, if not any will do."""

    def register(apply: Callable[[Draft], None]) -> Callable[[Draft], None]:
        name = apply.__name__.strip("_").replace("_", " ")
        if name in KINDS:
            raise ValueError(f"two kinds are named {name}")
        KINDS[name] = Kind(name, apply.__module__.rpartition(".")[2], allowed, apply, tuple(on.split()) or ANY, count)
        return apply

    return register


def draft(base_name: str, seed: int) -> Draft:
    proto, files = base(base_name)
    return Draft(proto, random.Random(seed), files)


# -- small edits that many kinds share -----------------------------------------------------------------------------------


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Replace or add an attribute."""
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [a for a in node.attribute if a.name != name]
    if len(kept) == len(node.attribute):
        raise Skip
    del node.attribute[:]
    node.attribute.extend(kept)
