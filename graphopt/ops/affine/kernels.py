"""Convolutions, pooling, padding and resizing as affine maps (ONNX operator specification)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.ops import attrs
from graphopt.ops.affine.axis import MOST_PHASES, PLAIN, Axis
from graphopt.ops.affine.form import MANY_PHASES, Form, Refused
from graphopt.ops.affine.frames import bordered, float64
from graphopt.ops.affine.maps import Kernel, Leaf
from graphopt.ops.affine.terms import NOT_CONSTANT, Linear, Term, Weight, auto_pad, weight_of
from graphopt.ops.facts import Facts, constant_input, has_input, integer_input, positive, static


def conv(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Conv (1-D to 3-D, grouped, dilated)."""
    read = _weight_and_bias(node, facts)
    if read is None or isinstance(read, Refused):
        return read
    weight, bias, sources = read
    groups, kernel, dilations, strides = _geometry(node, weight)
    n = len(kernel)
    if groups < 1 or weight.shape[0] % groups or len(dilations) != n or len(strides) != n:
        return Refused("attributes", "group, strides or dilations do not fit the weights")
    if bias is not None and bias.size != weight.shape[0]:
        return Refused("attributes", "a bias that does not fit the weights")
    if not (positive(dilations) and positive(strides) and positive(kernel)):
        return Refused("attributes", "a stride, dilation or kernel extent of zero or less")
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    pads = _pads(node, facts, extent, strides)
    if isinstance(pads, Refused):
        return pads
    axes = tuple(
        Axis(e, d if k > 1 else 0, s, p, q)
        for e, d, k, s, p, q in zip(extent, dilations, kernel, strides, pads[0], pads[1], strict=True)
    )
    biased = bias is not None and bool(np.any(bias))
    form = Form(1, weight.shape[1] * groups, weight.shape[0], groups, axes, biased)

    def build(xp: Any) -> Kernel:
        return Kernel(float64(weight.read(), xp), xp.zeros((form.c_out,), dtype=xp.float64) if bias is None else float64(bias, xp))

    return Linear(0, (Leaf(form, build, sources, "conv"),))


