"""The models of onnx's own backend tests: where they are and what to feed them.

Two sources, and together every model that the onnx package brings:

- *node* models are made in Python when ``onnx.backend.test.case.node`` is imported, with their inputs beside them (the seed is set
  first, since many of them draw their inputs);
- *file* models lie in ``onnx/backend/test/data``: simple, pytorch-converted and pytorch-operator with recorded inputs, and light,
  the architectures of the model zoo with constant weights, which get the dummy input that onnx's own runner gives them.

A case is named ``kind/name``; making all node models takes a few seconds, so only the first process does.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FILE_KINDS = ("simple", "pytorch-converted", "pytorch-operator")
NODE, LIGHT = "node", "light"


@dataclass(frozen=True)
class Case:
    """One model: a file, or what was made in Python (then with all that a worker process needs to know of it)."""

    kind: str
    name: str
    path: Path | None = None
    proto: bytes = field(default=b"", repr=False)
    supplied: tuple[dict[str, Any], ...] = field(default=(), repr=False, compare=False)

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"

    def model(self) -> onnx.ModelProto:
        """A fresh copy of the model."""
        if self.path is None:
            return onnx.ModelProto.FromString(self.proto)
        return onnx.load(str(self.path), load_external_data=False)

    def feeds(self) -> list[dict[str, Any]]:
        """The supplied inputs by name, one dict a data set. Values are arrays, lists of them (sequences) or None (optionals)."""
        if self.path is None:
            return list(self.supplied)
        proto = self.model()
        weights = {t.name for t in proto.graph.initializer}
        if self.kind == LIGHT:
            return [{i.name: _dummy(i) for i in proto.graph.input if i.name not in weights}]
        return [_recorded(folder, proto) for folder in sorted(self.path.parent.glob("test_data_set*"))]


def all_cases() -> list[Case]:
    """Every case, in a fixed order."""
    return node_cases() + file_cases()


@functools.cache
def node_cases() -> list[Case]:
    """The models that the package makes in Python."""
    from onnx.backend.test.loader import load_node_model_tests

    np.random.seed(0)  # the package draws from the global generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflow and the like, in the reference computations
        return sorted(map(_node_case, load_node_model_tests()), key=lambda case: case.name)


def _node_case(test: Any) -> Case:
    names = [i.name for i in test.model.graph.input]
    feeds = tuple(dict(zip(names, map(_array, inputs), strict=False)) for inputs, _ in test.data_sets)
    return Case(NODE, test.name, proto=test.model.SerializeToString(), supplied=feeds)


def file_cases() -> list[Case]:
    """The models that lie in files. Cheap: nothing is imported."""
    cases = [
        Case(kind, folder.name, folder / "model.onnx")
        for kind in FILE_KINDS
        for folder in sorted((DATA / kind).iterdir())
        if (folder / "model.onnx").is_file()
    ]
    return cases + [Case(LIGHT, path.stem, path) for path in sorted((DATA / LIGHT).glob("*.onnx"))]


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _dummy(value: onnx.ValueInfoProto) -> Any:
    """Rising from 0 to 1, as ``onnx.backend.test.runner`` feeds these models."""
    shape = tuple(d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim)
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _recorded(folder: Path, proto: onnx.ModelProto) -> dict[str, Any]:
    feed: dict[str, Any] = {}
    for index in range(len(list(folder.glob("input_*.pb")))):
        raw = (folder / f"input_{index}.pb").read_bytes()
        value = proto.graph.input[index]
        match value.type.WhichOneof("value"):
            case "sequence_type":
                feed[value.name] = numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
            case "optional_type":
                feed[value.name] = numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
            case _:
                feed[value.name] = numpy_helper.to_array(onnx.TensorProto.FromString(raw))
    return feed
