"""What the training scripts have in common: options, parameter groups, steps, the state of a run, accuracy.

One thread by default, so that the order of every sum is fixed: the same seed gives the same weights, bit for bit. Another
processor or another version of torch sums in another order; expect other weights there, and slightly other figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 500


def arguments(text: str, *, data: Path, out: Path, seed: int) -> argparse.ArgumentParser:
    """The options of every training: folders, seed, threads."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--data", type=Path, default=data, help="folder of the data (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=out, help="folder to write to (default: where the committed files are)")
    parser.add_argument("--seed", type=int, default=seed, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; set the threads and the seed accordingly."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    return options


def parameter_groups(net: nn.Module, decay: float) -> list[dict[str, object]]:
    """Kernels with weight decay; biases and batch norms without."""
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def one_cycle(optimizer: torch.optim.Optimizer, peak: float, steps: int, rise: float) -> torch.optim.lr_scheduler.OneCycleLR:
    """One cycle of the rate (Smith and Topin, "Super-Convergence", arXiv:1708.07120), up during a share ``rise`` of the steps."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=rise)


def descend(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    *,
    clip: tuple[nn.Module, float] | None = None,
) -> float:
    """One step down the gradient; the loss as a number. ``clip``: a network and the largest norm of its gradient."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    if clip is not None:
        nn.utils.clip_grad_norm_(clip[0].parameters(), clip[1])
    optimizer.step()
    if schedule is not None:
        schedule.step()
    return float(loss.detach())


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor, to_input: Callable[[Tensor], Tensor]) -> float:
    """Top-1 accuracy (0..1) of the network in evaluation mode, in float32."""
    net.eval()
    right = 0
    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        right += int((net(to_input(images[part])).argmax(1) == labels[part]).sum())
    return right / len(images)


def saved(path: Path | None) -> dict[str, Any] | None:
    """What ``keep`` wrote, if anything."""
    return torch.load(path, weights_only=True) if path is not None and path.is_file() else None


def keep(path: Path | None, **parts: Any) -> None:
    """Write the state of a run, so that a run that was stopped can go on: state dicts, or the values themselves."""
    if path is None:
        return
    part = path.with_suffix(".part")
    torch.save({name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in parts.items()}, part)
    part.replace(path)  # a run that is stopped here leaves the last state whole
