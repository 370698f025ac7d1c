"""Train the network with a fixed seed and export it with its branches and batch norms left in.

Recipe: SGD with Nesterov momentum and one cycle of the learning rate (Smith and Topin, "Super-Convergence",
arXiv:1708.07120), label smoothing, weight decay on the kernels only, images flipped left to right and shifted by up to
two pixels. The last weights are kept: nothing is selected on the test images.

``models.training`` says what a seed fixes, ``models.export`` what the exporter has to be kept from.

    python -m models.fashion_rep.train --out models/fashion_rep
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models import export, training
from models.fashion_rep import data
from models.fashion_rep.net import FashionRep

SEED = 1
EPOCHS = 9
BATCH = 128
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4
SMOOTHING = 0.05
SHIFT = 2
OPSET = 17
TOLERANCE = 1e-3
"""Largest difference of a logit (they are in the tens) between torch and onnxruntime: float32 sums in another order."""


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images left to right, shift each by up to ``SHIFT`` pixels. [N, 1, 28, 28], the same out."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images[:, 0], (SHIFT,) * 4)
    columns = torch.arange(width).expand(count, width)
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flipped, width - 1 - columns, columns)
    shifts = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=generator)
    rows = torch.arange(height) + shifts[0]
    columns = columns + shifts[1]
    batch = torch.arange(count)
    return padded[batch[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def batches(images: Tensor, labels: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, the incomplete last batch left out."""
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(order) - BATCH + 1, BATCH):
        part = order[start : start + BATCH]
        yield augmented(images[part], generator), labels[part]


def train(net: nn.Module, folder: Path, epochs: int, seed: int) -> None:
    """Train in place on the training split, one line of progress an epoch."""
    generator = torch.Generator().manual_seed(seed)
    pixels, classes = data.load(folder, "train")
    images, labels = torch.from_numpy(data.to_input(pixels)), torch.from_numpy(classes.astype(np.int64))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(training.parameter_groups(net, WEIGHT_DECAY), lr=PEAK_RATE, momentum=0.9, nesterov=True)
    steps = epochs * (len(images) // BATCH)
    schedule = training.one_cycle(optimizer, PEAK_RATE, steps, 0.25)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(1, epochs + 1):
        net.train()
        started, total, count = time.perf_counter(), 0.0, 0
        for x, y in batches(images, labels, generator):
            loss = loss_of(net(x.contiguous(memory_format=torch.channels_last)), y)
            total, count = total + training.descend(loss, optimizer, schedule), count + 1
        print(f"epoch {epoch:2d}: loss {total / count:.4f}, {time.perf_counter() - started:.0f} s", flush=True)


def write(net: nn.Module, path: Path) -> None:
    """Write the network as ONNX, branches and batch norms left in."""
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model = export.traced(net, torch.zeros(1, 1, 28, 28), (data.INPUT, "logits"), opset=OPSET)
    export.own_initializers(model.graph)
    text = "Fashion-MNIST classifier with the branches and batch norms of its training left in."
    export.described(model, "fashion_rep", text, {"classes": ",".join(data.CLASSES), "input": "grey values k / 255"})
    images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    export.save(model, net, images, path, tolerance=TOLERANCE)


def main() -> None:
    """Fetch the data set, write the two arrays, train, report the accuracy, export."""
    parser = training.arguments("Train fashion_rep and export it.", data=data.FOLDER, out=data.HERE, seed=SEED)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="0: export untrained (default: %(default)s)")
    options = training.parse(parser)
    folder = data.fetch(options.data)
    data.write_arrays(folder, options.out)
    net = FashionRep()
    started = time.perf_counter()
    if options.epochs:
        train(net, folder, options.epochs, options.seed)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    pixels, classes = data.load(folder, "test")
    images, labels = torch.from_numpy(data.to_input(pixels)), torch.from_numpy(classes.astype(np.int64))
    for count in (len(images), data.TEST_IMAGES):
        top1 = training.accuracy(net, images[:count], labels[:count], nn.Identity())
        print(f"top-1 on the first {count} of {len(images)} test images {top1:.4f}", flush=True)
    write(net, options.out / "fashion_rep.onnx")


if __name__ == "__main__":
    main()
