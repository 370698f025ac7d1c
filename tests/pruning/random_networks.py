"""Random networks of all building blocks, random masks: never a crash, never another output than the masked original's.

    python -m tests.pruning.random_networks FIRST LAST [--needless]

runs the seeds from FIRST up to LAST, prints what went wrong with the seed, and at the end how many networks were pruned, refused by
their certificate, wrong; with ``--needless`` also the share of channels that are frozen without need (see ``needless``).
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from tests.pruning.blocks import BLOCKS, SIZE, any_of, conv, flip
from tests.pruning.check import EXACT, compare
from tests.pruning.nets import Distinct
from tests.pruning.subject import by_masks as by_masks_of
from tests.pruning.subject import by_random_masks, by_ratio, frozen_rows


def random_network(seed: int) -> onnx.ModelProto:
    """Up to fourteen blocks on a convolution, one or more heads, and now and then an inner tensor as an output."""
    net = Distinct(seed)
    pool = [net.conv(net.input("n" if flip(net) else 2, 3, SIZE, SIZE), 8, 3, pad=1)]
    if net.rng.random() < 0.2:
        pool.append("x")
    for _ in range(int(net.rng.integers(3, 15))):
        block = BLOCKS[int(net.rng.integers(len(BLOCKS)))]
        x = pool[-1] if net.rng.random() < 0.7 else any_of(net, pool)
        pool.append(block(net, x if net.widths[x] <= 24 else conv(net, x, pool), pool))
    outputs = [_head(net, pool[-1])]
    if net.rng.random() < 0.3:
        outputs.append(_head(net, any_of(net, pool)))
    made = {o for n in net.nodes for o in n.output}
    inner = [p for p in pool if p in made and p not in outputs]
    if net.rng.random() < 0.2 and inner:
        outputs.append(any_of(net, inner))
    if net.rng.random() < 0.9:
        _without_dead_ends(net, outputs)
    return net.model(*dict.fromkeys(outputs))


def _without_dead_ends(net: Distinct, outputs: list[str]) -> None:
    wanted, kept = set(outputs), []
    for node in reversed(net.nodes):
        if wanted & set(node.output):
            wanted.update(node.input)
            kept.append(node)
    net.nodes[:] = kept[::-1]
    net.initializers[:] = [i for i in net.initializers if i.name in wanted]


def _head(net: Distinct, x: str) -> str:
    c = net.widths[x]
    if flip(net):
        return net.conv(x, 3, 1)
    flat = net.op("Flatten", x)
    if flip(net):
        return net.op("Gemm", flat, net.const(net.random(c * SIZE * SIZE, 4)), net.const(net.random(4)))
    return net.op("Gemm", flat, net.const(net.random(4, c * SIZE * SIZE)), transB=1)


@dataclass
class Result:
    """What came of one network: how many tensors lost something, what the certificate said, the deviation."""

    lost: int = 0
    uncertified: list[str] = field(default_factory=list)
    deviation: float = 0.0


def by_masks(seed: int) -> Result:
    """Random masks on every group at once."""
    original = random_network(seed)
    pruned, problems = by_random_masks(original, seed)
    verdict = compare(original, pruned, seed, dynamic=2)
    return Result(sum(g.any() for g in verdict.gone.tensors.values()), problems, verdict.deviation)


def by_the_pass(seed: int) -> Result:
    """The pass, at half of each group."""
    original = random_network(seed)
    pruned, outcome = by_ratio(original)
    verdict = compare(original, pruned, seed, dynamic=2)
    problems = [r.why for r in outcome.refusals if r.code == "not-certified"]
    return Result(sum(g.any() for g in verdict.gone.tensors.values()), problems, verdict.deviation)


def by_mask_file(seed: int) -> Result:
    """Masks of up to three operators' outputs, from a file: whatever they ask for."""
    original = random_network(seed)
    rng = np.random.default_rng(seed)
    widths = {name: len(rows) for name, rows in frozen_rows(original).items() if len(rows) > 1}
    chosen = rng.choice(sorted(widths), min(len(widths), 3), replace=False).tolist()
    masks = {name: rng.random(widths[name]) < rng.choice([0.5, 0.8]) for name in chosen}
    for name in chosen:
        if widths[name] % 2 == 0 and rng.integers(2):  # as many in each half, or a third
            blocks = 3 if widths[name] % 3 == 0 and rng.integers(2) else 2
            block = np.arange(widths[name] // blocks) > rng.integers(widths[name] // blocks)
            masks[name] = np.concatenate([rng.permutation(block) for _ in range(blocks)])
    with TemporaryDirectory() as folder:
        np.savez(Path(folder) / "masks.npz", **masks)
        pruned, outcome = by_masks_of(original, Path(folder) / "masks.npz")
    verdict = compare(original, pruned, seed, dynamic=2)
    for name, keep in masks.items():
        wanted, lost = np.flatnonzero(~keep).tolist(), verdict.channels(name).tolist()
        if not set(lost) <= set(wanted):
            raise AssertionError(f"'{name}' lost {lost}, asked for were {wanted}")
    problems = [r.why for r in outcome.refusals if r.code == "not-certified"]
    return Result(sum(g.any() for g in verdict.gone.tensors.values()), problems, verdict.deviation)


CHECKS = {"masks": by_masks, "ratio": by_the_pass, "file": by_mask_file}


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--needless", action="store_true", help="measure the share of channels that are frozen without need")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    for seed in range(args.first, args.last):
        for name, check in CHECKS.items():
            counts["runs"] += 1
            try:
                result = check(seed)
            except Exception as error:  # noqa: BLE001  the other seeds are still to come
                where = traceback.extract_tb(error.__traceback__)[-1]
                what = (
                    f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({where.filename.split('/')[-1]}:{where.lineno})"
                )
                print(f"{seed} {name}: CRASH {what}", flush=True)
                counts["crashes"] += 1
                continue
            counts["pruned"] += result.lost > 0
            if result.deviation > EXACT:
                counts["wrong"] += 1
                print(f"{seed} {name}: WRONG by {result.deviation:.1e}; certificate: {result.uncertified[:2]}", flush=True)
            elif result.uncertified:
                counts["refused by the certificate"] += 1
                print(f"{seed} {name}: refused though exact: {result.uncertified[:2]}", flush=True)
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    if args.needless:
        from tests.pruning.needless import measure

        print(measure(range(args.first, args.last)))
    return int(counts["wrong"] + counts["crashes"] > 0)


if __name__ == "__main__":
    sys.exit(main())
