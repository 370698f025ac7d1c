"""Train the network with a fixed seed and export it with its branches and batch norms left in.

Recipe: SGD with Nesterov momentum, two rises and falls of the learning rate (Smith and Topin, "Super-Convergence",
arXiv:1708.07120; Loshchilov and Hutter, "SGDR", arXiv:1608.03983), label smoothing, weight decay on the kernels only, images
flipped left to right and shifted by up to three pixels over their mirrored border; convolutions in bfloat16 where the processor has
it (``torch.autocast``), weights and sums in float32. All but the last epochs run in the composed form of the blocks, the last ones
in the branch form that is exported (``net`` has the reason). The last weights are kept: nothing is selected on the test images.

The rates were set for a first run of 18 epochs (one rise and fall, to 0.0417 after the sixteenth); when that one fell short, the
second rise and fall were put behind its first 16 epochs. ``models.training`` says what a seed fixes, ``models.export`` what the
exporter has to be kept from. After each epoch the state goes to ``--state``, and a run that is started again with the same file
goes on from there.

    python -m models.cifar_rep.train --out models/cifar_rep
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models import export, training
from models.cifar_rep import data
from models.cifar_rep.net import Block, CifarRep, separate

SEED = 1
EPOCHS = 30
"""All epochs; the last ``BRANCH_EPOCHS`` of them in the branch form."""
BRANCH_EPOCHS = 2
BATCH = 256
WEIGHT_DECAY = 5e-4
STATISTICS_BATCHES = 20
RATES = ((0.0, 0.0), (3.6, 0.3), (16.0, 0.0417), (17.0, 0.2), (30.0, 0.0))
"""Learning rates at some epochs; straight lines between them."""
SMOOTHING = 0.1
SHIFT = 3
SIDE = 32
IMAGES = 50_000
"""Of the training split."""
OPSET = 17
TOLERANCE = 1e-3
"""Largest difference of a logit between torch and onnxruntime: float32 sums in another order."""


def tensors(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """One split: images uint8 [N, 32, 32, 3] (channels last) and labels int64 [N]."""
    pixels, labels = data.load(folder, "train" if split == "train" else "test")
    images = torch.from_numpy(pixels).permute(0, 2, 3, 1).contiguous()
    return images, torch.from_numpy(labels.astype(np.int64))


def to_input(images: Tensor) -> Tensor:
    """Bytes [N, H, W, 3] -> float32 [N, 3, H, W], values k / 255, channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255


def mirrored(images: Tensor) -> Tensor:
    """Bytes [N, 32, 32, 3], with a border of ``SHIFT`` mirrored pixels around them."""
    index = torch.cat([torch.arange(SHIFT, 0, -1), torch.arange(SIDE), torch.arange(SIDE - 2, SIDE - 2 - SHIFT, -1)])
    return images[:, index][:, :, index]


