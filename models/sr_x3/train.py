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

One thread by default, so that the order of every sum is fixed. Another processor or another version of torch sums in
another order; expect other weights there, and figures that differ in the second decimal.

    python -m models.sr_x3.train --data build/sr_x3
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional

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

CHECKPOINT_STEPS = 250
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

    def add(self, step: int, loss: Tensor, note: str = "") -> None:
        self._losses.append(float(loss.detach()))
        if step % CHECKPOINT_STEPS == 0:
            seconds = time.perf_counter() - self._started
            print(f"{self._label} {step:6d}: loss {np.mean(self._losses):.5f}, {seconds:.0f} s {note}", flush=True)
            self._losses = []


def train(net: SuperResolution, patches: data.Patches, steps: int, checkpoint: Path) -> None:
    """Train the network without masks in place; goes on from ``checkpoint`` if it is there."""
    optimizer = torch.optim.Adam(net.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.05, cycle_momentum=False)
    net.train()
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
        patches.reseed(SEED + first)
    progress = Progress("train")
    for step in range(first + 1, steps + 1):
        small, large = patches.batch(BATCH)
        loss_of: Loss = square if step > SQUARES_FROM * steps else absolute
        loss = loss_of(net(tensor(small)), tensor(large))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.add(step, loss)
        if step % CHECKPOINT_STEPS == 0:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            torch.save({**state, "step": step}, checkpoint)


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
        small, large = patches.batch(BATCH)
        loss = square(net(tensor(small)), tensor(large))
        penalty = torch.stack([m.sum() for m in masks]).sum()
        optimizer.zero_grad()
        (loss + term * penalty).backward()
        optimizer.step()
        with torch.no_grad():
            for mask in masks:
                mask.clamp_(min=0)
        progress.add(step, loss, f"term {term:.1e}, {zeros(net):.0%} zero")
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
        small, large = patches.batch(BATCH)
        loss = square(net(tensor(small)), tensor(large))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
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
    names = {0: "batch", 2: "height", 3: "width"}
    large = {0: "batch", 2: "height_out", 3: "width_out"}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.onnx")
        torch.onnx.export(
            net,
            (torch.rand(2, 3, 24, 20),),
            path,
            input_names=[data.INPUT],
            output_names=[data.OUTPUT],
            dynamic_axes={data.INPUT: names, data.OUTPUT: large},
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(path)


EXPORTERS = {"dynamo": _dynamo, "torchscript": _torchscript}


def export(net: SuperResolution, exporter: str, path: Path) -> None:
    """Write the network with its branches as ONNX and compare it with torch, folded, in onnxruntime.

    Raises:
        RuntimeError: the graph does not compute what the network computes.
    """
    model = EXPORTERS[exporter](net.eval().expand(True))
    for value in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        value.ClearField("doc_string")  # source locations of the machine that exported
        value.ClearField("metadata_props")
    for initializer in model.graph.initializer:
        initializer.ClearField("doc_string")
        initializer.ClearField("metadata_props")
    model.graph.name = path.name.split(".")[0]
    model.doc_string = "Super-resolution by three with the linear branches of its training left in."
    onnx.helper.set_model_props(model, {"input": "RGB, 0..1", "output": "RGB, 0..1"})
    onnx.checker.check_model(model, full_check=True)
    image = torch.rand(1, 3, 41, 30, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = net.expand(False)(image).numpy()
    error = float(np.abs(np.asarray(session.run(None, {data.INPUT: image.numpy()})[0]) - wanted).max())
    if not error <= TOLERANCE:
        raise RuntimeError(f"onnxruntime and torch differ by {error:.3g}")
    onnx.save(model, str(path))
    print(f"{path.name}: {path.stat().st_size} bytes, onnxruntime and torch differ by {error:.2g}", flush=True)


def report(path: Path, folder: Path) -> None:
    """Print the PSNR of a file on the five photographs."""
    network, bicubic = np.mean(list(figures(path, data.fetch_judged(folder / "scikit-image")).values()), axis=0)
    print(f"{path.name}: {network:.4f} dB, bicubic {bicubic:.4f} dB", flush=True)


def main() -> None:
    """Fetch the photographs, train both networks, export them, report their figures."""
    parser = argparse.ArgumentParser(description="Train sr_x3 and sr_x3_masked and export them.")
    parser.add_argument("--data", type=Path, default=data.FOLDER, help="folder of the photographs (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE.parent, help="folder of both models' folders (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    parser.add_argument("--tune-steps", type=int, default=TUNE_STEPS, help="default: %(default)s")
    parser.add_argument(
        "--only", choices=("sr_x3", "sr_x3_masked"), help="train one; the second needs the weights that the first left"
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = options.data / "sr_x3.pt"
    if options.only != "sr_x3_masked":
        torch.manual_seed(SEED)
        net = SuperResolution()
        started = time.perf_counter()
        train(net, data.Patches(options.data, PATCH, SEED), options.steps, checkpoint)
        print(f"sr_x3: {options.steps} steps in {time.perf_counter() - started:.0f} s", flush=True)
        torch.save({"net": net.state_dict()}, options.data / "sr_x3.final.pt")
        checkpoint.unlink(missing_ok=True)  # it is for a run that was stopped
        for exporter in EXPORTERS:
            path = options.out / "sr_x3" / f"sr_x3.{exporter}.onnx"
            export(net, exporter, path)
            report(path, options.data)
    if options.only != "sr_x3":
        torch.manual_seed(SEED)
        net = SuperResolution(masked=True)
        net.load_state_dict(torch.load(options.data / "sr_x3.final.pt", weights_only=True)["net"], strict=False)
        started = time.perf_counter()
        patches = data.Patches(options.data, PATCH, SEED + 1)
        sparsify(net, patches)
        tune(net, patches, options.tune_steps)
        print(f"sr_x3_masked: {time.perf_counter() - started:.0f} s, {zeros(net):.1%} zero", flush=True)
        torch.save({"net": net.state_dict()}, options.data / "sr_x3_masked.final.pt")
        path = options.out / "sr_x3_masked" / "sr_x3_masked.onnx"
        export(net, "dynamo", path)
        report(path, options.data)


if __name__ == "__main__":
    main()
