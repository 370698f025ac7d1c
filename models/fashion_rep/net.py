"""The network: every block is a sum of linear branches that a compiler can fold into one 3x3 convolution.

Training profits from more parameters than the function needs. The blocks below spend them on branches and on depth
*between* two non-linearities, where everything is affine in the block's input, so that a block of any of the three
kinds equals a single convolution ``y = K * x + b`` with a 3x3 kernel and padding 1:

- ``RepVGG`` (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021). Three parallel branches, each
  closed by a batch norm: 3x3, 1x1 and, where input and output have the same shape, the identity.
- ``DiverseBranch`` (Ding et al., "Diverse Branch Block: Building a Convolution as an Inception-like Unit", CVPR 2021).
  Four branches: 3x3; 1x1; 1x1 then 3x3; 1x1 then average pooling; a batch norm after every one of those operators.
- ``LinearExpansion`` (after the collapsible linear block of Bhardwaj et al., "Collapsible Linear Blocks for
  Super-Efficient Super Resolution", MLSys 2022). 1x1 to many times the width, 3x3, 1x1, a batch norm, and no
  non-linearity between; a short skip around them.

**Why the folding is exact.** A batch norm in inference is ``y = g * x + h`` per channel, with
``g = gamma / sqrt(var + eps)`` and ``h = beta - g * mean``: a diagonal 1x1 convolution with a bias. For a 1x1
convolution ``A`` with bias ``a`` before a 3x3 convolution ``K2`` with bias ``b2``,

    K[o, i, u] = sum over m of K2[o, m, u] * A[m, i]
    b[o] = b2[o] + sum over m, u of K2[o, m, u] * a[m]

and the sum for ``b`` runs over *all* taps ``u`` at every position only if the ring around the image holds ``a`` as
well. Zero padding in the 3x3 convolution would hold 0 there: the composed bias would be wrong on the border. So the 1x1
convolution takes the padding (``padding=1``: on the ring it sees zeros and answers ``a``, after its batch norm ``h``),
and the 3x3 convolution or the average pooling that follows has none. The composition then has padding 1 and is exact
everywhere, at stride 2 too.

Branches add by placing a 1x1 kernel, or the identity's delta, on the centre tap of the 3x3 kernel. The average pooling
is a depthwise 3x3 kernel of ninths.

A ``Residual`` is no such sum: its two blocks have a ReLU between them, and its addition stays in the folded graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.branches import closed, conv, deep, mean

WIDTHS = (16, 32, 64, 96)
"""Channels of the stem and of the three stages (28x28, 14x14, 7x7 and 4x4 pixels)."""


class RepVGG(nn.Module):
    """3x3-BN + 1x1-BN + BN; the last only where the block keeps the shape.

    [N, inputs, H, W] -> [N, outputs, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.square = closed(inputs, outputs, 3, stride=stride)
        self.point = closed(inputs, outputs, 1, stride=stride)
        self.identity = nn.BatchNorm2d(outputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.square(x) + self.point(x)
        return y if self.identity is None else y + self.identity(x)


class DiverseBranch(nn.Module):
    """3x3-BN + 1x1-BN + 1x1-BN-3x3-BN + 1x1-BN-AveragePool-BN.

    [N, inputs, H, W] -> [N, outputs, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.square = closed(inputs, outputs, 3, stride=stride)
        self.point = closed(inputs, outputs, 1, stride=stride)
        self.deep = deep(inputs, outputs, stride)
        self.mean = mean(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.square(x) + self.point(x) + self.deep(x) + self.mean(x)
        return y


class LinearExpansion(nn.Module):
    """BN(1x1(3x3(1x1(x)))) + x, ``expansion`` times wider inside, all linear. [N, width, H, W] -> the same shape."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        wide = width * expansion
        self.expand = nn.Conv2d(width, wide, 1, padding=1)  # the ring holds its bias
        self.square = conv(wide, width, 3)
        self.project = conv(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.project(self.square(self.expand(x)))) + x
        return y


class Residual(nn.Module):
    """relu(x + second(relu(first(x)))): a true residual, since the first ReLU keeps the two blocks apart."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class FashionRep(nn.Module):
    """A stem, three stages of one down-sampling block and one residual pair, the mean over the pixels, a linear head.

    Input: float32 [N, 1, 28, 28], grey values in 0..1. Output: logits, float32 [N, 10]. Folded, it has ten
    convolutions, one for the stem and one for each of the nine blocks.
    """

    def __init__(self) -> None:
        super().__init__()
        stem, one, two, three = WIDTHS
        self.stem = nn.Sequential(conv(1, stem, 3, padding=1), nn.BatchNorm2d(stem), nn.ReLU())
        self.stage1 = nn.Sequential(
            RepVGG(stem, one, stride=2),
            nn.ReLU(),
            Residual(LinearExpansion(one, expansion=8), DiverseBranch(one, one)),
        )
        self.stage2 = nn.Sequential(
            DiverseBranch(one, two, stride=2),
            nn.ReLU(),
            Residual(LinearExpansion(two, expansion=4), RepVGG(two, two)),
        )
        self.stage3 = nn.Sequential(
            RepVGG(two, three, stride=2),
            nn.ReLU(),
            Residual(RepVGG(three, three), RepVGG(three, three)),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(three, 10)

    def forward(self, image: Tensor) -> Tensor:
        y = self.stage3(self.stage2(self.stage1(self.stem(image))))
        logits: Tensor = self.head(torch.flatten(self.pool(y), 1))
        return logits
