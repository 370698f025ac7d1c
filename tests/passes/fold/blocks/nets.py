"""Re-parametrization blocks in torch, written from the definitions in their papers, in their training form.

The operators of each one's deployed form are in ``DEPLOYED``, in the package. Widths are small. Blocks that pad with a bias do it
as training code does, by writing the border of a padded tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(c_in: int, c_out: int, kernel: int | tuple[int, int], padding: int | tuple[int, int] = 0, **more: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=padding, bias=False, **more), nn.BatchNorm2d(c_out))


def total(parts: list[Tensor]) -> Tensor:
    result = parts[0]
    for part in parts[1:]:
        result = result + part
    return result


class Branches(nn.Module):
    """The sum of modules applied to one input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return total([branch(x) for branch in self.branches])


def repvgg(c_in: int = 4, c_out: int = 4, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Ding et al. 2021, "RepVGG": 3x3, 1x1 and identity, a batch norm each."""
    branches = [
        conv_bn(c_in, c_out, 3, 1, stride=stride, groups=groups),
        conv_bn(c_in, c_out, 1, 0, stride=stride, groups=groups),
    ]
    if stride == 1 and c_in == c_out:
        branches.append(nn.BatchNorm2d(c_in))
    return nn.Sequential(Branches(*branches), nn.ReLU())


def qarepvgg(c: int = 4) -> nn.Sequential:
    """Chu et al. 2022, "Make RepVGG greater again": batch norm only after the 3x3 and after the sum."""
    return nn.Sequential(Branches(conv_bn(c, c, 3, 1), nn.Conv2d(c, c, 1, bias=False), nn.Identity()), nn.BatchNorm2d(c), nn.ReLU())


def mobileone(c: int = 4, c_out: int = 6, k: int = 3, stride: int = 1) -> nn.Sequential:
    """Vasu et al. 2023, "MobileOne": k over-parametrised branches, depthwise then pointwise."""
    skip = [nn.BatchNorm2d(c)] if stride == 1 else []
    depthwise = Branches(
        *(conv_bn(c, c, 3, 1, stride=stride, groups=c) for _ in range(k)), conv_bn(c, c, 1, 0, stride=stride, groups=c), *skip
    )
    pointwise = Branches(*(conv_bn(c, c_out, 1) for _ in range(k)), *([nn.BatchNorm2d(c)] if c == c_out else []))
    return nn.Sequential(depthwise, nn.ReLU(), pointwise, nn.ReLU())


def acnet(c_in: int = 4, c_out: int = 6) -> nn.Sequential:
    """Ding et al. 2019, "ACNet": a square kernel and its two one-dimensional ones."""
    return nn.Sequential(
        Branches(conv_bn(c_in, c_out, 3, 1), conv_bn(c_in, c_out, (1, 3), (0, 1)), conv_bn(c_in, c_out, (3, 1), (1, 0))), nn.ReLU()
    )


def border_filled(x: Tensor, pad: int, value: Tensor) -> Tensor:
    """``x`` padded, its border overwritten with one value a channel."""
    y = F.pad(x, [pad] * 4)
    value = value.view(1, -1, 1, 1)
    y[:, :, :pad, :] = value
    y[:, :, -pad:, :] = value
    y[:, :, :, :pad] = value
    y[:, :, :, -pad:] = value
    return y


class PaddedBatchNorm(nn.BatchNorm2d):
    """Batch norm, then a border with what it makes of a zero: the border that a convolution of a padded input would have had."""

    def __init__(self, c: int, pad: int, by_writing: bool = True) -> None:
        super().__init__(c)
        self.pad, self.by_writing = pad, by_writing

    def forward(self, x: Tensor) -> Tensor:
        of_zero = self.bias - self.running_mean * self.weight / torch.sqrt(self.running_var + self.eps)
        y = super().forward(x)
        if self.by_writing:
            return border_filled(y, self.pad, of_zero)
        shift = of_zero.view(1, -1, 1, 1)
        return F.pad(y - shift, [self.pad] * 4) + shift


class IdentityBased(nn.Module):
    """A 1x1 convolution that starts as the identity: its weight is added to it."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c, c, 1, 1))
        self.register_buffer("identity", torch.eye(c).view(c, c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight + self.identity)


def dbb(c_in: int = 4, c_out: int = 6, by_writing: bool = True) -> nn.Sequential:
    """Ding et al. 2021, "Diverse branch block", with six branches: the four of the paper's figure and the two of ACNet."""
    return nn.Sequential(
        Branches(
            conv_bn(c_in, c_out, 3, 1),
            conv_bn(c_in, c_out, 1),
            nn.Sequential(IdentityBased(c_in), PaddedBatchNorm(c_in, 1, by_writing), *conv_bn(c_in, c_out, 3)),
            nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, bias=False),
                PaddedBatchNorm(c_out, 1, by_writing),
                nn.AvgPool2d(3, 1),
                nn.BatchNorm2d(c_out),
            ),
            conv_bn(c_in, c_out, (1, 3), (0, 1)),
            conv_bn(c_in, c_out, (3, 1), (1, 0)),
        ),
        nn.ReLU(),
    )


