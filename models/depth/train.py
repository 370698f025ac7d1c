"""Train the network on rendered scenes with a fixed seed and export it as training left it.

The scenes are synthetic: ``render`` writes them, and this script calls it if they are not there. Training happens at
128 x 160, the resolution behind the network's own resizing, so the first operator of the exported graph sees no
training; ``texture`` says why the two agree.

With the difference of log depths ``e = log d - log d*``, and its average at half and quarter resolution e_1, e_2,

    loss = mean over images of sqrt(mean(e^2) - 0.85 mean(e)^2) + 0.5 * sum over scales s of mean |grad e_s|

the first term after Eigen, Puhrsch and Fergus, "Depth Map Prediction from a Single Image using a Multi-Scale Deep
Network", NIPS 2014, arXiv:1406.2283 (mostly blind to the scene's scale), the second after Li and Snavely, "MegaDepth",
CVPR 2018, arXiv:1804.00607. Adam with decoupled weight decay (arXiv:1711.05101), one cycle of the learning rate, images
flipped left to right, brightened, tinted and made noisy. The last weights are kept: nothing is selected on held-out scenes.

After each epoch the state goes to ``--state``, and a run that is started again with the same file goes on from there: the
data's order and its changes are drawn from the seed and the epoch. ``models.training`` says what a seed fixes,
``models.export`` what the exporter has to be kept from.

    python -m models.depth.train --out models/depth --data build/depth
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models import export, training
from models.depth import render
from models.depth.net import Depth
from models.depth.scene import draw

SEED = 1
EPOCHS = 13
BATCH = 16
PEAK_RATE = 3e-3
WEIGHT_DECAY = 1e-2
LARGEST_GRADIENT = 5.0
OPSET = 17
TOLERANCE = 1e-3
"""Largest difference of a log depth between torch and onnxruntime: float32 sums in another order."""

WATCHED = 64
"""Scenes, of neither the training nor the held-out seeds, that each epoch's line of progress is measured on."""

INPUT, OUTPUT = "image", "log_depth"


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, tint, contrast and noise. uint8 [N, 128, 160, 3] -> float32 [N, 3, 128, 160] in 0..1."""
    count = len(images)
    x = images.permute(0, 3, 1, 2).float() / 255
    gain = 1 + 0.3 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)
    tint = 1 + 0.2 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5)
    gamma = torch.exp(0.5 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5))
    sigma = 0.02 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    return (x.clamp(min=1e-3).pow(gamma) * gain * tint + sigma * noise).clamp(0, 1)


def batches(
    images: npt.NDArray[np.uint8], depths: npt.NDArray[np.float16], seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, half of the pairs flipped, the incomplete last batch left out."""
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(order) - BATCH + 1, BATCH):
        part = np.sort(order[start : start + BATCH].numpy())
        x = changed(torch.from_numpy(images[part]), generator)
        y = torch.from_numpy(depths[part].astype(np.float32)).log()[:, None]
        flip = (torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5).expand_as(y)
        x = torch.where(flip, x.flip(3), x)
        y = torch.where(flip, y.flip(3), y)
        yield x.contiguous(memory_format=torch.channels_last), y


def loss_of(predicted: Tensor, target: Tensor) -> Tensor:
    """The loss of the module's docstring. Log depths [N, 1, h, w] (any size) and [N, 1, 128, 160]."""
    error = F.interpolate(predicted, size=target.shape[2:], mode="bilinear", align_corners=False) - target
    flat = error.flatten(1)
    loss = (flat.square().mean(1) - 0.85 * flat.mean(1).square()).clamp(min=1e-8).sqrt().mean()
    for _ in range(3):
        slope = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        loss = loss + 0.5 * slope
        error = F.avg_pool2d(error, 2)
    return loss


def watched() -> tuple[Tensor, Tensor]:
    """The scenes of the line of progress at 128 x 160: [N, 3, 128, 160] in 0..1 and log depth [N, 128, 160]."""
    first = render.HELD_OUT - WATCHED
    pairs = [render.render(draw(first + i), render.SMALL) for i in range(WATCHED)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(np.stack([depth for _, depth in pairs])).log()


@torch.no_grad()
def error_on(net: Depth, images: Tensor, target: Tensor) -> float:
    """Mean scale-invariant RMSE (log) at 128 x 160, the sky included."""
    net.eval()
    predicted = torch.cat([net.body(part) for part in torch.split(images, BATCH)])
    error = F.interpolate(predicted, size=target.shape[1:], mode="bilinear", align_corners=False)[:, 0] - target
    return float(error.flatten(1).std(1, unbiased=False).mean())


def train(net: Depth, folder: Path, epochs: int, seed: int, state: Path | None) -> None:
    """Train in place, one line of progress an epoch."""
    images, depths = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "depths.npy", mmap_mode="r")
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(training.parameter_groups(net, WEIGHT_DECAY), lr=PEAK_RATE)
    schedule = training.one_cycle(optimizer, PEAK_RATE, epochs * (len(images) // BATCH), 0.15)
    done = 0
    if (saved := training.saved(state)) is not None:
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        done = int(saved["epochs"])
    seen = watched()
    for epoch in range(done + 1, epochs + 1):
        net.train()
        started, total, count = time.perf_counter(), 0.0, 0
        for x, y in batches(images, depths, seed, epoch):
            loss = training.descend(loss_of(net.body(x), y), optimizer, schedule, clip=(net, LARGEST_GRADIENT))
            total, count = total + loss, count + 1
        took = time.perf_counter() - started
        print(f"epoch {epoch:2d}: loss {total / count:.4f}, watched {error_on(net, *seen):.4f}, {took:.0f} s", flush=True)
        training.keep(state, epochs=epoch, net=net, optimizer=optimizer, schedule=schedule)


def rendered(folder: Path, count: int) -> bool:
    """Whether the folder holds that many pairs."""
    return (folder / "depths.npy").exists() and len(np.load(folder / "depths.npy", mmap_mode="r")) == count


def write(net: Depth, path: Path) -> None:
    """Write the network as ONNX, expanded and with its batch norms."""
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model = export.traced(net, torch.zeros(1, 3, *render.FULL), (INPUT, OUTPUT), opset=OPSET)
    export.own_initializers(model.graph)
    export.own_scales(model.graph)
    for value, size in zip(model.graph.output[0].type.tensor_type.shape.dim, (None, 1, *render.FULL), strict=True):
        if size is not None:
            value.dim_value = size
    text = "Monocular depth, trained on synthetic scenes, with the linear blocks and batch norms of its training left in."
    properties = {"input": "RGB, k / 255", "output": "natural logarithm of the depth in metres along the optical axis"}
    export.described(model, "depth", text, properties)
    images = torch.rand(2, 3, *render.FULL, generator=torch.Generator().manual_seed(0))
    export.save(model, net, images, path, tolerance=TOLERANCE)


def main() -> None:
    """Render the training scenes if need be, train, export."""
    parser = training.arguments(
        "Train depth on synthetic scenes and export it.", data=render.FOLDER, out=Path(__file__).parent, seed=SEED
    )
    parser.add_argument("--count", type=int, default=render.TRAINING_IMAGES, help="pairs to render (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="0: export untrained (default: %(default)s)")
    parser.add_argument("--state", type=Path, help="file for the state of the training, to go on from")
    options = training.parse(parser)
    if options.epochs and not rendered(options.data, options.count):
        render.write_training(options.data, options.count, options.threads)
    net = Depth()
    started = time.perf_counter()
    if options.epochs:
        train(net, options.data, options.epochs, options.seed, options.state)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    write(net, options.out / "depth.onnx")


if __name__ == "__main__":
    main()
