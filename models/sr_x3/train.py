"""Train ``sr_x3``, then ``sr_x3_masked`` from it, with fixed seeds, and export both with their branches left in.

``sr_x3``: Adam with one cycle of the learning rate, the mean absolute error first and the mean square error, which is what
PSNR measures, for the last part. The last weights are kept: nothing is selected on the five photographs.

``sr_x3_masked`` goes on from these weights with one number for each channel, at first 1, that multiplies what the
channel's block makes. Their sum, times a weight that grows at every step, is added to the loss, and they are kept from
falling below 0; so those that matter least arrive at exactly 0 first (Liu et al., "Learning Efficient Convolutional
Networks through Network Slimming", ICCV 2017, arXiv:1708.06519, with masks in place of batch-norm scales). When
``SPARSITY`` of them are 0 the term is dropped, the zeros are frozen, and the rest is trained on, masks included: what is
not 0 stays the learned number.

Every step runs the folded kernels, composed from the wide weights (see ``net``); the exports hold the wide weights. Both
exporters of torch write ``sr_x3`` and the traced one is not mended after the other: the two files are as they come,
except that the source locations of the machine that exported are taken out.

``models.training`` says what a seed fixes.

    python -m models.sr_x3.train --data build/sr_x3
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from models import export, training
from models.sr_x3 import data
from models.sr_x3.evaluate import figures
from models.sr_x3.net import SuperResolution

HERE = Path(__file__).parent

SEED = 1
BATCH = 16
PATCH = 32
STEPS = 7_500
PEAK_RATE = 2e-3
SQUARES_FROM = 0.6
"""Share of the training after which the loss is the mean square error."""
SQUARES_WEIGHT = 10.0
"""Brings the gradients of the two losses to about the same size."""

SPARSITY = 0.3
SPARSE_STEPS = 1_500
"""Steps in which the masks may fall, at most."""
SPARSE_RATE = 5e-4
MASK_RATE = 4e-3
TERM_START, TERM_GROWTH = 2e-6, 1.01
TUNE_STEPS = 1_400
TUNE_RATE = 5e-4

PROGRESS_STEPS = 250
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference between torch and onnxruntime, for outputs in 0..1: float32 sums in another order."""

Loss = Callable[[Tensor, Tensor], Tensor]


def tensor(pictures: data.Bytes) -> Tensor:
    """Bytes [N, H, W, 3] -> float32 [N, 3, H, W] in 0..1, channels last in memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def absolute(result: Tensor, wanted: Tensor) -> Tensor:
    return functional.l1_loss(result, wanted)


def square(result: Tensor, wanted: Tensor) -> Tensor:
    return SQUARES_WEIGHT * functional.mse_loss(result, wanted)


class Progress:
    """One line now and then: the step, the mean loss since the last line, the seconds."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._losses: list[float] = []
        self._started = time.perf_counter()

    def add(self, step: int, loss: float, note: str = "") -> None:
        self._losses.append(loss)
        if step % PROGRESS_STEPS == 0:
            seconds = time.perf_counter() - self._started
            print(f"{self._label} {step:6d}: loss {np.mean(self._losses):.5f}, {seconds:.0f} s {note}", flush=True)
            self._losses = []


def pairs(patches: data.Patches) -> tuple[Tensor, Tensor]:
    """A batch: [N, 3, P, P] and [N, 3, 3 P, 3 P]."""
    small, large = patches.batch(BATCH)
    return tensor(small), tensor(large)


def train(net: SuperResolution, patches: data.Patches, steps: int) -> None:
    """Train the network without masks, in place."""
    optimizer = torch.optim.Adam(net.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.05, cycle_momentum=False)
    net.train()
    progress = Progress("train")
    for step in range(1, steps + 1):
        small, large = pairs(patches)
        loss_of: Loss = square if step > SQUARES_FROM * steps else absolute
        progress.add(step, training.descend(loss_of(net(small), large), optimizer, schedule))


def zeros(net: SuperResolution) -> float:
    """The share of masks that are exactly 0."""
    return float(torch.cat([m.detach().flatten() == 0 for m in net.masks]).float().mean())


