"""Fine-tune ``cifar_rep`` with fake quantizers and export it with QuantizeLinear and DequantizeLinear.

The start is the trained network as its ONNX file holds it: every parameter and statistic is an initializer under its name in torch.
Then as in ``models.cifar_rep.train``, but in float32 throughout, with a small learning rate that falls straight to zero; for the
last epoch the ranges of the activations and the statistics of the batch norms are fixed. The last weights are kept: nothing is
selected on the test images.

    python -m models.cifar_qat.train --out models/cifar_qat
"""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import torch

from models import training
from models.cifar_qat.net import QuantizedConv, freeze, quantized
from models.cifar_rep import data
from models.cifar_rep.net import Block, CifarRep
from models.cifar_rep.train import batches, epoch, mirrored, optimizer_of, tensors, to_input, write

SEED = 2
EPOCHS = 2
"""The ranges are fixed for the last one."""
PEAK_RATE = 0.01
TRAINED = Path(__file__).parent.parent / "cifar_rep" / "cifar_rep.onnx"
TOLERANCE = 0.25
"""Largest difference of a logit between torch and onnxruntime: sums in another order put some values on another level."""


def trained(path: Path) -> CifarRep:
    """The network in its branch form, with the values of the ONNX file.

    Raises:
        RuntimeError: the file lacks a value, or holds one that the network has not.
    """
    net = CifarRep()
    for block in [m for m in net.modules() if isinstance(m, Block)]:
        block.distribute()
    graph = onnx.load(str(path)).graph
    values = {i.name: torch.from_numpy(onnx.numpy_helper.to_array(i).copy()) for i in graph.initializer}
    counts = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    net.load_state_dict({**values, **counts})
    return net


def train(net: CifarRep, folder: Path, epochs: int, seed: int) -> None:
    """Fine-tune in place, one line of progress an epoch."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = tensors(folder, "train")
    padded = mirrored(images)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_of(net)
    for number in range(epochs):
        started = time.perf_counter()
        net.train()
        if number == epochs - 1 and number > 0:
            freeze(net)

        def falling(share: float, number: int = number) -> float:
            return PEAK_RATE * (1 - (number + share) / epochs)

        loss = epoch(net, optimizer, batches(padded, labels, generator), falling, half=False)
        print(f"epoch {number + 1:2d}: loss {loss:.4f}, {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    """Fetch the data set, fine-tune, report the accuracy, export."""
    parser = training.arguments(
        "Fine-tune cifar_rep with fake quantizers and export it.", data=data.FOLDER, out=Path(__file__).parent, seed=SEED
    )
    parser.add_argument("--trained", type=Path, default=TRAINED, help="the file to start from (default: cifar_rep's)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    options = training.parse(parser)
    data.fetch(options.data)
    net = quantized(trained(options.trained))
    started = time.perf_counter()
    train(net, options.data, options.epochs, options.seed)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    images, labels = tensors(options.data, "test")
    for conv in [m for m in net.modules() if isinstance(m, QuantizedConv)]:
        conv.measure()  # once more, after the last step
    print(f"top-1 on the {len(images)} test images {training.accuracy(net, images, labels, to_input):.4f}", flush=True)
    text = "CIFAR-10 classifier after quantization-aware training of some of its layers."
    write(net, images[:64], options.out / "cifar_qat.onnx", text, tolerance=TOLERANCE)


if __name__ == "__main__":
    main()
