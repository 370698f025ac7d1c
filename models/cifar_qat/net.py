"""``cifar_rep`` with fake quantizers: what quantization-aware training hands to a compiler.

A fake quantizer computes in float what integers will hold (Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877):

    q(x) = s * (clamp(round(x / s) + z, low, high) - z)

with round half to even, as ONNX's ``QuantizeLinear`` does. Its derivative is taken as 1 where the clamp is idle and as 0 elsewhere,
the straight-through estimator (Bengio, Leonard and Courville, arXiv:1308.3432).

- Weights: int8, symmetric, a scale for each output channel, ``s_o = max |K_o| / 127`` of the weights as they are at each step.
- Activations: uint8, one scale and zero point a tensor, from the running averages of the batches' minima and maxima; 0 is always
  representable. The ranges are fixed for the last epoch.

Exported, both become ``QuantizeLinear`` and ``DequantizeLinear``; the weights stay float in front of them.

**Which layers.** All kinds that such files bring, beside one another:

- the stem: a quantized convolution with its batch norm still behind it; so is the 1x1 of the fork;
- stage 1: float, in the branch form of the training;
- stages 2 and 3: the blocks *deployed*, that is, folded into one quantized convolution with a float bias (dense, grouped and
  depthwise); the inputs of the concatenation and of stage 2's residual addition are quantized too;
- the squeeze-excite gates, stage 3's residual addition and the linear head: float.

**Deploying a block** needs no algebra: it is an affine map, known by its answers to impulses. The answer to the zero image is the
bias, and the answer to an impulse in channel i at tap (u, v) of an output's window, less the bias, is K[:, i, u, v].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cifar_rep.net import Block, CifarRep, Fork, Residual, Shuffled, SqueezeExcite

MOMENTUM = 0.05
"""Weight of a new batch in the running minimum and maximum."""


class FakeQuantize(torch.autograd.Function):
    """q(x) with the straight-through derivative. ``axis`` is that of the scales; a negative one stands for a single scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
        low, high = (0, 255) if zero.dtype == torch.uint8 else (-128, 127)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)] if axis >= 0 else []
        s, z = scale.reshape(shape), zero.reshape(shape).to(x.dtype)
        levels = torch.round(x / s) + z
        ctx.save_for_backward((levels >= low) & (levels <= high))
        return (levels.clamp(low, high) - z) * s

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero: Any, axis: int) -> Any:
        """For the exporter."""
        where = {"axis_i": axis} if axis >= 0 else {}
        levels = g.op("QuantizeLinear", x, scale, zero, **where)
        return g.op("DequantizeLinear", levels, scale, zero, **where).setType(x.type())


def fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """q(x), of x's shape; the zero points' type, uint8 or int8, says how far the levels go."""
    function: Any = FakeQuantize
    y: Tensor = function.apply(x, scale, zero, axis)
    return y


class Activation(nn.Module):
    """A fake quantizer of activations: uint8, one scale. While ``observing`` its range follows the batches it sees in training."""

    low: Tensor
    high: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.observing = True
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero", torch.tensor(0, dtype=torch.uint8))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Move the range towards that of x."""
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        step = MOMENTUM if float(self.high - self.low) > 0 else 1.0
        self.low.lerp_(low, step)
        self.high.lerp_(high, step)
        self.scale.copy_((self.high - self.low).clamp(min=1e-8) / 255)
        self.zero.copy_(torch.round(-self.low / self.scale).clamp(0, 255).to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.observing:
            self.observe(x)
        return fake_quantize(x, self.scale, self.zero, -1)


class QuantizedConv(nn.Module):
    """A convolution with a fake quantizer on its weights: int8, symmetric, a scale for each output channel."""

    scale: Tensor
    zero: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = stride, padding, groups
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("scale", torch.ones(len(weight)))
        self.register_buffer("zero", torch.zeros(len(weight), dtype=torch.int8))
        self.measure()

    @torch.no_grad()
    def measure(self) -> None:
        """Take the scales from the weights."""
        self.scale.copy_(self.weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-8) / 127)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.measure()
        weight = fake_quantize(self.weight, self.scale, self.zero, 0)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)


