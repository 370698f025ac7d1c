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

A checkpoint is written after every epoch; a run that was stopped goes on from it with ``--resume``. The data's order and
its changes are drawn from the seed and the epoch, so that it goes on as it would have.

The export folds nothing, as in ``models.fashion_rep.train``.

    python -m models.depth.train --out models/depth --data build/depth
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.depth import render
from models.depth.net import Depth
from models.depth.scene import draw

SEED = 1
EPOCHS = 13
BATCH = 16
PEAK_RATE = 3e-3
WEIGHT_DECAY = 1e-2
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


def parameter_groups(net: nn.Module) -> list[dict[str, object]]:
    """Kernels with weight decay; biases and batch norms without."""
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


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


def train(net: Depth, folder: Path, epochs: int, seed: int, checkpoint: Path | None, resume: bool) -> None:
    """Train in place, one line of progress an epoch."""
    images, depths = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "depths.npy", mmap_mode="r")
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(parameter_groups(net), lr=PEAK_RATE)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.15)
    done = 0
    if resume and checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = int(state["epochs"])
    seen = watched()
    for epoch in range(done + 1, epochs + 1):
        net.train()
        started, total, count = time.perf_counter(), 0.0, 0
        for x, y in batches(images, depths, seed, epoch):
            loss = loss_of(net.body(x), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total, count = total + float(loss.detach()), count + 1
        took = time.perf_counter() - started
        print(f"epoch {epoch:2d}: loss {total / count:.4f}, watched {error_on(net, *seen):.4f}, {took:.0f} s", flush=True)
        if checkpoint is not None:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            torch.save(state | {"epochs": epoch}, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)


def own_initializers(graph: onnx.GraphProto) -> None:
    """Replace every ``Identity`` of an initializer by an initializer of its own, in place."""
    constants = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in constants:
            graph.initializer.add().CopyFrom(constants[node.input[0]])
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def own_scales(graph: onnx.GraphProto) -> None:
    """Replace every ``Concat`` of constants (the exporter's way to write a Resize's scales) by an initializer, in place."""
    constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
    for node in list(graph.node):
        if node.op_type == "Concat" and all(name in constants for name in node.input):
            parts = [onnx.numpy_helper.to_array(constants[name].attribute[0].t) for name in node.input]
            graph.initializer.append(onnx.numpy_helper.from_array(np.concatenate(parts), node.output[0]))
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for name, node in constants.items():
        if name not in read:
            graph.node.remove(node)


def export(net: Depth, path: Path) -> None:
    """Write the network as ONNX, expanded and with its batch norms, and compare it with torch in onnxruntime.

    Raises:
        RuntimeError: the graph does not compute what the network computes, or a batch norm is in its training form.
    """
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        raw = str(Path(folder) / path.name)
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, *render.FULL),),
            raw,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
        model = onnx.load(raw)
    own_initializers(model.graph)
    own_scales(model.graph)
    for node in model.graph.node:  # source locations of the machine that exported
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.op_type == "BatchNormalization" and (training or len(node.output) != 1):
            raise RuntimeError(f"{node.name}: exported in its training form")
    for value, size in zip(model.graph.output[0].type.tensor_type.shape.dim, (None, 1, *render.FULL), strict=True):
        if size is not None:
            value.dim_value = size
    model.graph.name = "depth"
    model.doc_string = (
        "Monocular depth, trained on synthetic scenes, with the linear blocks and batch norms of its training left in."
    )
    properties = {"input": "RGB, k / 255", "output": "natural logarithm of the depth in metres along the optical axis"}
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    images = torch.rand(2, 3, *render.FULL, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        error = float(np.abs(np.asarray(session.run(None, {INPUT: images.numpy()})[0]) - net(images).numpy()).max())
    if not error <= TOLERANCE:
        raise RuntimeError(f"onnxruntime and torch differ by {error:.3g}")
    onnx.save(model, str(path))
    print(f"{path.name}: {path.stat().st_size} bytes, onnxruntime and torch differ by {error:.2g}", flush=True)


def main() -> None:
    """Render the training scenes if need be, train, export."""
    parser = argparse.ArgumentParser(description="Train depth on synthetic scenes and export it.")
    parser.add_argument(
        "--data", type=Path, default=Path("build/depth"), help="folder of the rendered pairs (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: beside this file)")
    parser.add_argument("--count", type=int, default=render.TRAINING_IMAGES, help="pairs to render (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="0: export untrained (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder of the data")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.epochs and not (options.data / "depths.npy").exists():
        render.write_training(options.data, options.count, options.threads)
    net = Depth()
    started = time.perf_counter()
    if options.epochs:
        train(net, options.data, options.epochs, options.seed, options.data / "checkpoint.pt", options.resume)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    export(net, options.out / "depth.onnx")


if __name__ == "__main__":
    main()
