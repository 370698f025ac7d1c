"""The network: seven plain 3x3 convolutions at inference, each of them a sum of wide linear branches at training time.

Folded, this is a network of the ABPN class (Du et al., "Anchor-based Plain Net for Mobile Image Super-Resolution", CVPR
Workshops 2021, arXiv:2105.09750): 3x3 convolutions of 28 channels with ReLU, a last one to 27 = 3 * 3 * 3 channels, the
*anchor* (every input channel repeated nine times) added, depth to space, clip. The network only has to learn what
nearest-neighbour enlargement gets wrong.

At training time every convolution is one of two blocks, both affine in their input:

- ``Collapsible`` (Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient Super Resolution", MLSys 2022,
  arXiv:2103.09404): 3x3 to ``WIDE`` channels, 1x1 back, and a short skip where the widths agree. With ``E, e`` the
  kernel and bias of the first and ``P, p`` those of the second,

      K[o, i, u] = sum over m of P[o, m] * E[m, i, u]  (+ 1 where o = i and u is the centre, for the skip)
      b[o] = p[o] + sum over m of P[o, m] * e[m]

- ``EdgeOriented`` (Zhang et al., "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices", ACM
  Multimedia 2021): 3x3; 1x1 to ``DEEP`` channels then 3x3; and three branches of a 1x1 and a fixed depthwise mask (Sobel
  in x, Sobel in y, Laplacian) with a learned scale and bias for each channel; and the skip. For the mask branches, with
  ``A`` the 1x1 kernel, ``s`` the scale and ``M`` the mask, K[o, i, u] = s[o] * M[u] * A[o, i]; the deep branch is

      K[o, i, u] = sum over m of D[o, m, u] * A[m, i]
      b[o] = d[o] + sum over m, u of D[o, m, u] * a[m]

**Why the folding is exact at the border.** A bias ``a`` before a zero-padded convolution is wrong on the outermost
pixels: the padding holds 0 where the composed bias needs ``a``. No branch here has one. In the collapsible block the
padded 3x3 is the first operator, and the 1x1 behind it needs no padding. In the mask branches the 1x1 has no bias, so
that what it makes of zeros is the zeros of the padding. In the deep branch the 1x1 takes the padding itself (its ring
holds ``a``) and the 3x3 behind it has none.

**Training runs the folded kernels.** The formulas above are differentiable, and the folded network is seven times
cheaper than the wide one; so ``forward`` composes the kernels at each step (as Bhardwaj et al. do) and gradients reach the
wide weights through the composition. ``expanded = True`` runs the branches themselves: that is what is exported.

**Masks.** ``sr_x3_masked`` multiplies the output of each block but the last, skip included and before the ReLU, by one
number a channel. A number that is exactly 0 makes the channel exactly 0: it can be removed from this block's rows and
the next block's columns without any change of the output.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 3
COLOURS = 3
WIDTH = 28
WIDE = 256
"""Channels inside a collapsible block."""
DEEP = 56
"""Channels inside the deep branch of an edge-oriented block."""

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def _scaled(conv: nn.Conv2d, gain: float = 1.0) -> nn.Conv2d:
    """Start a convolution so that it keeps the variance, times ``gain`` squared; zero bias."""
    nn.init.normal_(conv.weight, std=gain * conv.weight[0].numel() ** -0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _delta(channels: int) -> Tensor:
    """The 3x3 kernel of the identity."""
    kernel = torch.zeros(channels, channels, 3, 3)
    kernel[range(channels), range(channels), 1, 1] = 1.0
    return kernel


def _bias(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias


class Block(nn.Module):
    """An affine map [N, inputs, H, W] -> [N, outputs, H, W] that equals one 3x3 convolution with padding 1."""

    expanded: bool = False

    def folded(self) -> tuple[Tensor, Tensor]:
        """The kernel [outputs, inputs, 3, 3] and bias [outputs] of the one convolution."""
        raise NotImplementedError

    def branches(self, x: Tensor) -> Tensor:
        """The block as it is written out."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.expanded:
            return self.branches(x)
        kernel, bias = self.folded()
        return functional.conv2d(x, kernel, bias, padding=1)


