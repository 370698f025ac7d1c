"""The network: a small MobileNetV3 backbone, a feature pyramid and a decoder of collapsible linear blocks.

- **Backbone**: the inverted residuals of Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244: 1x1 to a
  wide space, depthwise k x k, squeeze-and-excite (Hu et al., CVPR 2018, arXiv:1709.01507), 1x1 back, each with a batch
  norm, and the input added where the shape stays. The layout is that of MobileNetV3-Small with a narrower last stage
  and without its classifier.
- **Pyramid**: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144: a lateral 1x1 at
  each of five resolutions, added to the coarser level enlarged by repeating pixels.
- **Linear blocks**: Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient Super Resolution", MLSys 2022,
  arXiv:2103.09404. k x k to ``expansion`` times the width, 1x1 back, a batch norm, no non-linearity between, and a short
  skip where the width stays. The laterals are such blocks with k = 1, the decoder's have k = 3.

A linear block equals one k x k convolution, at the border too: the k x k takes the padding and the 1x1 after it has none,
so with kernels A [m, i, u] and B [o, m] and the batch norm's scale g and shift h,

    K[o, i, u] = g[o] * sum over m of B[o, m] A[m, i, u]    + (o = i and u = centre, with a skip),    b = h

In training the block computes K from A and B and convolves once with it (the efficient training of the paper's section
3.3): the same function and the same gradients at the folded cost. In evaluation, and so in the exported file, the block
runs expanded.

The image is resized to 128 x 160 within the graph (bilinear), the depth at 64 x 80 is resized to the image's size. What
comes out is the natural logarithm of the depth in metres along the optical axis.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.branches import closed
from models.depth.render import FULL, SMALL

PYRAMID = 32
"""Width of the pyramid down to a quarter of the resolution."""

FINE = 16
"""Width at half of the resolution."""

MEAN_LOG_DEPTH = 1.7

STEM = 16
# kernel, wide, outputs, squeeze-and-excite, hard swish (else ReLU), stride
ROWS: tuple[tuple[int, int, int, bool, bool, int], ...] = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 64, True, True, 2),
    (5, 384, 64, True, True, 1),
    (5, 384, 64, True, True, 1),
)


class SqueezeExcite(nn.Module):
    """x * hardsigmoid(1x1(relu(1x1(mean over the pixels of x)))). [N, width, H, W] -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(8, (width // 4 + 4) // 8 * 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(width, inner, 1)
        self.excite = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(self.pool(x)))))


class InvertedResidual(nn.Module):
    """1x1 to ``wide``, depthwise k x k, squeeze-and-excite, 1x1 back; the input added where the shape stays."""

    def __init__(self, inputs: int, kernel: int, wide: int, outputs: int, squeeze: bool, swish: bool, stride: int) -> None:
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        layers: list[nn.Module] = []
        if wide != inputs:
            layers += [closed(inputs, wide, 1), activation()]
        layers.append(closed(wide, wide, kernel, stride=stride, groups=wide))
        if squeeze:
            layers.append(SqueezeExcite(wide))
        layers += [activation(), closed(wide, outputs, 1)]
        self.body = nn.Sequential(*layers)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.skip else y


class LinearBlock(nn.Module):
    """BN(1x1(k x k(x))), and x added where the width stays: all linear. [N, inputs, H, W] -> [N, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * max(inputs, outputs)
        self.expand = nn.Conv2d(inputs, wide, kernel, padding=kernel // 2, bias=False)
        self.project = nn.Conv2d(wide, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.skip = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            kernel = torch.einsum("om,mihw->oihw", self.project.weight[:, :, 0, 0], self.expand.weight)
            y = F.conv2d(x, kernel, padding=self.expand.kernel_size[0] // 2)
        else:
            y = self.project(self.expand(x))
        y = self.norm(y)
        result: Tensor = y + x if self.skip else y
        return result


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Depth(nn.Module):
    """Input: float32 [N, 3, 480, 640], RGB in 0..1 (k / 255). Output: log depth in metres, float32 [N, 1, 480, 640]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(closed(3, STEM, 3, stride=2), nn.Hardswish())
        stages: list[list[nn.Module]] = []
        width, widths = STEM, [STEM]
        for kernel, wide, outputs, squeeze, swish, stride in ROWS:
            block = InvertedResidual(width, kernel, wide, outputs, squeeze, swish, stride)
            if stride == 2:
                stages.append([block])
                widths.append(outputs)
            else:
                stages[-1].append(block)
                widths[-1] = outputs
            width = outputs
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        levels = (FINE, PYRAMID, PYRAMID, PYRAMID, PYRAMID)
        self.laterals = nn.ModuleList(LinearBlock(i, o, 1, expansion=4) for i, o in zip(widths, levels, strict=True))
        self.smooth = nn.ModuleList(LinearBlock(PYRAMID, PYRAMID, 3, expansion=4) for _ in range(3))
        self.narrow = LinearBlock(PYRAMID, FINE, 3, expansion=4)
        self.fine = nn.ModuleList(LinearBlock(FINE, FINE, 3, expansion=8) for _ in range(2))
        self.expand_head = nn.Conv2d(FINE, 4 * FINE, 3, padding=1)
        self.project_head = nn.Conv2d(4 * FINE, 1, 1)
        nn.init.constant_(self.project_head.bias, MEAN_LOG_DEPTH)  # type: ignore[arg-type]

    def body(self, x: Tensor) -> Tensor:
        """[N, 3, 128, 160] -> log depth [N, 1, 64, 80]."""
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        level: Tensor = self.laterals[4](features[4])
        for index, smooth in zip((3, 2, 1), self.smooth, strict=True):
            level = F.relu(smooth(_twice(level) + self.laterals[index](features[index])))
        level = _twice(F.relu(self.narrow(level))) + self.laterals[0](features[0])
        for block in self.fine:
            level = F.relu(block(level))
        depth: Tensor = self.project_head(self.expand_head(level))
        return depth

    def forward(self, image: Tensor) -> Tensor:
        down = (SMALL[0] / FULL[0], SMALL[1] / FULL[1])
        up = (2 * FULL[0] / SMALL[0], 2 * FULL[1] / SMALL[1])
        small = F.interpolate(image, scale_factor=down, mode="bilinear", align_corners=False)
        return F.interpolate(self.body(small), scale_factor=up, mode="bilinear", align_corners=False)