def sparsify(net: SuperResolution, patches: data.Patches) -> None:
    """Drive ``SPARSITY`` of the masks to 0, in place.

    Raises:
        RuntimeError: too few had arrived there after ``SPARSE_STEPS``.
    """
    masks = list(net.masks)
    weights = [p for b in net.blocks for p in b.parameters()]
    groups = [{"params": weights, "lr": SPARSE_RATE}, {"params": masks, "lr": MASK_RATE}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    progress = Progress("sparse")
    term = TERM_START
    for step in range(1, SPARSE_STEPS + 1):
        small, large = pairs(patches)
        loss = square(net(small), large)
        penalty = torch.stack([m.sum() for m in masks]).sum()
        training.descend(loss + term * penalty, optimizer)
        with torch.no_grad():
            for mask in masks:
                mask.clamp_(min=0)
        progress.add(step, float(loss.detach()), f"term {term:.1e}, {zeros(net):.0%} zero")
        term *= TERM_GROWTH
        if zeros(net) >= SPARSITY:
            print(f"{zeros(net):.1%} of the masks are zero after {step} steps", flush=True)
            return
    raise RuntimeError(f"only {zeros(net):.1%} of the masks are zero")


def tune(net: SuperResolution, patches: data.Patches, steps: int) -> None:
    """Train with the zeros frozen, in place."""
    alive = [(m.detach() != 0).float() for m in net.masks]
    optimizer = torch.optim.Adam(net.parameters(), lr=TUNE_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    progress = Progress("tune")
    for step in range(1, steps + 1):
        small, large = pairs(patches)
        loss = training.descend(square(net(small), large), optimizer, schedule)
        with torch.no_grad():
            for mask, keep in zip(net.masks, alive, strict=True):
                mask.mul_(keep)
        progress.add(step, loss)


def _dynamo(net: SuperResolution) -> onnx.ModelProto:
    axes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.onnx.export(
        net,
        (torch.rand(2, 3, 24, 20),),
        input_names=[data.INPUT],
        output_names=[data.OUTPUT],
        dynamic_shapes=(axes,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter wrote nothing")
    model: onnx.ModelProto = program.model_proto
    return model


def _torchscript(net: SuperResolution) -> onnx.ModelProto:
    small = {0: "batch", 2: "height", 3: "width"}
    large = {0: "batch", 2: "height_out", 3: "width_out"}
    example = torch.rand(2, 3, 24, 20)
    return export.traced(net, example, (data.INPUT, data.OUTPUT), (small, large), opset=OPSET, preserve=False)


EXPORTERS = {"dynamo": _dynamo, "torchscript": _torchscript}


def write(net: SuperResolution, exporter: str, path: Path) -> None:
    """Write the network with its branches as ONNX, and hold it against the folded network."""
    model = EXPORTERS[exporter](net.eval().expand(True))
    text = "Super-resolution by three with the linear branches of its training left in."
    export.described(model, path.name.split(".")[0], text, {"input": "RGB, 0..1", "output": "RGB, 0..1"})
    image = torch.rand(1, 3, 41, 30, generator=torch.Generator().manual_seed(0))
    export.save(model, net.expand(False), image, path, tolerance=TOLERANCE)


def report(path: Path, folder: Path) -> None:
    """Print the PSNR of a file on the five photographs."""
    network, bicubic = np.mean(list(figures(path, data.fetch_judged(folder / "scikit-image")).values()), axis=0)
    print(f"{path.name}: {network:.4f} dB, bicubic {bicubic:.4f} dB", flush=True)


def train_masked(net: SuperResolution, patches: data.Patches, steps: int) -> SuperResolution:
    """The network with masks, trained on from the one without."""
    masked = SuperResolution(masked=True)
    masked.load_state_dict(net.state_dict(), strict=False)
    sparsify(masked, patches)
    tune(masked, patches, steps)
    return masked


def main() -> None:
    """Fetch the photographs, train both networks, export them, report their figures."""
    parser = training.arguments("Train sr_x3 and sr_x3_masked and export them.", data=data.FOLDER, out=HERE.parent, seed=SEED)
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    parser.add_argument("--tune-steps", type=int, default=TUNE_STEPS, help="default: %(default)s")
    options = training.parse(parser)
    net = SuperResolution()
    started = time.perf_counter()
    train(net, data.Patches(options.data, PATCH, options.seed), options.steps)
    print(f"sr_x3: {options.steps} steps in {time.perf_counter() - started:.0f} s", flush=True)
    paths = {options.out / "sr_x3" / f"sr_x3.{exporter}.onnx": exporter for exporter in EXPORTERS}
    for path, exporter in paths.items():
        write(net, exporter, path)
    started = time.perf_counter()
    masked = train_masked(net, data.Patches(options.data, PATCH, options.seed + 1), options.tune_steps)
    print(f"sr_x3_masked: {time.perf_counter() - started:.0f} s, {zeros(masked):.1%} zero", flush=True)
    path = options.out / "sr_x3_masked" / "sr_x3_masked.onnx"
    write(masked, "dynamo", path)
    for file in (*paths, path):
        report(file, options.data)


if __name__ == "__main__":
    main()