def augmented(padded: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image out of its mirrored border at random, flip half of them. [N, 32 + 2 SHIFT, ..., 3] -> [N, 32, 32, 3]."""
    count = len(padded)
    shifts = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=generator)
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.arange(SIDE).expand(count, SIDE)
    columns = torch.where(flipped, SIDE - 1 - columns, columns) + shifts[1]
    rows = torch.arange(SIDE) + shifts[0]
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def batches(padded: Tensor, labels: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of inputs and labels in random order, the incomplete last batch left out."""
    order = torch.randperm(len(padded), generator=generator)
    for start in range(0, len(order) - BATCH + 1, BATCH):
        part = order[start : start + BATCH]
        yield to_input(augmented(padded[part], generator)), labels[part]


def cycle(done: float) -> float:
    """The learning rate after a share ``done`` (0..1) of the training."""
    epochs, rates = zip(*RATES, strict=True)
    return float(np.interp(done * EPOCHS, epochs, rates))


def optimizer_of(net: nn.Module) -> torch.optim.SGD:
    """SGD over all parameters; ``epoch`` sets the rate."""
    return torch.optim.SGD(training.parameter_groups(net, WEIGHT_DECAY), lr=0.1, momentum=0.9, nesterov=True)


def epoch(
    net: nn.Module,
    optimizer: torch.optim.SGD,
    feed: Iterator[tuple[Tensor, Tensor]],
    rate: Callable[[float], float],
    *,
    half: bool = True,
) -> float:
    """One epoch of a network that is in its training mode.

    Args:
        net: the network.
        optimizer: its optimizer.
        feed: the inputs and labels of one epoch.
        rate: gives the learning rate after a share (0..1) of this epoch.
        half: compute convolutions in bfloat16.

    Returns:
        The mean loss.
    """
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    losses = []
    steps = IMAGES // BATCH
    for step, (x, y) in enumerate(feed):
        for group in optimizer.param_groups:
            group["lr"] = rate((step + 1) / steps)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits = net(x)
        losses.append(training.descend(loss_of(logits.float(), y), optimizer))
    return float(np.mean(losses))


def to_branches(net: CifarRep, padded: Tensor, seed: int) -> None:
    """Change to the branch form with the statistics of some training images."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randperm(len(padded), generator=generator)[: STATISTICS_BATCHES * BATCH].reshape(-1, BATCH)
    net.eval()
    separate(net, (to_input(augmented(padded[part], generator)) for part in parts))


def train(folder: Path, epochs: int, seed: int, state: Path | None) -> CifarRep:
    """Train on the training split, one line of progress an epoch; the last epochs in the branch form."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = tensors(folder, "train")
    padded = mirrored(images)
    net = CifarRep()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    composed, done = max(epochs - BRANCH_EPOCHS, 0), 0
    saved = training.saved(state)
    if saved is not None:
        done = saved["epochs"]
        if done > composed:
            for block in [m for m in net.modules() if isinstance(m, Block)]:
                block.distribute()
        net.load_state_dict(saved["net"])
        generator.set_state(saved["generator"])
    optimizer = optimizer_of(net)
    if saved is not None:
        optimizer.load_state_dict(saved["optimizer"])
    for number in range(done, epochs):
        started = time.perf_counter()
        if number == composed:
            to_branches(net, padded, seed)
            optimizer = optimizer_of(net)
        net.train()
        feed = batches(padded, labels, generator)
        loss = epoch(net, optimizer, feed, lambda share, number=number: cycle((number + share) / epochs))  # type: ignore[misc]
        print(f"epoch {number + 1:2d}: loss {loss:.4f}, {time.perf_counter() - started:.0f} s", flush=True)
        training.keep(state, epochs=number + 1, net=net, optimizer=optimizer, generator=generator.get_state())
    if not epochs:
        to_branches(net, padded, seed)
    return net


def write(net: nn.Module, images: Tensor, path: Path, text: str, *, tolerance: float = TOLERANCE) -> None:
    """Write the network as ONNX, branches and batch norms left in. ``images``: bytes to hold it against torch with."""
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model = export.traced(net, torch.zeros(1, 3, SIDE, SIDE), (data.INPUT, "logits"), opset=OPSET)
    export.own_initializers(model.graph)
    export.described(model, path.stem, text, {"classes": ",".join(data.CLASSES), "input": "RGB values k / 255"})
    export.save(model, net, to_input(images).contiguous(), path, tolerance=tolerance)


def command(train: Callable[[Path, int, int, Path | None], nn.Module], *, out: Path, seed: int, epochs: int, text: str) -> None:
    """Fetch the data set, train, report the accuracy, export as the file of the folder ``out``: a training's command line.

    Args:
        train: takes the folder of the data, epochs, seed and the file of the state.
        out: the network's folder; its name is the network's.
        seed: the default.
        epochs: the default.
        text: describes the network in its file.
    """
    parser = training.arguments(f"Train {out.name} and export it.", data=data.FOLDER, out=out, seed=seed)
    parser.add_argument("--epochs", type=int, default=epochs, help="0: export untrained (default: %(default)s)")
    parser.add_argument("--state", type=Path, help="file for the state of the training, to go on from")
    options = training.parse(parser)
    data.fetch(options.data)
    started = time.perf_counter()
    net = train(options.data, options.epochs, options.seed, options.state)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    images, labels = tensors(options.data, "test")
    print(f"top-1 on the {len(images)} test images {training.accuracy(net, images, labels, to_input):.4f}", flush=True)
    write(net, images[:64], options.out / f"{out.name}.onnx", text)


def main() -> None:
    """The command line of this network."""
    text = "CIFAR-10 classifier with the branches and batch norms of its training left in."
    command(train, out=Path(__file__).parent, seed=SEED, epochs=EPOCHS, text=text)


if __name__ == "__main__":
    main()
