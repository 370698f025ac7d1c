"""A small float64 interpreter of ONNX graphs, written from the operator specification: what the algebra is held against.

ONNX's own reference implementation does not know groups in ConvTranspose, the auto_pad of pools and more, and onnxruntime has no
float64 convolution. Every float is a float64 here, whatever the graph says, so that what is measured is a rewrite and not its
rounding. Operators without an entry in ``OPERATORS`` (shape arithmetic, scatters, einsum) go to ONNX's reference implementation
one node at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
Attrs = dict[str, Any]
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16})


def evaluate(proto: onnx.ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model in float64."""
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    values = {**constants_of(proto), **{k: wide(v) for k, v in feed.items()}}
    run(proto.graph.node, values, opset_of(proto))
    return [values[o.name] for o in proto.graph.output]


def constants_of(proto: onnx.ModelProto) -> dict[str, Array]:
    return {i.name: wide(numpy_helper.to_array(i)) for i in proto.graph.initializer}


def opset_of(proto: onnx.ModelProto) -> int:
    return next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))


def wide(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype.kind == "f" or value.dtype.name == "bfloat16" else value


def run(nodes: Iterable[NodeProto], values: dict[str, Array], opset: int) -> None:
    """Compute ``nodes``, which are in topological order, from and into ``values``."""
    for node in nodes:
        inputs = [values[name] if name else None for name in node.input]
        rule = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        results = (
            _reference(node, inputs, opset) if rule is None else rule({a.name: _attribute(a) for a in node.attribute}, *inputs)
        )
        for name, result in zip(node.output, results if isinstance(results, (list, tuple)) else [results], strict=False):
            values[name] = wide(np.asarray(result))


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(proto)
    return value.decode() if isinstance(value, bytes) else value


def _reference(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    feed = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
    with np.errstate(all="ignore"):  # it divides by norms of zero, and puts zeros there afterwards
        return list(ReferenceEvaluator(node, opsets={"": opset}).run(None, feed))  # type: ignore[arg-type]


# -- windows -----------------------------------------------------------------------------------------------------------------


def _pads(attrs: Attrs, sizes: Sequence[int], extent: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    n, auto = len(sizes), attrs.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = list(attrs.get("pads", [0] * (2 * n)))
        return pads[:n], pads[n:]
    if auto == "VALID":
        return [0] * n, [0] * n
    need = [max((math.ceil(h / s) - 1) * s + e - h, 0) for h, e, s in zip(sizes, extent, strides, strict=True)]
    small, large = [p // 2 for p in need], [p - p // 2 for p in need]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def _taps(kernel: Sequence[int], dilations: Sequence[int], strides: Sequence[int], outputs: Sequence[int]) -> Any:
    """Each tap of a kernel, with the slice of its padded input that it meets."""
    for tap in itertools.product(*map(range, kernel)):
        yield (
            tap,
            tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in zip(tap, dilations, strides, outputs, strict=True)),
        )


def conv(attrs: Attrs, x: Array, w: Array, b: Array | None = None) -> Array:
    n, g = w.ndim - 2, attrs.get("group", 1)
    strides, dilations = attrs.get("strides", [1] * n), attrs.get("dilations", [1] * n)
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    begin, end = _pads(attrs, x.shape[2:], extent, strides)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)])
    outputs = [(h - e) // s + 1 for h, e, s in zip(padded.shape[2:], extent, strides, strict=True)]
    padded = padded.reshape(len(x), g, -1, *padded.shape[2:])
    kernel = w.reshape(g, -1, *w.shape[1:])
    total = np.zeros((len(x), g, len(w) // g, math.prod(outputs)))
    for tap, window in _taps(w.shape[2:], dilations, strides, outputs):
        total += kernel[(..., *tap)] @ padded[(..., *window)].reshape(len(x), g, padded.shape[2], -1)
    y = total.reshape(len(x), len(w), *outputs)
    return y if b is None else y + b.reshape(-1, *[1] * n)


def conv_transpose(attrs: Attrs, x: Array, w: Array, b: Array | None = None) -> Array:
    n, g = w.ndim - 2, attrs.get("group", 1)
    strides, dilations = attrs.get("strides", [1] * n), attrs.get("dilations", [1] * n)
    extra = attrs.get("output_padding", [0] * n)
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [(h - 1) * s + e + o for h, s, e, o in zip(x.shape[2:], strides, extent, extra, strict=True)]
    begin, end = _transposed_pads(attrs, full, x.shape[2:], strides)
    kernel = w.reshape(g, -1, *w.shape[1:])
    source = x.reshape(len(x), g, -1, math.prod(x.shape[2:]))
    y = np.zeros((len(x), g, w.shape[1], *full))
    for tap, window in _taps(w.shape[2:], dilations, strides, x.shape[2:]):
        part = kernel[(..., *tap)].swapaxes(1, 2) @ source
        y[(..., *window)] += part.reshape(len(x), g, w.shape[1], *x.shape[2:])
    y = y.reshape(len(x), -1, *full)[(..., *(slice(p, f - q) for p, q, f in zip(begin, end, full, strict=True)))]
    return y if b is None else y + b.reshape(-1, *[1] * n)


def _transposed_pads(
    attrs: Attrs, full: Sequence[int], sizes: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    n, auto, shape = len(full), attrs.get("auto_pad", "NOTSET"), attrs.get("output_shape")
    if shape is None and not auto.startswith("SAME"):
        pads = list(attrs.get("pads", [0] * (2 * n))) if auto == "NOTSET" else [0] * (2 * n)
        return pads[:n], pads[n:]
    wanted = list(shape)[-n:] if shape is not None else [h * s for h, s in zip(sizes, strides, strict=True)]
    total = [f - o for f, o in zip(full, wanted, strict=True)]
    half = [t // 2 for t in total]
    rest = [t - h for t, h in zip(total, half, strict=True)]
    return (half, rest) if auto == "SAME_UPPER" else (rest, half)


def average_pool(attrs: Attrs, x: Array) -> Array:
    kernel = attrs["kernel_shape"]
    n = len(kernel)
    strides, dilations = attrs.get("strides", [1] * n), attrs.get("dilations", [1] * n)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    begin, end = _pads(attrs, x.shape[2:], extent, strides)
    sizes = [h + p + q for h, p, q in zip(x.shape[2:], begin, end, strict=True)]
    outputs = [(h - e) // s + 1 for h, e, s in zip(sizes, extent, strides, strict=True)]
    if attrs.get("ceil_mode", 0):
        outputs = [-((e - h) // s) + 1 for h, e, s in zip(sizes, extent, strides, strict=True)]
        starts = [h + p for h, p in zip(x.shape[2:], begin, strict=True)]
        outputs = [o - 1 if (o - 1) * s >= h else o for o, s, h in zip(outputs, strides, starts, strict=True)]
    room = [max((o - 1) * s + e - h, 0) for o, s, e, h in zip(outputs, strides, extent, sizes, strict=True)]
    counted = np.pad(np.ones(x.shape[2:]), list(zip(begin, end, strict=True)), constant_values=attrs.get("count_include_pad", 0))
    counted = np.pad(counted, [(0, r) for r in room])
    padded = np.pad(x, [(0, 0), (0, 0), *((p, q + r) for p, q, r in zip(begin, end, room, strict=True))])
    windows = [window for _, window in _taps(kernel, dilations, strides, outputs)]
    return sum(padded[(..., *w)] for w in windows) / sum(counted[w] for w in windows)  # type: ignore[no-any-return]


# -- movement ----------------------------------------------------------------------------------------------------------------


def pad(attrs: Attrs, x: Array, pads: Array | None = None, value: Array | None = None, axes: Array | None = None) -> Array:
    amounts = np.asarray(attrs["pads"] if pads is None else pads).tolist()
    which = list(range(x.ndim)) if axes is None else [int(a) % x.ndim for a in axes]
    both = [(0, 0)] * x.ndim
    for i, axis in enumerate(which):
        both[axis] = (amounts[i], amounts[i + len(which)])
    y = x[tuple(slice(max(-p, 0), h - max(-q, 0)) for (p, q), h in zip(both, x.shape, strict=True))]
    both = [(max(p, 0), max(q, 0)) for p, q in both]
    mode = attrs.get("mode", "constant")
    if mode != "constant":
        return np.pad(y, both, mode=mode)
    fill = attrs.get("value", 0.0) if value is None else np.asarray(value).reshape(-1)[0]
    return np.pad(y, both, constant_values=fill)


def depth_to_space(attrs: Attrs, x: Array) -> Array:
    r = attrs["blocksize"]
    n, c, h, w = x.shape
    if attrs.get("mode", "DCR") == "DCR":
        y = x.reshape(n, r, r, c // r**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // r**2, h * r, w * r)


def space_to_depth(attrs: Attrs, x: Array) -> Array:
    r = attrs["blocksize"]
    n, c, h, w = x.shape
    return x.reshape(n, c, h // r, r, w // r, r).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * r**2, h // r, w // r)


def resize(attrs: Attrs, x: Array, _roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None) -> Array:
    """Nearest only."""
    if attrs.get("mode", "nearest") != "nearest":
        raise NotImplementedError(attrs["mode"])
    axes = [a % x.ndim for a in attrs.get("axes", range(x.ndim))]
    for i, axis in enumerate(axes):
        size = x.shape[axis]
        given = scales is not None and scales.size > 0
        out = math.floor(size * float(scales[i])) if given else int(sizes[i])  # type: ignore[index]
        scale = float(scales[i]) if given else out / size  # type: ignore[index]
        x = x.take(_nearest(attrs, np.arange(out), scale, size, out), axis)
    return x


def _nearest(attrs: Attrs, y: Array, scale: float, size: int, out: int) -> Array:
    match attrs.get("coordinate_transformation_mode", "half_pixel"):
        case "asymmetric":
            x = y / scale
        case "half_pixel":
            x = (y + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            x = (y + 0.5) / scale - 0.5 if out > 1 else y * 0.0
        case "align_corners":
            x = y * (size - 1) / (out - 1) if out > 1 else y * 0.0
        case other:
            raise NotImplementedError(other)
    match attrs.get("nearest_mode", "round_prefer_floor"):
        case "floor":
            x = np.floor(x)
        case "ceil":
            x = np.ceil(x)
        case "round_prefer_floor":
            x = np.ceil(x - 0.5)
        case _:
            x = np.floor(x + 0.5)
    return np.clip(x, 0, size - 1).astype(np.int64)


def slice_(attrs: Attrs, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    where = np.arange(len(starts)) if axes is None else axes
    step = np.ones(len(starts), np.int64) if steps is None else steps
    index: list[slice] = [slice(None)] * x.ndim
    for s, e, a, t in zip(starts.tolist(), ends.tolist(), where.tolist(), step.tolist(), strict=True):
        index[a] = slice(s, None if t < 0 and e < -x.shape[a] else e, t)
    return x[tuple(index)]


def split(attrs: Attrs, x: Array, sizes: Array | None = None) -> list[Array]:
    axis = attrs.get("axis", 0)
    if sizes is None and "num_outputs" not in attrs:
        raise NotImplementedError("the number of outputs is the node's")
    if sizes is not None:
        return np.split(x, np.cumsum(sizes)[:-1].tolist(), axis)
    step = math.ceil(x.shape[axis] / attrs["num_outputs"])
    return np.split(x, range(step, x.shape[axis], step), axis)


def reshape(attrs: Attrs, x: Array, shape: Array) -> Array:
    keep = not attrs.get("allowzero", 0)
    return x.reshape([x.shape[i] if d == 0 and keep else d for i, d in enumerate(shape.tolist())])


def flatten(attrs: Attrs, x: Array) -> Array:
    axis = attrs.get("axis", 1) % (x.ndim + 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


# -- arithmetic --------------------------------------------------------------------------------------------------------------


def batch_norm(attrs: Attrs, x: Array, scale: Array, shift: Array, mean: Array, var: Array) -> Array:
    factor = scale / np.sqrt(var + attrs.get("epsilon", 1e-5))
    line = (-1, *[1] * (x.ndim - 2))
    return x * factor.reshape(line) + (shift - mean * factor).reshape(line)


def gemm(attrs: Attrs, a: Array, b: Array, c: Array | None = None) -> Array:
    a, b = a.T if attrs.get("transA") else a, b.T if attrs.get("transB") else b
    y = attrs.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attrs.get("beta", 1.0) * c


def prelu(attrs: Attrs, x: Array, slope: Array) -> Array:
    return np.where(x < 0, x * slope, x)


def reduce_mean(attrs: Attrs, x: Array, axes: Array | None = None) -> Array:
    given = attrs.get("axes") if axes is None else axes.tolist()
    return x.mean(None if given is None else tuple(given), keepdims=bool(attrs.get("keepdims", 1)))


def constant(attrs: Attrs) -> Array:
    ((kind, value),) = attrs.items()
    return numpy_helper.to_array(value) if kind == "value" else np.asarray(value)


def cast(attrs: Attrs, x: Array) -> Array:
    return x.astype(np.float64) if attrs["to"] in _FLOATS else x.astype(helper.tensor_dtype_to_np_dtype(attrs["to"]))


def divide(attrs: Attrs, x: Array, y: Array) -> Array:
    return x / y if x.dtype.kind == "f" else np.trunc(x / y).astype(x.dtype)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "MatMul": lambda _, a, b: a @ b,
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": divide,
    "Neg": lambda _, x: -x,
    "Sum": lambda _, *xs: sum(xs[1:], xs[0]),
    "Identity": lambda _, x: x,
    "Dropout": lambda _, x, *_more: x,
    "Relu": lambda _, x: np.maximum(x, 0),
    "PRelu": prelu,
    "Clip": lambda a, x, low=None, high=None: np.clip(
        x, a.get("min", -np.inf) if low is None else low, a.get("max", np.inf) if high is None else high
    ),
    "ReduceMean": reduce_mean,
    "Constant": constant,
    "Cast": cast,
    "Concat": lambda a, *xs: np.concatenate(xs, a["axis"]),
    "Slice": slice_,
    "Split": split,
    "Gather": lambda a, x, i: np.take(x, i, a.get("axis", 0)),
    "Transpose": lambda a, x: x.transpose(a.get("perm")),
    "Reshape": reshape,
    "Flatten": flatten,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
}
