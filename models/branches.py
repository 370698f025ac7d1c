"""The branches that ``fashion_rep`` and ``cifar_rep`` have in common.

Both are affine and equal one 3x3 convolution with padding 1 (Ding et al., "Diverse Branch Block: Building a Convolution as
an Inception-like Unit", CVPR 2021, arXiv:2103.13425). A 1x1 stands in front of the 3x3 or of the average pool, and its batch
norm's shift ``a`` must be seen in the ring around the image too, where zero padding behind it would put 0. So the 1x1 takes
the padding (on the ring it sees zeros and answers 0, after its batch norm ``a``), and what follows has none.
"""

from __future__ import annotations

from torch import nn


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1) -> nn.Conv2d:
    """A convolution without a bias: a batch norm follows."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)


def closed(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (but for its stride), and its batch norm."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups), nn.BatchNorm2d(outputs))


def deep(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1-BN-3x3-BN."""
    return nn.Sequential(
        conv(inputs, inputs, 1, padding=1),
        nn.BatchNorm2d(inputs),
        conv(inputs, outputs, 3, stride=stride),
        nn.BatchNorm2d(outputs),
    )


def mean(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1-BN-AveragePool-BN."""
    return nn.Sequential(
        conv(inputs, outputs, 1, padding=1), nn.BatchNorm2d(outputs), nn.AvgPool2d(3, stride=stride), nn.BatchNorm2d(outputs)
    )
