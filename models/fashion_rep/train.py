"""Train the network with a fixed seed and export it with its branches and batch norms left in.

Recipe: SGD with Nesterov momentum and one cycle of the learning rate (Smith and Topin, "Super-Convergence",
arXiv:1708.07120), label smoothing, weight decay on the kernels only, images flipped left to right and shifted by up to
two pixels. The last weights are kept: nothing is selected on the test images.

One thread by default, so that the order of every sum is fixed. Another processor or another version of torch sums in
another order; expect other weights there, and an accuracy that differs by a few tenths of a percent.

The export must not fold anything: ``TrainingMode.PRESERVE`` on a network in evaluation mode writes
``BatchNormalization`` in its inference form and leaves the convolution before it alone. The exporter also writes
initializers of equal content only once, and reads the others through ``Identity`` nodes (the shifts of batch norms in
parallel branches begin at 0, get the same gradient and stay equal for ever); here each gets its own again.

    python -m models.fashion_rep.train --out models/fashion_rep
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from models.fashion_rep import data
from models.fashion_rep.net import FashionRep

SEED = 1
EPOCHS = 9
BATCH = 128
EVALUATION_BATCH = 500
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


def parameter_groups(net: nn.Module) -> list[dict[str, object]]:
    """Kernels with weight decay; biases and batch norms without."""
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy (0..1) of the network in evaluation mode."""
    net.eval()
    right = 0
    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        right += int((net(images[part]).argmax(1) == labels[part]).sum())
    return right / len(images)


def train(net: nn.Module, folder: Path, epochs: int, seed: int) -> None:
    """Train in place on the training split, one line of progress an epoch."""
    generator = torch.Generator().manual_seed(seed)
    pixels, classes = data.load(folder, "train")
    images, labels = torch.from_numpy(data.to_input(pixels)), torch.from_numpy(classes.astype(np.int64))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(parameter_groups(net), lr=PEAK_RATE, momentum=0.9, nesterov=True)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.25)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(1, epochs + 1):
        net.train()
        started, total, count = time.perf_counter(), 0.0, 0
        for x, y in batches(images, labels, generator):
            loss = loss_of(net(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total, count = total + float(loss.detach()), count + 1
        print(f"epoch {epoch:2d}: loss {total / count:.4f}, {time.perf_counter() - started:.0f} s", flush=True)


def own_initializers(graph: onnx.GraphProto) -> None:
    """Replace every ``Identity`` of an initializer by an initializer of its own, in place."""
    constants = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in constants:
            graph.initializer.add().CopyFrom(constants[node.input[0]])
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def export(net: nn.Module, path: Path) -> None:
    """Write the network as ONNX, branches and batch norms left in, and compare it with torch in onnxruntime.

    Raises:
        RuntimeError: the graph does not compute what the network computes, or a batch norm is in its training form.
    """
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        raw = str(Path(folder) / path.name)
        torch.onnx.export(
            net,
            (torch.zeros(1, 1, 28, 28),),
            raw,
            input_names=[data.INPUT],
            output_names=["logits"],
            dynamic_axes={data.INPUT: {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
        model = onnx.load(raw)
    own_initializers(model.graph)
    for node in model.graph.node:  # source locations of the machine that exported
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.op_type == "BatchNormalization" and (training or len(node.output) != 1):
            raise RuntimeError(f"{node.name}: exported in its training form")
    model.graph.name = "fashion_rep"
    model.doc_string = "Fashion-MNIST classifier with the branches and batch norms of its training left in."
    onnx.helper.set_model_props(model, {"classes": ",".join(data.CLASSES), "input": "grey values k / 255"})
    onnx.checker.check_model(model, full_check=True)
    images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        error = float(np.abs(session.run(None, {data.INPUT: images.numpy()})[0] - net(images).numpy()).max())
    if not error <= TOLERANCE:
        raise RuntimeError(f"onnxruntime and torch differ by {error:.3g}")
    onnx.save(model, str(path))
    print(f"{path.name}: {path.stat().st_size} bytes, onnxruntime and torch differ by {error:.2g}", flush=True)


def main() -> None:
    """Write the two arrays, train, report the accuracy, export."""
    parser = argparse.ArgumentParser(description="Train fashion_rep and export it.")
    parser.add_argument("--data", type=Path, default=data.FOLDER, help="folder of the IDX files (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=data.HERE, help="folder to write to (default: beside this file)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="0: export untrained (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    data.write_arrays(options.data, options.out)
    net = FashionRep()
    started = time.perf_counter()
    if options.epochs:
        train(net, options.data, options.epochs, options.seed)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    pixels, classes = data.load(options.data, "test")
    images, labels = torch.from_numpy(data.to_input(pixels)), torch.from_numpy(classes.astype(np.int64))
    first = data.TEST_IMAGES
    print(f"top-1 on all {len(images)} test images {accuracy(net, images, labels):.4f}", flush=True)
    print(f"top-1 on the first {first} {accuracy(net, images[:first], labels[:first]):.4f}", flush=True)
    export(net, options.out / "fashion_rep.onnx")


if __name__ == "__main__":
    main()