class Collapsible(Block):
    """1x1(3x3(x)), ``WIDE`` channels between, plus x where the widths agree."""

    delta: Tensor

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        self.expand = _scaled(nn.Conv2d(inputs, WIDE, 3, padding=1))
        self.project = _scaled(nn.Conv2d(WIDE, outputs, 1), gain)
        self.skip = inputs == outputs
        self.register_buffer("delta", _delta(inputs), persistent=False)

    def folded(self) -> tuple[Tensor, Tensor]:
        project = self.project.weight.flatten(1)
        kernel = (project @ self.expand.weight.flatten(1)).view(-1, self.expand.in_channels, 3, 3)
        bias = _bias(self.project) + project @ _bias(self.expand)
        return (kernel + self.delta if self.skip else kernel), bias

    def branches(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.expand(x))
        return y + x if self.skip else y


class Masked(nn.Module):
    """1x1 without bias, then a fixed 3x3 mask on each channel, scaled, with a bias."""

    mask: Tensor

    def __init__(self, width: int, mask: Tensor) -> None:
        super().__init__()
        self.point = _scaled(nn.Conv2d(width, width, 1, bias=False))
        self.scale = nn.Parameter(torch.randn(width, 1, 1, 1) * 0.05)
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mask", mask.expand(width, 1, 3, 3).clone())

    def folded(self) -> tuple[Tensor, Tensor]:
        return self.point.weight * (self.scale * self.mask), self.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.point(x)
        return functional.conv2d(y, self.scale * self.mask, self.bias, padding=1, groups=y.shape[1])


class EdgeOriented(Block):
    """3x3(x) + 3x3(1x1(x)) + three fixed masks of 1x1(x) + x."""

    delta: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.square = _scaled(nn.Conv2d(width, width, 3, padding=1), 0.7)
        self.point = _scaled(nn.Conv2d(width, DEEP, 1, padding=1))  # padded here: the ring holds its bias
        self.deep = _scaled(nn.Conv2d(DEEP, width, 3), 0.7)
        sobel = torch.tensor(SOBEL)
        self.edges = nn.ModuleList([Masked(width, m) for m in (sobel, sobel.T, torch.tensor(LAPLACIAN))])
        self.register_buffer("delta", _delta(width), persistent=False)

    def folded(self) -> tuple[Tensor, Tensor]:
        point, deep = self.point.weight.flatten(1), self.deep.weight
        kernel = self.square.weight + self.delta + torch.einsum("omuv,mi->oiuv", deep, point)
        bias = _bias(self.square) + _bias(self.deep) + deep.sum((2, 3)) @ _bias(self.point)
        for edge in cast(Iterable[Masked], self.edges):
            more, shift = edge.folded()
            kernel, bias = kernel + more, bias + shift
        return kernel, bias

    def branches(self, x: Tensor) -> Tensor:
        y: Tensor = self.square(x) + self.deep(self.point(x))
        for edge in self.edges:
            y = y + edge(x)
        return y + x


class SuperResolution(nn.Module):
    """Enlarge RGB images three times.

    Input: float32 [N, 3, H, W] in 0..1. Output: float32 [N, 3, 3 H, 3 W] in 0..1. ``masked`` adds the masks, all 1.
    """

    repeat: Tensor

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Collapsible(COLOURS, WIDTH),
                Collapsible(WIDTH, WIDTH),
                EdgeOriented(WIDTH),
                Collapsible(WIDTH, WIDTH),
                EdgeOriented(WIDTH),
                Collapsible(WIDTH, WIDTH),
                Collapsible(WIDTH, COLOURS * SCALE**2, gain=0.1),
            ]
        )
        count = len(self.blocks) - 1 if masked else 0
        self.masks = nn.ParameterList([nn.Parameter(torch.ones(WIDTH, 1, 1)) for _ in range(count)])
        self.register_buffer("repeat", torch.arange(COLOURS).repeat_interleave(SCALE**2), persistent=False)

    def expand(self, expanded: bool) -> SuperResolution:
        """Choose between the branches and the folded kernels; the function stays the same."""
        for block in cast(Iterable[Block], self.blocks):
            block.expanded = expanded
        return self

    def forward(self, image: Tensor) -> Tensor:
        y = image
        for i, block in enumerate(self.blocks):
            y = block(y)
            if i < len(self.masks):
                y = y * self.masks[i]
            if i < len(self.blocks) - 1:
                y = torch.relu(y)
        anchor = torch.index_select(image, 1, self.repeat)
        y = functional.pixel_shuffle(y + anchor, SCALE)
        return y if self.training else torch.clamp(y, 0.0, 1.0)  # unclipped in training: the clip stops gradients
