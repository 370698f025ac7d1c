"""Train the network with a fixed seed and export it with its batch norms left in.

The recipe is that of ``models.cifar_rep.train`` (SGD with Nesterov momentum, label smoothing, images flipped and shifted,
convolutions in bfloat16 where the processor has it), with one rise and fall of the learning rate. The last weights are kept:
nothing is selected on the test images. After each epoch the state goes to ``--state``, and a run that is started again with the
same file goes on from there.

    python -m models.cifar_bottleneck.train --out models/cifar_bottleneck
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from models import training
from models.cifar_bottleneck.net import CifarBottleneck
from models.cifar_rep.train import batches, command, epoch, mirrored, optimizer_of, tensors

SEED = 3
EPOCHS = 24
PEAK_RATE = 0.3
RISE = 0.2
"""The share of the training during which the rate rises, from nothing; then it falls to nothing, both straight."""


def cycle(done: float) -> float:
    """The learning rate after a share ``done`` (0..1) of the training."""
    return float(np.interp(done, (0.0, RISE, 1.0), (0.0, PEAK_RATE, 0.0)))


def train(folder: Path, epochs: int, seed: int, state: Path | None) -> CifarBottleneck:
    """Train on the training split, one line of progress an epoch."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = tensors(folder, "train")
    padded = mirrored(images)
    net = CifarBottleneck()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, done = optimizer_of(net), 0
    saved = training.saved(state)
    if saved is not None:
        done = saved["epochs"]
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
    for number in range(done, epochs):
        started = time.perf_counter()
        net.train()

        def rate(share: float, number: int = number) -> float:
            return cycle((number + share) / epochs)

        loss = epoch(net, optimizer, batches(padded, labels, generator), rate)
        print(f"epoch {number + 1:2d}: loss {loss:.4f}, {time.perf_counter() - started:.0f} s", flush=True)
        training.keep(state, epochs=number + 1, net=net, optimizer=optimizer, generator=generator.get_state())
    return net


def main() -> None:
    """The command line of this network."""
    text = "CIFAR-10 classifier with residual bottlenecks, its batch norms left in."
    command(train, out=Path(__file__).parent, seed=SEED, epochs=EPOCHS, text=text)


if __name__ == "__main__":
    main()
