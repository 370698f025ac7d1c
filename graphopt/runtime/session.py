"""Running a graph in onnxruntime: one session, quiet, with its errors told as ``ModelError`` GO030.

onnxruntime is imported at the first session and not before, so that ``import graphopt`` stays fast. Its own log is
switched off: what goes wrong comes back as an exception, and nothing of it belongs on the user's terminal.

Types that numpy does not know (bfloat16 and the 8-bit floats; arrays of the ml_dtypes package here) cross the border as
raw bits.
"""

from __future__ import annotations

import ctypes
import importlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.errors import ModelError
from graphopt.guard.death import MEMORY_HINT, size
from graphopt.guard.doing import doing
from graphopt.guard.limits import confined
from graphopt.model import Model
from graphopt.runtime.faults import explain

Array = NDArray[Any]
Feed = Mapping[str, Array]
"""One input of the whole model: input name -> array. (A sequence input takes a list of arrays, None is an absent optional.)"""

Runnable = Model | onnx.ModelProto | bytes

LARGE = 2**28
"""Bytes of weights above which a model is not handed over as one message (the message, the runtime's copy of it and a third one in
its kernels' layout would be in memory at once) but as a file, with the weights in another one that the runtime maps."""

PROTO_LIMIT = 2**31 - 2**20
"""Above this many bytes protobuf cannot serialise a message; the weights then go through a temporary file."""

_SILENT = 4

_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "not enough memory")

_RAW_TYPES = {
    f"tensor({name})": getattr(onnx.TensorProto, name.upper())
    for name in ("bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0")
}


def onnxruntime() -> Any:
    """The onnxruntime package (which carries no types)."""
    return importlib.import_module("onnxruntime")


