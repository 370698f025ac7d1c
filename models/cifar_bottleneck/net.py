"""The network: residual bottlenecks (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385).

A block is ``relu(shortcut(x) + expand(relu(square(relu(reduce(x))))))``: 1x1, 3x3, 1x1, each closed by a batch norm. Where the
shape changes the shortcut is a 1x1 with a batch norm, else the identity, so the outputs of a stage's blocks share one set of
channels (the residual stream), while the two narrow widths inside a block are its own. The stride is that of the 3x3. The last
batch norm of a block starts at zero (Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677): training begins near the
identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.branches import closed

STEM = 32
NARROW = (32, 64, 128)
"""The widths inside the blocks of the three stages (16x16, 8x8 and 4x4 pixels); the stem works on 32x32."""
EXPANSION = 4
"""The residual stream of a stage is so many times as wide."""
BLOCKS = (3, 3, 2)


class Bottleneck(nn.Module):
    """[N, inputs, H, W] -> [N, EXPANSION * narrow, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, inputs: int, narrow: int, stride: int = 1) -> None:
        super().__init__()
        outputs = EXPANSION * narrow
        self.reduce = closed(inputs, narrow, 1)
        self.square = closed(narrow, narrow, 3, stride=stride)
        self.expand = closed(narrow, outputs, 1)
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else closed(inputs, outputs, 1, stride=stride)
        for norm in list(self.expand)[1:]:
            nn.init.zeros_(norm.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.square(torch.relu(self.reduce(x))))
        return torch.relu(self.shortcut(x) + self.expand(inner))


class CifarBottleneck(nn.Module):
    """A stem, three stages of bottlenecks, the mean over the pixels, a linear head.

    Input: float32 [N, 3, 32, 32], RGB values in 0..1. Output: logits, float32 [N, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(closed(3, STEM, 3), nn.ReLU())
        blocks, width = [], STEM
        for narrow, count in zip(NARROW, BLOCKS, strict=True):
            for number in range(count):
                blocks.append(Bottleneck(width, narrow, stride=1 if number else 2))
                width = EXPANSION * narrow
        self.stages = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.flatten(self.pool(self.stages(self.stem(image))), 1))
        return logits