@torch.no_grad()
def deployed(block: Block) -> QuantizedConv:
    """The block, in its branch form, as one convolution with 3x3 taps and padding 1. The block stays as it is."""
    kernel = block.square[0].weight
    if not isinstance(kernel, Tensor):
        raise TypeError("a block without a kernel")
    outputs, depth = kernel.shape[:2]
    inputs = depth * block.groups
    training = block.training
    block.double().eval()
    place = 2 // block.stride  # the window of this output covers rows and columns 1 to 3 of a 4x4 image
    zero = torch.zeros(1, inputs, 4, 4, dtype=torch.float64)
    bias = block.branches(zero)[0, :, place, place]
    taps = torch.zeros(inputs, 3, 3, outputs, dtype=torch.float64)
    for u in range(3):
        for v in range(3):
            impulses = zero.repeat(inputs, 1, 1, 1)
            impulses[torch.arange(inputs), torch.arange(inputs), 1 + u, 1 + v] = 1.0
            taps[:, u, v] = block.branches(impulses)[:, :, place, place] - bias
    block.float().train(training)
    dense = taps.permute(3, 0, 1, 2)
    group = torch.arange(outputs) // (outputs // block.groups)
    columns = group[:, None] * depth + torch.arange(depth)
    weight = dense[torch.arange(outputs)[:, None], columns].float()
    return QuantizedConv(weight, bias.float(), stride=block.stride, padding=1, groups=block.groups)


def with_quantizer(conv: nn.Module) -> QuantizedConv:
    """A plain convolution without a bias, its weights quantized."""
    if not isinstance(conv, nn.Conv2d) or not isinstance(conv.padding[0], int):
        raise TypeError("not a convolution")
    return QuantizedConv(conv.weight, None, stride=conv.stride[0], padding=conv.padding[0], groups=conv.groups)


class QuantizedFork(nn.Module):
    """``Fork`` of a quantized input: its convolutions and the inputs of its concatenation are quantized; the 1x1 keeps its norm."""

    def __init__(self, fork: Fork) -> None:
        super().__init__()
        self.dense = nn.Sequential(deployed(fork.dense), nn.ReLU(), Activation())
        self.depthwise = nn.Sequential(deployed(fork.depthwise), nn.ReLU(), Activation())
        self.point = nn.Sequential(with_quantizer(fork.point[0]), fork.point[1], nn.ReLU(), Activation())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.dense(x), self.point(self.depthwise(x))], dim=1)


class QuantizedShuffled(nn.Module):
    """``Shuffled`` of a quantized input: both grouped convolutions and both inputs of the addition are quantized."""

    def __init__(self, unit: Shuffled) -> None:
        super().__init__()
        self.first = nn.Sequential(deployed(unit.first), nn.ReLU(), Activation())
        self.second = nn.Sequential(deployed(unit.second), Activation())
        self.grouped, self.plain = unit.grouped, unit.plain

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).reshape(self.grouped).transpose(1, 2).reshape(self.plain)
        return torch.relu(x + self.second(y))


class QuantizedResidual(nn.Module):
    """``Residual`` of a quantized input: both convolutions are quantized; gate and addition stay in float."""

    def __init__(self, unit: Residual) -> None:
        super().__init__()
        self.first = nn.Sequential(deployed(unit.first), nn.ReLU(), Activation())
        self.second = deployed(unit.second)
        if not isinstance(unit.gate, SqueezeExcite):
            raise TypeError("a residual without a gate")
        self.gate = unit.gate

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.gate(self.second(self.first(x))))


def quantized(net: CifarRep) -> CifarRep:
    """Put quantizers into a network that is in its branch form, in place."""
    net.stem = nn.Sequential(Activation(), with_quantizer(net.stem[0]), net.stem[1], net.stem[2])
    down2, relu2, fork, shuffled = net.stage2
    down3, relu3, residual = net.stage3
    if not (isinstance(down2, Block) and isinstance(fork, Fork) and isinstance(shuffled, Shuffled)):
        raise TypeError("another stage 2 than expected")
    if not (isinstance(down3, Block) and isinstance(residual, Residual)):
        raise TypeError("another stage 3 than expected")
    net.stage2 = nn.Sequential(
        Activation(), deployed(down2), relu2, Activation(), QuantizedFork(fork), Activation(), QuantizedShuffled(shuffled)
    )
    net.stage3 = nn.Sequential(Activation(), deployed(down3), relu3, Activation(), QuantizedResidual(residual))
    return net


def freeze(net: nn.Module) -> None:
    """Fix the ranges of the activations and the statistics of the batch norms."""
    for module in net.modules():
        if isinstance(module, Activation):
            module.observing = False
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