def session_options(*, threads: int, optimize: bool) -> Any:
    """Options of every session: ``threads`` threads, all graph optimizations or none, no log."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    return options


class Session:
    """A model loaded into onnxruntime on the CPU.

    Args:
        model: what to run.
        threads: threads of one operator.
        optimize: whether onnxruntime may rewrite the graph (ORT_ENABLE_ALL) or must run it as it stands.
        extra_outputs: names of inner tensors (also inputs or initializers) that ``run`` returns after the graph's outputs.
        label: name of the model in messages; the model's own by default.

    Raises:
        ModelError: GO030, onnxruntime cannot load the model.
    """

    def __init__(
        self,
        model: Runnable,
        *,
        threads: int = 1,
        optimize: bool = True,
        extra_outputs: Sequence[str] = (),
        label: str = "",
    ) -> None:
        self.label = label or (model.label if isinstance(model, Model) else "<memory>")
        options = session_options(threads=threads, optimize=optimize)
        if isinstance(model, Model) and not extra_outputs and model.weight_bytes() > LARGE:
            self._session = _create_mapped(model, options, self.label)
        else:
            self._session = create(with_outputs(model, extra_outputs), options, self.label)
        inputs: Iterable[Any] = self._session.get_inputs()
        outputs: Iterable[Any] = self._session.get_outputs()
        self._input_types = {str(i.name): str(i.type) for i in inputs}
        self._output_types = {str(o.name): str(o.type) for o in outputs}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs that must be fed, in the graph's order."""
        return tuple(self._input_types)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs: the graph's, then the extra ones."""
        return tuple(self._output_types)

    def run(self, feed: Feed, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run once; the outputs (all, or those named) by name. A sequence comes as a list, an absent optional as None.

        Raises:
            ModelError: GO030, with the operator that failed where onnxruntime names it.
        """
        names = list(self.output_names if outputs is None else outputs)
        wanted = [*(self._input_types.get(n, "") for n in feed), *(self._output_types.get(n, "") for n in names)]
        try:
            if any(kind in _RAW_TYPES for kind in wanted):
                return dict(zip(names, self._run_raw(feed, names), strict=True))
            with doing("onnxruntime", f"running {self.label}"):
                values = cast(list[Array], self._session.run(names, dict(feed)))
        except (MemoryError, AssertionError):
            raise
        except Exception as error:  # noqa: BLE001 - as in ``create``
            raise _model_error(self.label, "run", error) from None
        return dict(zip(names, values, strict=True))

    def _run_raw(self, feed: Feed, names: list[str]) -> list[Array]:
        value_of = onnxruntime().OrtValue
        values: dict[str, Any] = {}
        for name, array in feed.items():
            kind = _RAW_TYPES.get(self._input_types.get(name, ""))
            if kind is None:
                values[name] = value_of.ortvalue_from_numpy(np.ascontiguousarray(array))
            else:
                bits = np.ascontiguousarray(array).view(np.uint16 if array.itemsize == 2 else np.uint8)
                values[name] = value_of.ortvalue_from_numpy_with_onnx_type(bits, kind)
        with doing("onnxruntime", f"running {self.label}"):
            results = self._session.run_with_ort_values(names, values)
        return [_to_numpy(result, self._output_types.get(n, "")) for n, result in zip(names, results, strict=True)]


def create(model: onnx.ModelProto | bytes, options: Any, label: str) -> Any:
    """An onnxruntime session with ``options``. Raises ModelError GO030 if the model does not load."""
    if isinstance(model, bytes):
        return _load(model, options, label)
    if model.ByteSize() < PROTO_LIMIT:
        return _load(model.SerializeToString(), options, label)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        path = Path(folder) / "model.onnx"
        save_with_external_data(model, path)
        return _load(str(path), options, label)


def _create_mapped(model: Model, options: Any, label: str) -> Any:
    """A session of a large model that maps its weights, as they are, and copies none of them; it is slower than others."""
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False  # it grows in powers of two
    level = onnxruntime().GraphOptimizationLevel
    if options.graph_optimization_level == level.ORT_ENABLE_ALL:
        options.graph_optimization_level = level.ORT_ENABLE_EXTENDED  # the level above rewrites the weights of convolutions
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        return _load(str(model.save_for_runtime(Path(folder))), options, label)  # what is mapped outlives its name


def _load(source: str | bytes, options: Any, label: str) -> Any:
    make = onnxruntime().InferenceSession
    try:
        with doing("onnxruntime", f"loading {label}"):
            return make(source, options, providers=["CPUExecutionProvider"])
    except (MemoryError, AssertionError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common base but this one
        raise _model_error(label, "load", error) from None


def as_proto(model: Runnable) -> onnx.ModelProto:
    """The model as a proto: a fresh one of a Model, the very one given otherwise. ModelError GO030 for bytes that are none."""
    if isinstance(model, Model):
        return model.proto()
    if isinstance(model, onnx.ModelProto):
        return model
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model)
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError has moved between its releases
        raise _model_error("<memory>", "load", error) from None
    return proto


def with_outputs(model: Runnable, names: Sequence[str]) -> onnx.ModelProto | bytes:
    """The model with ``names`` as further graph outputs. Their types are left open: onnxruntime infers them."""
    if not names:
        return model if isinstance(model, bytes) else as_proto(model)
    proto = as_proto(model)
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
    present = {o.name for o in proto.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    return proto


def save_with_external_data(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model beyond protobuf's 2 GiB: big weights in a file beside it. The proto given is left alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    cast(Any, onnx).save_model(copy, str(path), save_as_external_data=True, location=path.name + ".data", size_threshold=1024)


def _to_numpy(value: Any, kind: str) -> Array:
    elem_type = _RAW_TYPES.get(kind)
    if elem_type is None:
        return cast(Array, value.numpy())
    raw: Any = getattr(value, "_ortvalue", value)
    dtype = np.dtype(tensor_dtype_to_np_dtype(elem_type))
    shape = tuple(int(n) for n in value.shape())
    data = ctypes.string_at(raw.data_ptr(), int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _model_error(label: str, what: str, error: Exception) -> ModelError:
    text = str(error)
    fault = explain(text)
    where = f"{label}: {fault.node}" if fault.node else label
    if confined() and any(mark in text for mark in _NO_MEMORY):
        return ModelError("GO042", where, f"it takes more memory to {what} than the {size(confined())} it may have", MEMORY_HINT)
    default = "`graphopt inspect` shows the graph; does it run elsewhere?" if what == "load" else ""
    return ModelError("GO030", where, f"onnxruntime cannot {what} it: {fault.why}", fault.hint or default)