class SequentialBranch(nn.Module):
    """ECB's 1x1 then 3x3, the bias of the 1x1 being its border."""

    def __init__(self, c_in: int, c_mid: int, c_out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(c_in, c_mid, 1), nn.Conv2d(c_mid, c_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(border_filled(self.first(x), 1, self.first.bias))


class EdgeBranch(nn.Module):
    """ECB's 1x1, then a fixed edge filter with a learned scale and bias for each channel."""

    def __init__(self, c_in: int, c_out: int, edge: list[list[float]]) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out, 1)
        self.scale = nn.Parameter(torch.zeros(c_out, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("edge", torch.tensor(edge).view(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = border_filled(self.first(x), 1, self.first.bias)
        return F.conv2d(y, self.scale * self.edge, self.bias, groups=y.shape[1])


SOBEL = [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]
LAPLACE = [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]


def ecb(c: int = 4) -> nn.Sequential:
    """Zhang et al. 2021, "Edge-oriented convolution block": 3x3, 1x1-3x3, two Sobel filters and the Laplacian."""
    turned = [list(row) for row in zip(*SOBEL, strict=True)]
    return nn.Sequential(
        Branches(
            nn.Conv2d(c, c, 3, padding=1),
            SequentialBranch(c, 2 * c, c),
            EdgeBranch(c, c, SOBEL),
            EdgeBranch(c, c, turned),
            EdgeBranch(c, c, LAPLACE),
            nn.Identity(),
        ),
        nn.PReLU(c),
    )


class LinearBlock(nn.Module):
    """SESR's collapsible linear block: a wide convolution, a 1x1 back, and a short skip where the widths allow it."""

    def __init__(self, c_in: int, c_out: int, kernel: int, wide: int = 16, skip: bool = False) -> None:
        super().__init__()
        self.expand = nn.Conv2d(c_in, wide, kernel, padding=kernel // 2)
        self.squeeze = nn.Conv2d(wide, c_out, 1)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(self.expand(x))
        return y + x if self.skip else y


class Sesr(nn.Module):
    """Bhardwaj et al. 2022, "Collapsible linear blocks for super-efficient super resolution": one channel, twice the size."""

    def __init__(self, width: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.head = LinearBlock(1, width, 5)
        self.body = nn.ModuleList(LinearBlock(width, width, 3, skip=True) for _ in range(blocks))
        self.activations = nn.ModuleList(nn.PReLU(width) for _ in range(blocks + 1))
        self.tail = LinearBlock(width, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.activations[0](self.head(x))
        for block, activation in zip(self.body, self.activations[1:], strict=True):
            y = activation(block(y))
        return F.pixel_shuffle(self.tail(y + first) + x, 2)


class LongSkip(nn.Module):
    """SESR's linear block with its long skip: one channel is added to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.block = LinearBlock(1, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.block(x) + x, 2)


def unireplk(c: int = 3) -> nn.Sequential:
    """Ding et al. 2024, "UniRepLKNet": a 13x13 depthwise kernel beside five small dilated ones."""
    small = zip((5, 7, 3, 3, 3), (1, 2, 3, 4, 5), strict=True)
    branches = [conv_bn(c, c, 13, 6, groups=c)]
    branches += [conv_bn(c, c, k, d * (k - 1) // 2, dilation=d, groups=c) for k, d in small]
    return nn.Sequential(Branches(*branches), nn.ReLU())


def repvit(c: int = 6) -> nn.Sequential:
    """Wang et al. 2024, "RepViT": depthwise 3x3 with its batch norm, depthwise 1x1 and identity, then a batch norm."""
    inner = Branches(conv_bn(c, c, 3, 1, groups=c), nn.Conv2d(c, c, 1, groups=c), nn.Identity())
    return nn.Sequential(inner, nn.BatchNorm2d(c), nn.ReLU())


class RepMixer(nn.Module):
    """Vasu et al. 2023, "FastViT": x + scale * (mixer(x) - norm(x)), both of them depthwise."""

    def __init__(self, c: int = 6) -> None:
        super().__init__()
        self.mixer = Branches(conv_bn(c, c, 3, 1, groups=c), conv_bn(c, c, 1, groups=c), nn.BatchNorm2d(c))
        self.norm = nn.BatchNorm2d(c)
        self.scale = nn.Parameter(torch.zeros(c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.scale * (self.mixer(x) - self.norm(x)))


class Orepa(nn.Module):
    """Hu et al. 2022, "Online convolutional re-parameterization": branches are added as weights; one convolution, one norm.

    The branches: kxk, 1x1, 1x1 then average pooling, a prior of fixed cosine filters, 1x1 then kxk, depthwise then pointwise,
    each with a scale of its own for every output channel.
    """

    def __init__(self, c_in: int = 4, c_out: int = 6, wide: int = 8, kernel: int = 3) -> None:
        super().__init__()
        k = self.kernel = kernel

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape))

        self.square, self.point, self.average = parameter(c_out, c_in, k, k), parameter(c_out, c_in), parameter(c_out, c_in)
        self.prior = parameter(c_out, c_in)
        self.expand, self.reduce = parameter(wide, c_in), parameter(c_out, wide, k, k)
        self.depth, self.mix = parameter(c_in, k, k), parameter(c_out, c_in)
        self.scales = parameter(6, c_out)
        line = torch.arange(k) + 0.5
        waves = torch.stack([torch.cos(torch.pi * f * line / k) for f in range(c_out)])
        self.register_buffer("waves", waves.view(c_out, k, 1) * waves.flip(0).view(c_out, 1, k))
        self.register_buffer("mean", torch.full((k, k), 1.0 / k**2))
        self.norm = nn.BatchNorm2d(c_out)

    def weight(self) -> Tensor:
        """The one kernel, computed anew at every call."""
        parts = [
            self.square,
            F.pad(self.point[:, :, None, None], [self.kernel // 2] * 4),
            torch.einsum("oi,hw->oihw", self.average, self.mean),
            torch.einsum("oi,ohw->oihw", self.prior, self.waves),
            torch.einsum("mi,omhw->oihw", self.expand, self.reduce),
            torch.einsum("oi,ihw->oihw", self.mix, self.depth),
        ]
        whole = total([torch.einsum("oihw,o->oihw", part, scale) for part, scale in zip(parts, self.scales, strict=True)])
        return whole.reshape(self.square.shape)  # the TorchScript exporter wants to be told

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(F.conv2d(x, self.weight(), padding=self.kernel // 2)))


Build = Callable[[], nn.Module]

BLOCKS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "repvgg": (lambda: nn.Sequential(repvgg(3, 4, 2), repvgg()), (1, 3, 9, 10)),
    "repvgg_grouped": (lambda: repvgg(groups=2), (1, 4, 7, 8)),
    "qarepvgg": (qarepvgg, (1, 4, 7, 8)),
    "mobileone": (mobileone, (1, 4, 7, 8)),
    "mobileone_same_width": (lambda: mobileone(4, 4), (1, 4, 7, 8)),
    "mobileone_stride": (lambda: mobileone(stride=2), (1, 4, 8, 9)),
    "acnet": (acnet, (1, 4, 7, 8)),
    "dbb": (dbb, (1, 4, 7, 8)),
    "dbb_shifted": (lambda: dbb(by_writing=False), (1, 4, 7, 8)),
    "ecb": (ecb, (1, 4, 7, 8)),
    "sesr": (Sesr, (1, 1, 9, 10)),
    "sesr_long_skip": (LongSkip, (1, 1, 9, 10)),
    "unireplk": (unireplk, (1, 3, 15, 16)),
    "repvit": (repvit, (1, 6, 7, 8)),
    "repmixer": (RepMixer, (1, 6, 7, 8)),
    "orepa": (Orepa, (1, 4, 7, 8)),
}
"""Name: the block and the shape of its input."""
