"""Writing the choice into the graph as QuantizeLinear and DequantizeLinear.

One QuantizeLinear a tensor and one DequantizeLinear that all its readers share (the runtime copies the latter where it needs to).
Then an integer unit reads nothing but DequantizeLinear outputs, and its own
output is read by a QuantizeLinear alone, which is what lets the runtime make an integer kernel of it:

    x -> Q -> DQ -> [unit] -> t -> Q -> DQ -> readers of t

- A graph output keeps its name and its type: the unit gets a new tensor, the DequantizeLinear behind it produces the output.
- A float reader of a tensor that was computed in integers reads the dequantized one; of one computed in float, the tensor itself.
- Weights become int8 initializers with a DequantizeLinear along the output channels, biases int32 ones; a shared weight is
  quantized once for all readers that want the same scales, and once more for others. The float initializers are left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphopt.model import Model, links
from graphopt.passes.quant.affine import Params, params
from graphopt.passes.quant.placement import Placement
from graphopt.passes.quant.units import Unit
from graphopt.passes.quant.weights import Weight, quantize_bias
from graphopt.target import Int8Scheme

Floats = NDArray[np.float64]


class Inserter:
    """Edits one model; ``whole`` are the tensors that not even float readers read as they are."""

    def __init__(
        self, model: Model, units: Sequence[Unit], placement: Placement, scheme: Int8Scheme, whole: Collection[str] = ()
    ) -> None:
        self.model = model
        self.units = units
        self.placement = placement
        self.scheme = scheme
        self.whole = whole
        self.integer = [u for u in units if u.key in placement.int8]
        self._dequantized: dict[int, gs.Tensor] = {}
        self._scalars: dict[tuple[str, bytes], gs.Constant] = {}
        self._weights: dict[tuple[int, bytes], gs.Tensor] = {}

    def insert(
        self, tensors: Sequence[gs.Tensor], of: Mapping[str, Params], weights: Mapping[str, Weight], biases: Mapping[str, Floats]
    ) -> None:
        """Write everything.

        Args:
            tensors: the activations of which an integer version exists.
            of: their parameters, by name.
            weights: unit key -> quantized weight, for integer kernels.
            biases: unit key -> bias [channels], where it is not the one that the kernel has.
        """
        for unit in self.integer:
            self.constants(unit)
            if unit.key in weights:
                self.weight(unit, weights[unit.key], of[unit.data[0].name].scale, biases.get(unit.key, unit.bias))
        makers = {id(t) for u in self.integer if u.key not in self.placement.float_result for t in u.outputs}
        for tensor in tensors:
            if id(tensor) in makers or tensor.name in self.whole:
                self.integer_made(tensor, of[tensor.name])
            else:
                self.float_made(tensor, of[tensor.name])
        self.shield()
        self.model.sort()
        self.model.edited()

    # -- activations -----------------------------------------------------------------------------------------------------------

    def integer_made(self, tensor: gs.Tensor, p: Params) -> None:
        """Behind a tensor that an integer unit computes, or one of ``whole``: everybody reads the dequantized value."""
        if self.model.is_output(tensor):
            raw = self.model.variable(f"{tensor.name}_float", tensor.dtype, tensor.shape)
            producer = tensor.inputs[0]
            links.set_outputs(producer, [raw if t is tensor else t for t in producer.outputs])
            self.pair(raw, p, tensor)
        else:
            result = self.model.variable(f"{tensor.name}_dequantized", tensor.dtype, tensor.shape)
            self.model.replace_uses(tensor, result)
            self.pair(tensor, p, result)
            self._dequantized[id(tensor)] = result

    def float_made(self, tensor: gs.Tensor, p: Params) -> None:
        """Before the integer readers of a tensor that is computed in float, or of a graph input."""
        result = self.model.variable(f"{tensor.name}_dequantized", tensor.dtype, tensor.shape)
        for unit in self.integer:
            for index, read in enumerate(unit.head.inputs):
                if read is tensor and any(t is tensor for t in unit.data):
                    self.model.set_input(unit.head, index, result)
        self.pair(tensor, p, result)
        self._dequantized[id(tensor)] = result

    def pair(self, tensor: gs.Tensor, p: Params, result: gs.Tensor) -> None:
        """QuantizeLinear and DequantizeLinear from ``tensor`` to ``result``."""
        scale = self.model.constant(f"{tensor.name}_scale", np.asarray(p.scale, np.float32))
        zero = self.scalar(np.asarray(p.zero, p.dtype))
        stored = self.model.variable(f"{tensor.name}_quantized", np.dtype(p.dtype), tensor.shape)
        self.model.add("QuantizeLinear", [tensor, scale, zero], [stored], name=self.model.fresh(f"{tensor.name}_quantize"))
        self.dequantize(stored, scale, zero, result)

    def dequantize(self, stored: gs.Tensor, scale: gs.Tensor, zero: gs.Tensor, result: gs.Tensor, axis: int | None = None) -> None:
        attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
        name = self.model.fresh(f"{stored.name}_dequantize")
        self.model.add("DequantizeLinear", [stored, scale, zero], [result], attrs, name=name)

    # -- constants ---------------------------------------------------------------------------------------------------------------

    def constants(self, unit: Unit) -> None:
        """Constant operands of arithmetic: one scale each, over exactly their range."""
        for index in unit.constants:
            tensor = unit.head.inputs[index]
            value = self.model.value(tensor)
            if value is None:
                continue
            low, high = float(value.min(initial=0.0)), float(value.max(initial=0.0))
            p = params(low, high, self.scheme.activation, symmetric=self.scheme.symmetric)
            key = (id(tensor), b"operand")
            if key not in self._weights:
                self._weights[key] = self.stored(tensor.name, p.quantize(value), np.asarray(p.scale), p.zero, None)
            self.model.set_input(unit.head, index, self._weights[key])

    def weight(self, unit: Unit, weight: Weight, s_x: np.float32, bias: NDArray[Any] | None) -> None:
        """Weight and bias of a kernel."""
        source = unit.head.inputs[1]
        key = (id(source), weight.scale.tobytes() + bytes([weight.axis or 0]) + weight.values.tobytes())
        if key not in self._weights:
            self._weights[key] = self.stored(source.name, weight.values, weight.scale, 0, weight.axis)
        self.model.set_input(unit.head, 1, self._weights[key])
        if bias is None:
            return
        name = f"{unit.outputs[0].name}_bias" if unit.bias_node is None else unit.bias_node[0].inputs[unit.bias_node[1]].name
        if self.scheme.bias == "float32":
            tensor: gs.Tensor = self.model.constant(f"{name}_corrected", np.asarray(bias, np.float32))
        else:
            values, scale = quantize_bias(bias, s_x, weight.scale)
            tensor = self.stored(name, values, scale, 0, None if weight.axis is None else 0)
        if unit.bias_node is None:
            links.set_inputs(unit.head, [*unit.head.inputs[:2], tensor])
        else:
            self.model.set_input(*unit.bias_node, tensor)

    def stored(self, name: str, values: NDArray[Any], scale: NDArray[np.float32], zero: int, axis: int | None) -> gs.Tensor:
        """An integer initializer and its DequantizeLinear; the latter's output."""
        stored = self.model.constant(f"{name}_quantized", values)
        scales = self.model.constant(f"{name}_scale", scale)
        zeros = self.model.constant(f"{name}_zero", np.full(scale.shape, zero, values.dtype))
        result = self.model.variable(f"{name}_dequantized", np.float32, values.shape)
        self.dequantize(stored, scales, zeros, result, axis)
        return result

    def scalar(self, value: NDArray[Any]) -> gs.Constant:
        """Zero points are few: one constant for each value."""
        key = (str(value.dtype), value.tobytes())
        if key not in self._scalars:
            self._scalars[key] = self.model.constant(f"zero_point_{value.dtype}_{int(value)}", value)
        return self._scalars[key]

    # -- hazards -----------------------------------------------------------------------------------------------------------------

    def shield(self) -> None:
        """Keep the runtime from running float nodes beside quantizers in integers (see ``target.Shield``)."""
        rule = self.scheme.shield
        for unit in self.units:
            if unit.key in self.placement.int8:
                continue
            readers = [user for tensor in unit.outputs for user in self.model.users(tensor) if user.op == "QuantizeLinear"]
            before = self.model.producer(unit.head.inputs[0]) if unit.head.inputs else None
            if not readers:
                continue
            if unit.head.op in rule.behind:
                for reader in readers:
                    self.copy_before(reader)
            elif unit.head.op in rule.before and before is not None and before.op == "DequantizeLinear":
                self.copy_before(unit.head)

    def copy_before(self, node: gs.Node) -> None:
        """Let ``node`` read a copy of its first input."""
        source = node.inputs[0]
        copied = self.model.variable(f"{source.name}_copy", source.dtype, source.shape)
        name = self.model.fresh(f"{source.name}_shield")
        self.model.add(self.scheme.shield.op, [source], [copied], name=name, before=node)
        self.model.set_input(node, 0, copied)
