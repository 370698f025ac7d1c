"""The network: linear branches that fold into one convolution each, between structures that must stay.

Two kinds of block are sums of linear branches, and equal one convolution ``y = K * x + b`` with padding 1:

- ``RepVGG`` (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021): 3x3-BN + 1x1-BN + BN, the last only
  where the shape stays. With ``groups`` it is a grouped convolution, and with as many groups as channels a depthwise one (as in
  Vasu et al., "MobileOne: An Improved One millisecond Mobile Backbone", CVPR 2023).
- ``DiverseBranch`` (Ding et al., "Diverse Branch Block: Building a Convolution as an Inception-like Unit", CVPR 2021):
  3x3-BN + 1x1-BN + 1x1-BN-3x3-BN + 1x1-BN-AveragePool-BN.

Around them is what a compiler has to carry through: residual additions, squeeze-excite gates (Hu et al., "Squeeze-and-Excitation
Networks", CVPR 2018), a channel shuffle between two grouped convolutions (Zhang et al., "ShuffleNet: An Extremely Efficient
Convolutional Neural Network for Mobile Devices", CVPR 2018), and a concatenation of a dense and a depthwise separable path.

**Two forms, one function.** A batch norm in each branch costs more time on a CPU than the convolutions do. So a block begins in its
*composed* form (after Hu et al., "Online Convolutional Re-parameterization", CVPR 2022, arXiv:2204.00826): the branches' kernels
are added and composed first, differentiably, and one convolution and one batch norm ``N`` are computed:

    y = N(K * x),    K = sum over branches b of s_b K_b,    s_b per output channel

where the ``s_b`` are the weights of the branches' own last batch norms. A 1x1 before a 3x3 composes as
``K[o, i, u] = sum over m of K2[o, m, u] A[m, i]``, and the average is the 3x3 kernel of ninths. ``separate`` goes to the *branch
form* without changing the function: with ``N(z) = g z + h``, the last norm of branch b becomes ``z -> (g s_b) z``, the first
branch's adds h, and a norm in the middle becomes the identity. A batch norm of measured mean m and variance v computes ``z -> a z``
with weight ``a sqrt(v + eps)`` and bias ``a m``; so the norms take the statistics of their inputs, and training goes on in the
branch form. That form is what is exported.

**The border.** A shift before zero padding would be lost in the ring; the 1x1 in front of a 3x3 or an average pool takes the
padding, and what follows has none. So the branch form folds exactly everywhere, at stride 2 too.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.branches import closed, conv, deep, mean

STEM = 24
WIDTHS = (48, 96, 192)
"""Channels of the three stages (16x16, 8x8 and 4x4 pixels); the stem works on 32x32."""


class Block(nn.Module):
    """A sum of linear branches, each closed by a batch norm; composed into one convolution until ``separate``.

    [N, inputs, H, W] -> [N, outputs, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        self.square = closed(inputs, outputs, 3, stride=stride, groups=groups)
        self.point = closed(inputs, outputs, 1, stride=stride, groups=groups)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs)

    def kernels(self) -> list[tuple[nn.BatchNorm2d, Tensor]]:
        """The last batch norm and the composed kernel [outputs, inputs / groups, 3, 3] of each branch, the first one first."""
        return [(_last(self.square), _weight(self.square, 0)), (_last(self.point), _centre(_weight(self.point, 0)))]

    def branches(self, x: Tensor) -> Tensor:
        """The sum, branch by branch."""
        y: Tensor = self.square(x) + self.point(x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            return self.branches(x)
        kernel = torch.stack([norm.weight[:, None, None, None] * k for norm, k in self.kernels()]).sum(0)
        y: Tensor = self.norm(functional.conv2d(x, kernel, stride=self.stride, padding=1, groups=self.groups))
        return y

    @torch.no_grad()
    def distribute(self) -> None:
        """Give the branches the batch norm of their sum: afterwards each of their norms only scales (and the first one shifts)."""
        if self.norm is None:
            return
        norm, self.norm = self.norm, None
        scale, shift = _scale_shift(norm)
        last = [norm for norm, _ in self.kernels()]
        for inner in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
            if not any(inner is n for n in last):
                nn.init.ones_(inner.weight)
            _set_norm(inner, inner.weight * (scale if any(inner is n for n in last) else 1.0), 0.0, 1.0)
        last[0].bias.add_(shift)


class RepVGG(Block):
    """3x3-BN + 1x1-BN + BN; the last only where the block keeps the shape. Grouped or depthwise by ``groups``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, stride, groups)
        self.identity = nn.BatchNorm2d(outputs) if inputs == outputs and stride == 1 else None

    def kernels(self) -> list[tuple[nn.BatchNorm2d, Tensor]]:
        if self.identity is None:
            return super().kernels()
        like = _weight(self.square, 0)
        delta = torch.zeros_like(like)
        channel = torch.arange(len(like))
        delta[channel, channel % like.shape[1], 1, 1] = 1.0
        return [*super().kernels(), (self.identity, delta)]

    def branches(self, x: Tensor) -> Tensor:
        y = super().branches(x)
        return y if self.identity is None else y + self.identity(x)


class DiverseBranch(Block):
    """3x3-BN + 1x1-BN + 1x1-BN-3x3-BN + 1x1-BN-AveragePool-BN."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, stride)
        self.deep = deep(inputs, outputs, stride)
        self.mean = mean(inputs, outputs, stride)

    def kernels(self) -> list[tuple[nn.BatchNorm2d, Tensor]]:
        composed = functional.conv2d(_weight(self.deep, 2), _weight(self.deep, 0).transpose(0, 1))
        average = _weight(self.mean, 0).expand(-1, -1, 3, 3) / 9
        return [*super().kernels(), (_last(self.deep), composed), (_last(self.mean), average)]

    def branches(self, x: Tensor) -> Tensor:
        y: Tensor = super().branches(x) + self.deep(x) + self.mean(x)
        return y


class SqueezeExcite(nn.Module):
    """x * sigmoid(1x1(relu(1x1(mean over the pixels of x)))), a gate for each channel. The shape stays."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(self.pool(x)))))


class Residual(nn.Module):
    """relu(x + gate(second(relu(first(x))))): the ReLU keeps the two blocks apart. The shape stays."""

    def __init__(self, first: Block, second: Block, gate: SqueezeExcite | None = None) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.gate = nn.Identity() if gate is None else gate

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.gate(self.second(torch.relu(self.first(x)))))


class Shuffled(nn.Module):
    """relu(x + second(shuffle(relu(first(x))))), both blocks grouped. [N, width, side, side] -> the same shape.

    The shuffle sends channel j of group g to place ``j * groups + g``, so that each group of the second block sees every group of
    the first one.
    """

    def __init__(self, width: int, groups: int, side: int) -> None:
        super().__init__()
        self.first = RepVGG(width, width, groups=groups)
        self.second = RepVGG(width, width, groups=groups)
        self.grouped = (-1, groups, width // groups, side, side)
        self.plain = (-1, width, side, side)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x)).reshape(self.grouped).transpose(1, 2).reshape(self.plain)
        return torch.relu(x + self.second(y))


class Fork(nn.Module):
    """Two paths of half the width, concatenated: a dense block, and a depthwise block with a 1x1 after it.

    [N, width, H, W] -> the same shape.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.dense = RepVGG(width, half)
        self.depthwise = RepVGG(width, width, groups=width)
        self.point = closed(width, half, 1)

    def forward(self, x: Tensor) -> Tensor:
        dense = torch.relu(self.dense(x))
        return torch.cat([dense, torch.relu(self.point(torch.relu(self.depthwise(x))))], dim=1)


class CifarRep(nn.Module):
    """A stem, three stages, the mean over the pixels, a linear head.

    Input: float32 [N, 3, 32, 32], RGB values in 0..1. Output: logits, float32 [N, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        one, two, three = WIDTHS
        self.stem = nn.Sequential(conv(3, STEM, 3, padding=1), nn.BatchNorm2d(STEM), nn.ReLU())
        self.stage1 = nn.Sequential(
            RepVGG(STEM, one, stride=2),
            nn.ReLU(),
            Residual(DiverseBranch(one, one), RepVGG(one, one), SqueezeExcite(one, one // 4)),
        )
        self.stage2 = nn.Sequential(
            DiverseBranch(one, two, stride=2),
            nn.ReLU(),
            Fork(two),
            Shuffled(two, groups=2, side=8),
        )
        self.stage3 = nn.Sequential(
            RepVGG(two, three, stride=2),
            nn.ReLU(),
            Residual(RepVGG(three, three, groups=2), RepVGG(three, three), SqueezeExcite(three, three // 8)),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(three, 10)

    def forward(self, image: Tensor) -> Tensor:
        y = self.stage3(self.stage2(self.stage1(self.stem(image))))
        logits: Tensor = self.head(torch.flatten(self.pool(y), 1))
        return logits


@torch.no_grad()
def separate(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Go from the composed form to the branch form, in place; the function stays, up to rounding.

    Args:
        net: in evaluation mode.
        batches: inputs whose statistics the batch norms of the branches take.
    """
    blocks = [m for m in net.modules() if isinstance(m, Block) and m.norm is not None]
    for block in blocks:
        block.distribute()
    norms = [m for block in blocks for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms]

    def observe(total: Tensor, x: Tensor) -> None:
        x = x.transpose(0, 1).flatten(1).double()
        total += torch.stack([torch.full((len(x),), float(x.shape[1])), x.sum(1), (x * x).sum(1)])

    hooks = [
        norm.register_forward_pre_hook(lambda _, inputs, total=total: observe(total, inputs[0]))
        for norm, total in zip(norms, sums, strict=True)
    ]
    for x in batches:
        net(x)
    for hook in hooks:
        hook.remove()
    for norm, (count, first, second) in zip(norms, sums, strict=True):
        mean = first / count
        scale, shift = _scale_shift(norm)
        _set_norm(norm, scale, mean.float(), (second / count - mean * mean).clamp(min=0).float())
        norm.bias.add_(scale * mean.float() + shift)


def _weight(branch: nn.Sequential, index: int) -> Tensor:
    weight = branch[index].weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"no kernel at {index}")
    return weight


def _last(branch: nn.Sequential) -> nn.BatchNorm2d:
    norm = branch[-1]
    if not isinstance(norm, nn.BatchNorm2d):
        raise TypeError("a branch ends in a batch norm")
    return norm


def _centre(kernel: Tensor) -> Tensor:
    return functional.pad(kernel, (1, 1, 1, 1))


def _scale_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Give g and h of the norm's ``z -> g z + h`` in evaluation mode."""
    if norm.running_var is None or norm.running_mean is None:
        raise TypeError("a batch norm without statistics")
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - scale * norm.running_mean


def _set_norm(norm: nn.BatchNorm2d, scale: Tensor, mean: Tensor | float, variance: Tensor | float) -> None:
    """Make it ``z -> scale (z - mean)``, with the statistics given."""
    if norm.running_var is None or norm.running_mean is None:
        raise TypeError("a batch norm without statistics")
    norm.running_mean.copy_(torch.as_tensor(mean))
    norm.running_var.copy_(torch.as_tensor(variance))
    norm.weight.copy_(scale * torch.sqrt(norm.running_var + norm.eps))
    norm.bias.zero_()