def _geometry(node: gs.Node, weight: Weight) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Groups, kernel extents, dilations and strides, unchecked."""
    kernel = tuple(weight.shape[2:])
    ones = (1,) * len(kernel)
    return attrs.int_(node, "group", 1), kernel, attrs.ints(node, "dilations", ones), attrs.ints(node, "strides", ones)


def conv_transpose(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """ConvTranspose with explicit pads.

    y[j] = sum over i of x[i] * W[j + p - s * i]. With j = s * n + f and i = n + q that is tap f + p - s * q of W: a map of phase s
    whose kernel runs over q from ceil((p - k + 1) / s) to floor((s - 1 + p) / s).
    """
    read = _weight_and_bias(node, facts)
    if read is None or isinstance(read, Refused):
        return read
    weight, bias, sources = read
    groups, kernel, dilations, strides = _geometry(node, weight)
    n = len(kernel)
    extra = attrs.ints(node, "output_padding", (0,) * n)
    pads = attrs.ints(node, "pads", (0,) * (2 * n))
    if groups < 1 or weight.shape[0] % groups or {len(dilations), len(strides), len(extra), len(pads) / 2} != {n}:
        return Refused("attributes", "group, strides, dilations or pads do not fit the weights")
    if not (positive(dilations) and positive(strides) and positive(kernel)) or "output_shape" in node.attrs:
        return Refused("attributes", "an output shape instead of pads, or a stride, dilation or kernel extent of zero")
    if auto_pad(node) not in ("NOTSET", "VALID") or min(pads, default=0) < 0 or min(extra, default=0) < 0:
        return Refused("attributes", "a transposed convolution with automatic or negative padding")
    if max(strides) > MOST_PHASES:
        return MANY_PHASES
    given = zip(kernel, dilations, strides, pads[:n], pads[n:], extra, strict=True)
    axes = tuple(_transposed_axis(*one) for one in given)
    c_out = weight.shape[1] * groups
    if bias is not None and bias.size != c_out:
        return Refused("attributes", "a bias that does not fit the weights")
    biased = bias is not None and bool(np.any(bias))
    form = Form(1, weight.shape[0], c_out, groups, axes, biased)

    def build(xp: Any) -> Kernel:
        return _phased(form, float64(weight.read(), xp), None if bias is None else float64(bias, xp), dilations, pads[:n], xp)

    return Linear(0, (Leaf(form, build, sources, "conv_transpose"),))


def _transposed_axis(taps: int, dilation: int, stride: int, begin: int, end: int, extra: int) -> Axis:
    extent = (taps - 1) * dilation + 1
    low = [-((extent - 1 - begin - f) // stride) for f in range(stride)]
    high = [(f + begin) // stride for f in range(stride)]
    length = extent - stride - begin - end + extra  # the output has stride * H + length elements
    added = -(-length // stride)
    first, last = min(low), max(high)
    size = last - first + 1
    # a phase without taps may have any support within the kernel
    support = tuple((min(a - first, size - 1), max(b - first, 0)) if a <= b else (0, 0) for a, b in zip(low, high, strict=True))
    return Axis(
        extent=size,
        grid=1 if size > 1 else 0,
        begin=-first,
        end=added - 1 + size + first,
        phase=stride,
        crop=stride * added - length,
        support=support if stride > 1 else (),
        fine=dilation,
    )


def _phased(form: Form, weight: Any, bias: Any, dilations: Sequence[int], pads: Sequence[int], xp: Any) -> Kernel:
    """A transposed kernel [C_in, C_out / groups, k...] by phases."""
    groups = form.groups
    rows, columns = form.c_out // groups, form.c_in // groups
    grouped = weight.reshape(groups, columns, rows, *weight.shape[2:])
    dense = xp.zeros((groups, rows, *form.phases, columns, *form.taps), dtype=xp.float64)
    for tap in np.ndindex(*weight.shape[2:]):
        at: list[tuple[int, int]] = []
        for t, d, p, a in zip(tap, dilations, pads, form.axes, strict=True):
            # t * d = f + p - phase * q
            f = (t * d - p) % a.phase
            at.append((f, (f + p - t * d) // a.phase + a.begin))
        where = (slice(None), slice(None), *(f for f, _ in at), slice(None), *(q for _, q in at))
        part = grouped[(..., *tap)]
        dense[where] = xp.swapaxes(part, 1, 2)
    shift = xp.zeros((form.c_out, form.block), dtype=xp.float64)
    if bias is not None:
        shift = shift + bias.reshape(form.c_out, 1)
    return Kernel(dense.reshape(form.c_out * form.block, columns, *form.taps), shift.reshape(-1))


def _weight_and_bias(node: gs.Node, facts: Facts) -> tuple[Weight, NDArray[Any] | None, tuple[str, ...]] | Refused | None:
    if not has_input(node, 0):
        return None
    weight, bias = weight_of(node, 1, facts), constant_input(node, 2, facts)
    if weight is None or isinstance(weight, Refused):
        return weight
    if has_input(node, 2) and bias is None:
        return NOT_CONSTANT
    if len(weight.shape) < 3:
        return None
    sources = tuple(node.inputs[i].name for i in (1, 2) if has_input(node, i))
    return weight, bias, sources


def _pads(
    node: gs.Node, facts: Facts, extent: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | Refused:
    """Begin and end pads; automatic ones need the input's size (ONNX: SAME_UPPER puts the odd one at the end)."""
    n = len(extent)
    auto = auto_pad(node)
    if auto == "VALID":
        return (0,) * n, (0,) * n
    if auto == "NOTSET":
        pads = attrs.ints(node, "pads", (0,) * (2 * n))
        if len(pads) != 2 * n or min(pads, default=0) < 0:
            return Refused("attributes", "pads that do not fit the kernel, or negative ones")
        return pads[:n], pads[n:]
    sizes = static((facts.shape(node.inputs[0]) or (None,))[2:])
    if sizes is None or len(sizes) != n:
        return Refused("dynamic-auto-pad", "automatic padding of an input whose size is not known")
    total = [max((-(-h // s) - 1) * s + e - h, 0) for h, s, e in zip(sizes, strides, extent, strict=True)]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def average_pool(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """AveragePool as a depthwise kernel of equal weights: exact where padded zeros count, or nothing is padded."""
    shape = facts.shape(node.inputs[0])
    kernel = attrs.ints(node, "kernel_shape", ())
    n = len(kernel)
    if shape is None or len(shape) != n + 2 or not isinstance(shape[1], int) or not positive(kernel):
        return None
    strides = attrs.ints(node, "strides", (1,) * n)
    dilations = attrs.ints(node, "dilations", (1,) * n)
    if attrs.int_(node, "ceil_mode", 0) or set(dilations) - {1} or len(strides) != n or not positive(strides):
        return Refused("pool-rounding", "an average pool that rounds its size up, or is dilated")
    pads = _pads(node, facts, kernel, strides)
    if isinstance(pads, Refused):
        return pads
    if (any(pads[0]) or any(pads[1])) and not attrs.int_(node, "count_include_pad", 0):
        return Refused("pool-excludes-pad", "an average pool that leaves padding out of its mean is no convolution at the border")
    axes = tuple(
        Axis(k, 1 if k > 1 else 0, s, p, q) for k, s, p, q in zip(kernel, strides, pads[0], pads[1], strict=True)
    )  # fmt: skip
    return Linear(0, (_mean(shape[1], axes, "average_pool"),))


def _mean(channels: int, axes: tuple[Axis, ...], label: str) -> Leaf:
    form = Form(1, channels, channels, channels, axes, uniform=True)

    def build(xp: Any) -> Kernel:
        weight = xp.zeros((channels, 1, *form.taps), dtype=xp.float64) + 1.0 / math.prod(form.extent)
        return Kernel(weight, xp.zeros((channels,), dtype=xp.float64))

    return Leaf(form, build, label=label)


def global_average_pool(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """GlobalAveragePool of a known size: an average pool over all of it."""
    return _global_mean(facts, node)


def reduce_mean(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """ReduceMean over just the spatial axes, which stay as axes of size 1."""
    shape = facts.shape(node.inputs[0])
    if shape is None or len(shape) < 3 or not attrs.int_(node, "keepdims", 1):
        return None
    if facts.opset >= 18 and has_input(node, 1):
        given = integer_input(node, 1, facts)
        axes = None if given is None else [int(a) for a in given.reshape(-1)]
    else:
        axes = list(attrs.ints(node, "axes", ()))
    if axes is None or sorted(a % len(shape) for a in axes) != list(range(2, len(shape))):
        return None
    return _global_mean(facts, node)


def _global_mean(facts: Facts, node: gs.Node) -> Term | Refused | None:
    shape = facts.shape(node.inputs[0])
    if shape is None or len(shape) < 3 or not isinstance(shape[1], int):
        return None
    sizes = static(shape[2:])
    if sizes is None:
        return Refused("dynamic-mean", "a mean over axes of unknown size is no kernel")
    if not positive(sizes):
        return None
    axes = tuple(Axis(h, 1 if h > 1 else 0) for h in sizes)
    return Linear(0, (_mean(shape[1], axes, "mean"),))


def pad(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Pad on spatial axes: the identity with pads. Another value v than zero: x - v padded with zeros, plus v."""
    shape = facts.shape(node.inputs[0])
    if shape is None or len(shape) < 3 or not isinstance(shape[1], int):
        return None
    if attrs.str_(node, "mode", "constant") != "constant":
        return Refused("pad-mode", "padding that repeats or reflects the input is no convolution")
    if facts.opset >= 11:
        amounts, fill = integer_input(node, 1, facts), constant_input(node, 2, facts)
        if amounts is None or (has_input(node, 2) and fill is None) or has_input(node, 3):
            return NOT_CONSTANT
        pads, value = (
            tuple(int(v) for v in amounts.reshape(-1)),
            float(fill.reshape(-1)[0]) if fill is not None and fill.size else 0.0,
        )
    else:
        pads, value = attrs.ints(node, "pads", ()), attrs.float_(node, "value", 0.0)
    rank = len(shape)
    if len(pads) != 2 * rank or any(pads[:2]) or any(pads[rank : rank + 2]):
        return None
    begin, end = pads[2:rank], pads[rank + 2 :]
    if not math.isfinite(value):
        return Refused("pad-value", "padding with NaN or infinity")
    return Linear(0, bordered(shape[1], begin, end, np.full(shape[1], value), ()))


# -- resizing ----------------------------------------------------------------------------------------------------------------


def resize(node: gs.Node, facts: Facts) -> Term | Refused | None:
    """Resize and Upsample to the nearest, larger by integers on spatial axes: every element becomes a block of copies."""
    shape = facts.shape(node.inputs[0])
    if shape is None or len(shape) < 3 or not isinstance(shape[1], int):
        return None
    mode = attrs.str_(node, "mode", "nearest")
    if mode != "nearest":
        return Refused("resize-mode", "resizing that interpolates is no convolution at the border")
    scales = _scales(node, facts)
    if scales is None:
        return Refused("resize-scale", "resizing by factors that are not known, or not whole")
    if max(scales) > MOST_PHASES:
        return MANY_PHASES
    if scales[:2] != [1, 1] or not positive(scales) or not all(_repeats(node, facts, r) for r in scales[2:]):
        return Refused("resize-scale", "resizing other than by copies of whole elements")
    axes = tuple(Axis(phase=r, support=((0, 0),) * r) if r > 1 else PLAIN for r in scales[2:])
    channels, block = shape[1], math.prod(scales)
    form = Form(1, channels, channels, channels, axes, repeated=True)

    def build(xp: Any) -> Kernel:
        weight = xp.zeros((channels * block, 1, *form.taps), dtype=xp.float64) + 1.0
        return Kernel(weight, xp.zeros((channels * block,), dtype=xp.float64))

    return Linear(0, (Leaf(form, build, label="nearest"),))


def _scales(node: gs.Node, facts: Facts) -> list[int] | None:
    """Whole factors for all axes."""
    rank = len(facts.shape(node.inputs[0]) or ())
    before, after = facts.shape(node.inputs[0]) or (), facts.shape(node.outputs[0]) or ()
    index = 2 if node.op == "Resize" and facts.opset >= 11 else 1
    given = constant_input(node, index, facts)
    listed: list[float] | None
    if node.op == "Upsample" and "scales" in node.attrs:
        value = node.attrs["scales"]
        listed = [float(v) for v in np.asarray(value, np.float64)] if isinstance(value, list) else None
    elif given is not None and given.size:
        listed = [float(v) for v in given.reshape(-1)]
    elif has_input(node, 3) and len(before) == len(after):
        if attrs.str_(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        listed = [1.0, 1.0]
        for old, new in zip(before[2:], after[2:], strict=True):
            if not isinstance(old, int) or not isinstance(new, int) or old < 1:
                return None
            listed.append(new / old)
        if before[:2] != after[:2]:
            return None
    else:
        return None
    axes = attrs.ints(node, "axes", ())
    if axes and listed is not None and len(axes) == len(listed) and len(listed) < rank:
        full = [1.0] * rank
        for a, v in zip(axes, listed, strict=True):
            full[a % rank] = v
        listed = full
    if listed is None or len(listed) != rank or not all(v.is_integer() for v in listed):
        return None
    return [int(v) for v in listed]


def _repeats(node: gs.Node, facts: Facts, factor: int) -> bool:
    """Whether element n becomes just elements factor * n ... factor * n + factor - 1."""
    if factor == 1 or node.op == "Upsample" or facts.opset < 11:
        return True
    transform = attrs.str_(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attrs.str_(node, "nearest_mode", "round_prefer_floor")
    if transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        places = [(f + 0.5) / factor - 0.5 for f in range(factor)]
    elif transform == "asymmetric":
        places = [f / factor for f in range(factor)]
    elif transform == "tf_half_pixel_for_nn":
        places = [(f + 0.5) / factor for f in range(factor)]
    else:
        return False
    roundings: dict[str, Callable[[float], int]] = {
        "round_prefer_floor": lambda v: math.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: math.floor(v + 0.5),
        "floor": math.floor,
        "ceil": math.ceil,
    }
    rounded = roundings.get(rounding)
    return rounded is not None and all(rounded(v) == 0 for v in places)
