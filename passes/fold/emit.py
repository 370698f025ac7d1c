"""Writing an affine map as operators, in the way that was chosen for it (see ``recipes``).

Values are computed in float64 and cast once. A map is not written if a source holds NaN or infinity (0 times infinity would
spread it), if the cast overflows, or if numbers are so large that sums of them would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.analysis.affine import Span
from graphopt.model import Model
from graphopt.ops.affine import AffineMap, Axis, Form, Kernel, Refused, evaluate
from graphopt.ops.affine.axis import laid
from graphopt.ops.affine.border import constant, even
from graphopt.ops.affine.maps import averaged, coarsen, rewindowed
from graphopt.ops.affine.terms import unit_of
from graphopt.passes.fold.recipes import Recipe, Way, transposed, whole_image

Array = NDArray[Any]

_GEMM_WITHOUT_BIAS = 11
_SLICE_BY_INPUT = 10
_CRD = 11
_ENORMOUS: dict[int, float] = {
    onnx.TensorProto.FLOAT: 2.0**63,
    onnx.TensorProto.BFLOAT16: 2.0**63,
    onnx.TensorProto.DOUBLE: 2.0**511,
}
"""The roots of the largest numbers, by type: more than any weight is. float16 ends far below, and all that it has is used."""

_RESIZE_WITHOUT_REGION = 13
"""Operator sets from which Gemm's bias may be left out, Slice takes its limits as inputs, DepthToSpace has a mode, and Resize's
region of interest may be left out."""


@dataclass(frozen=True, slots=True)
class Values:
    """Weight and bias (None if all zero) of a map in the type of its tensors: [C_out * block, C_in or its window, taps...]. Where
    the constant differs along the border, by more than rounding, it is ``border`` [1, C_out, sizes...], and there is no bias.
    """

    weight: Array
    bias: Array | None
    border: Array | None = None


def values_of(span: Span, way: Way, elem_type: int, sizes: tuple[int, ...] | None, memo: dict[int, Kernel]) -> Values | Refused:
    """The values of a span's map, to be written in ``way``. ``sizes``: the spatial sizes of its root, where they are known;
    ``memo`` takes the values of its parts.
    """
    if not elem_type:
        return Refused("unknown-size", "its element type is not known")
    if way == "select":  # it has no values
        return Values(np.ones((1, 1)), None)
    form = span.map.form
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    with np.errstate(all="ignore"):
        kernel = _behind_the_pool(span.map, memo) if way == "pool" else evaluate(span.map, np, memo)
        exact = [_whole(form, np.asarray(kernel.weight)), np.asarray(kernel.bias)]
        level = even(span.map, sizes or (), unit_of(elem_type)) if form.border else None
        if level is not None:
            exact[1] = np.repeat(level, form.block)
        elif form.border:
            exact[1] = constant(span.map, sizes or ())[None]
        weight, bias = (a.astype(dtype) for a in exact)
    largest = np.max([_largest(a) for a in (weight, bias, *(np.asarray(part.bias) for part in memo.values()))])
    if not np.isfinite(largest):
        if all(np.isfinite(a).all() for a in exact):
            return Refused("overflow", f"its weights do not fit into {dtype.name}")
        return Refused("non-finite-weights", "its weights hold NaN or infinity")
    if largest > _ENORMOUS.get(elem_type, np.inf):
        return Refused("overflow", f"its numbers are so large that sums of them overflow in {dtype.name}")
    if form.border and level is None:
        return Values(weight, None, bias)
    return Values(weight, bias if bias.any() else None)


def _largest(array: Array) -> float:
    """The largest magnitude; NaN or infinity if there is any."""
    return float(np.maximum(array.max(initial=0.0), -array.min(initial=0.0)))


def _behind_the_pool(top: AffineMap, memo: dict[int, Kernel]) -> Kernel:
    """The convolution that follows the pool: of each position by itself."""
    rest = averaged(top)
    if rest is not None:
        kernel = evaluate(rest, np, memo)
        return Kernel(rewindowed(kernel.weight, rest.form, top.form, np), kernel.bias)
    kernel = evaluate(top, np, memo)
    weight = np.asarray(kernel.weight)
    return Kernel(weight.sum(axis=tuple(range(2, weight.ndim)), keepdims=True), kernel.bias)


def _whole(form: Form, weight: Array) -> Array:
    """With all rows, those outside of the window zero."""
    if form.rows is None:
        return weight
    wide = coarsen(weight, form.groups, 1, np)
    (a, b), (c, d) = form.row_window, form.col_window
    full = np.zeros((form.c_out * form.block, form.c_in, *weight.shape[2:]))
    full[a * form.block : b * form.block, c:d] = wide
    return full


def replace(
    model: Model, span: Span, recipe: Recipe, values: Values, name: str, sizes: tuple[int, ...] | None = None
) -> list[gs.Node]:
    """The nodes that compute ``span.top`` from ``span.root``; they take over the tensor, the old ones become dead. ``sizes``: the
    spatial sizes of the root, where they are known.
    """
    writer = _Writer(model, span, values, name, sizes)
    for index in span.moves:
        writer.move(model.graph.nodes[index])
    match recipe.way:
        case "scale":
            writer.scale()
        case "select":
            writer.select()
        case "matrix":
            writer.matrix()
        case "transpose":
            writer.transpose()
        case _:
            writer.convolution(recipe.way)
    return writer.nodes


class _Writer:
    def __init__(self, model: Model, span: Span, values: Values, name: str, sizes: tuple[int, ...] | None) -> None:
        self.model = model
        self.span = span
        self.root: gs.Tensor = span.root
        self.form = span.map.form
        self.values = values
        self.name = name
        self.sizes = sizes
        self.nodes: list[gs.Node] = []

    def _make(self, op: str, inputs: list[gs.Tensor], output: gs.Tensor, attrs: dict[str, Any] | None = None) -> gs.Tensor:
        name = self.name if not self.nodes else self.model.fresh(f"{self.name}.{op.lower()}") if self.name else ""
        self.nodes.append(self.model.make(op, inputs, [output], attrs, name=name))
        return output

    def _middle(self, hint: str) -> gs.Tensor:
        return self.model.variable(f"{self.span.top.name}.{hint}", self.span.top.dtype)

    def _constant(self, hint: str, array: Array) -> gs.Tensor:
        return self.model.constant(f"{self.span.top.name}.{hint}", array)

    def move(self, node: gs.Node) -> None:
        """The same to the root's other axes; its channels are the last axis."""
        rest = list(node.inputs)[1:]
        given = self.model.value(rest[0]) if node.op == "Reshape" else None
        if given is not None and given[-1] > 0:
            rest = [self._constant("shape", np.asarray([*given[:-1], self.form.c_in], np.int64))]
        output = self._middle("moved")
        name = self.model.fresh(node.name) if node.name else ""
        self.nodes.append(self.model.make(node.op, [self.root, *rest], [output], dict(node.attrs), name=name))
        self.root = output

    # -- convolutions ------------------------------------------------------------------------------------------------------

    def convolution(self, way: str) -> None:
        """Slice, AveragePool, Conv, DepthToSpace or Resize, Add: as many of them as the map needs."""
        form, top = self.form, self.span.top
        weight, bias, axes = self.values.weight, self.values.bias, form.axes
        source = self.root
        if form.rows is None and form.cols is not None:
            source = self._slice(source, *form.cols)
        if way == "pool":
            source = self._pool(source)
            axes = (Axis(),) * len(axes)
        if way == "repeat":
            weight = weight.reshape(form.c_out, form.block, *weight.shape[1:])[:, 0]
            bias = None if bias is None else bias.reshape(form.c_out, form.block)[:, 0]
            axes = tuple(Axis(a.extent, a.grid, a.stride, a.begin, a.end) for a in axes)
        spread = form.block > 1 and way == "conv"
        crd = spread and self.model.opset >= _CRD
        if spread and not crd:  # phases before channels
            weight = _dcr(weight, form)
            bias = None if bias is None else _dcr(bias, form)
        last = form.block == 1 and way != "repeat" and self.values.border is None
        made = self._conv(source, weight, bias, axes, top if last else self._middle("blocks"))
        end = top if self.values.border is None else self._middle("plain")
        if spread:
            attrs: dict[str, Any] = {"blocksize": form.phases[0], **({"mode": "CRD"} if crd else {})}
            made = self._make("DepthToSpace", [made], end, attrs)
        elif way == "repeat":
            made = self._resize(made, end)
        if self.values.border is not None:
            self._make("Add", [made, self._constant("border", self.values.border)], top)

    def _conv(self, source: gs.Tensor, weight: Array, bias: Array | None, axes: tuple[Axis, ...], output: gs.Tensor) -> gs.Tensor:
        groups = 1 if self.form.rows is not None else self.form.groups
        wide = [a.without_negative_pads() for a in axes]
        full = np.ascontiguousarray(weight)
        if wide != list(axes):
            full = np.zeros((*weight.shape[:2], *(a.taps for a in wide)), weight.dtype)
            place: tuple[Any, ...] = (..., *(laid(w, a, max(-a.begin, 0)) for w, a in zip(wide, axes, strict=True)))
            full[place] = weight
        attrs: dict[str, Any] = {
            "dilations": [a.grid or 1 for a in wide],
            "group": groups,
            "kernel_shape": list(full.shape[2:]),
            "pads": [*(a.begin for a in wide), *(a.end for a in wide)],
            "strides": [a.stride for a in wide],
        }
        inputs = [source, self._constant("weight", full)]
        if bias is not None:
            inputs.append(self._constant("bias", bias))
        return self._make("Conv", inputs, output, attrs)

    def _slice(self, source: gs.Tensor, start: int, stop: int) -> gs.Tensor:
        output = self._middle("part")
        if self.model.opset < _SLICE_BY_INPUT:
            return self._make("Slice", [source], output, {"axes": [1], "starts": [start], "ends": [stop]})
        limits = [self._constant(hint, np.asarray([v], np.int64)) for hint, v in (("starts", start), ("ends", stop), ("axes", 1))]
        return self._make("Slice", [source, *limits], output)

    def _pool(self, source: gs.Tensor) -> gs.Tensor:
        axes = self.form.axes
        if whole_image(self.form, self.sizes):
            return self._make("GlobalAveragePool", [source], self._middle("mean"))
        attrs: dict[str, Any] = {
            "kernel_shape": [a.extent for a in axes],
            "pads": [*(a.begin for a in axes), *(a.end for a in axes)],
            "strides": [a.stride for a in axes],
            "count_include_pad": 1,
        }
        return self._make("AveragePool", [source], self._middle("mean"), attrs)

    def _resize(self, source: gs.Tensor, output: gs.Tensor) -> gs.Tensor:
        scales = self._constant("scales", np.asarray([1, 1, *self.form.phases], np.float32))
        attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        needs_region = self.model.opset < _RESIZE_WITHOUT_REGION
        region = self._constant("region", np.zeros(0, np.float32)) if needs_region else gs.Variable("")
        return self._make("Resize", [source, region, scales], output, attrs)

    def transpose(self) -> None:
        """ConvTranspose: the phases of the kernel side by side."""
        form, n = self.form, len(self.form.axes)
        kernels = [k for k in map(transposed, form.axes) if k is not None]
        groups, rows, columns = form.groups, form.c_out // form.groups, form.c_in // form.groups
        taps = self.values.weight.reshape(groups, rows, *form.phases, columns, *form.taps)
        blocks = np.zeros((groups, rows, *form.phases, columns, *form.extent), taps.dtype)
        grid: tuple[Any, ...] = (..., *(slice(None, None, a.grid or 1) for a in form.axes))
        blocks[grid] = taps
        flipped = np.flip(blocks, axis=tuple(range(3 + n, 3 + 2 * n)))
        order = [0, 2 + n, 1, *(i for k in range(n) for i in (3 + n + k, 2 + k))]
        whole = flipped.transpose(order).reshape(form.c_in, rows, *(a.phase * a.extent for a in form.axes))
        ends = [k.first + (k.taps - 1) * k.dilation + 1 for k in kernels]
        pads = [(max(-k.first, 0), max(end - w, 0)) for k, end, w in zip(kernels, ends, whole.shape[2:], strict=True)]
        wide = np.pad(whole, [(0, 0), (0, 0), *pads])
        cuts = tuple(
            slice(max(k.first, 0), max(k.first, 0) + end - k.first, k.dilation) for k, end in zip(kernels, ends, strict=True)
        )
        weight = np.ascontiguousarray(wide[(slice(None), slice(None), *cuts)])
        attrs: dict[str, Any] = {
            "dilations": [k.dilation for k in kernels],
            "group": groups,
            "kernel_shape": [k.taps for k in kernels],
            "pads": [*(k.begin for k in kernels), *(k.end for k in kernels)],
            "strides": list(form.phases),
        }
        if any(k.extra for k in kernels):
            attrs["output_padding"] = [k.extra for k in kernels]
        inputs = [self.span.root, self._constant("weight", weight)]
        if self.values.bias is not None:
            inputs.append(self._constant("bias", self.values.bias.reshape(form.c_out, form.block)[:, 0]))
        self._make("ConvTranspose", inputs, self.span.top, attrs)

    # -- the rest ----------------------------------------------------------------------------------------------------------

    def matrix(self) -> None:
        """Gemm for matrices, MatMul (and Add) for tensors of more axes, or where Gemm demands a bias and there is none."""
        form, root, top = self.form, self.root, self.span.top
        weight, bias = self.values.weight.reshape(form.c_out, -1), self.values.bias
        if form.cols is not None and form.rows is None:
            full = np.zeros((form.c_out, form.c_in), weight.dtype)
            full[:, slice(*form.cols)] = coarsen(weight, form.groups, 1, np)
            weight = full
        elif form.rows is None:
            weight = coarsen(weight, form.groups, 1, np).astype(weight.dtype)
        if form.rank == 2 and (bias is not None or self.model.opset >= _GEMM_WITHOUT_BIAS):
            inputs = [root, self._constant("weight", weight), *([self._constant("bias", bias)] if bias is not None else [])]
            self._make("Gemm", inputs, top, {"transB": 1})
            return
        matrix = self._constant("weight", np.ascontiguousarray(weight.T))
        product = self._make("MatMul", [root, matrix], top if bias is None else self._middle("product"))
        if bias is not None:
            self._make("Add", [product, self._constant("bias", bias)], top)

    def scale(self) -> None:
        """Mul and Add, or one of them."""
        form, root, top = self.form, self.span.root, self.span.top
        shape = (form.c_out, *([1] * (form.rank - form.axis - 1)))
        factor = self.values.weight.reshape(shape)
        shift = None if self.values.bias is None else self.values.bias.reshape(shape)
        plain = shift is not None and (factor == 1).all()
        if not plain:
            scale = self._constant("scale", factor)
            root = self._make("Mul", [root, scale], top if shift is None else self._middle("scaled"))
        if shift is not None:
            self._make("Add", [root, self._constant("shift", shift)], top)

    def select(self) -> None:
        """Gather of the channels."""
        index = np.asarray(self.form.select, np.int64)
        self._make("Gather", [self.span.root, self._constant("channels", index)], self.span.top, {"axis": self.form.axis})


def _dcr(rows: Array, form: Form) -> Array:
    return np.ascontiguousarray(rows.reshape(form.c_out, form.block, *rows.shape[1:]).swapaxes(0, 1)).reshape(rows.shape)
