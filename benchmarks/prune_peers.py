"""The task's figure after pruning to equal multiply-accumulates without training: ours beside Torch-Pruning's and onnxsim's.

    python -m benchmarks.prune_peers cifar_rep --data build/cifar10 --keep 0.8 0.6 --torch-python P --onnxsim-python Q
    python -m benchmarks.prune_peers MODEL.onnx --data PHOTOS --keep 0.9 0.8 --torch-python P --onnxsim-python Q

Networks, data and figures are those of ``benchmarks.curves``. All start from the folded model. Each peer runs in an interpreter of
its own: P has torch, torch-pruning and onnx2torch (``MagnitudeImportance(p=2)``, global, widths on multiples of 8), Q has onnxsim
(``apply_structured_pruning``; ``apply_structured_wanda_pruning``, its mode that looks at activations, on 64 of the samples). Their
ratio is bisected to the largest share of multiply-accumulates within the budget. A cell says figure and share; or why there is
none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphopt
from benchmarks.curves import Judge, macs, task
from graphopt.errors import GraphoptError

Array = NDArray[Any]

BISECTIONS = 7
PEER_SAMPLES = 64

_TORCH_PRUNING = """
import json, sys
import onnx, onnx2torch, torch
import torch_pruning as tp
source, target, ratio, shape = sys.argv[1], sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4])
example = torch.zeros(shape)
model = onnx.load(source)
names = model.graph.input[0].name, model.graph.output[0].name
net = onnx2torch.convert(model).eval()
last = [m for m in net.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))][-1:]
tp.pruner.BasePruner(
    net, example, importance=tp.importance.MagnitudeImportance(p=2), global_pruning=True, pruning_ratio=ratio,
    max_pruning_ratio=0.875, ignored_layers=last, round_to=8,
).step()
torch.onnx.export(
    net, (example,), target, dynamo=False, opset_version=17, input_names=names[:1], output_names=names[1:],
    dynamic_axes={name: {0: "batch"} for name in names},
)
"""

_ONNXSIM = """
import sys
import numpy as np
import onnx
from onnxsim import pruning
source, target, ratio, archive = sys.argv[1], sys.argv[2], float(sys.argv[3]), np.load(sys.argv[4])
model = onnx.load(source)
names = archive.files
feeds = [{n: archive[n][k] for n in names} for k in range(len(archive[names[0]]))]
if WANDA:
    model = pruning.apply_structured_wanda_pruning(model, feeds, len(feeds), sparsity=ratio, global_sparsity=GLOBAL)
else:
    model = pruning.apply_structured_pruning(model, sparsity=ratio, global_sparsity=GLOBAL)
onnx.save(model, target)
"""


@dataclass(frozen=True)
class Peer:
    """One way to prune with somebody else's tool."""

    name: str
    python: str
    script: str
    data: str
    """What the script is told last: the input's shape, or an archive of samples."""


def pruned(peer: Peer, source: Path, keep: float, folder: Path) -> tuple[graphopt.Model, float] | str:
    """The peer's model with the most multiply-accumulates within the budget, and their share; or why there is none."""
    before = macs(graphopt.load(source))
    low, high = 0.0, 0.95
    best: tuple[graphopt.Model, float] | str = "never within the budget"
    for turn in range(BISECTIONS):
        middle, target = (low + high) / 2, folder / f"{peer.name}-{keep}-{turn}.onnx"
        command = [peer.python, "-c", peer.script, str(source), str(target), str(middle), peer.data]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            return done.stderr.strip().splitlines()[-1][:60]
        try:
            model = graphopt.load(target)
            share = macs(model) / before
        except GraphoptError as error:
            return str(error)[:60]
        if share <= keep:
            best, high = (model, share), middle
        else:
            low = middle
    return best


def _judged(judge: Judge, model: graphopt.Model) -> str:
    try:
        return f"{judge(model):.2f}"
    except Exception as error:  # noqa: BLE001  a peer's model may not run at all
        return f"not run: {' '.join(str(error).split())[:40]}"


def peers(args: argparse.Namespace, feeds: list[dict[str, Array]], folder: Path) -> list[Peer]:
    """The peers that an interpreter is named for."""
    found: list[Peer] = []
    (name,) = feeds[0]
    if args.torch_python:
        found.append(Peer("Torch-Pruning", args.torch_python, _TORCH_PRUNING, json.dumps(list(feeds[0][name].shape))))
    if args.onnxsim_python:
        archive = folder / "samples.npz"
        samples: dict[str, Any] = {name: np.stack([f[name] for f in feeds[:PEER_SAMPLES]])}
        np.savez(archive, **samples)
        for words, wanda, everywhere in (("L2", False, False), ("activations", True, False), ("activations, global", True, True)):
            script = _ONNXSIM.replace("WANDA", str(wanda)).replace("GLOBAL", str(everywhere))
            found.append(Peer(f"onnxsim, {words}", args.onnxsim_python, script, str(archive)))
    return found


def ours(folded: graphopt.Model, keep: float, feeds: list[dict[str, Array]]) -> tuple[graphopt.Model, float]:
    """Our model and its share of the multiply-accumulates."""
    model = graphopt.run(folded, f"prune:macs={keep}:multiple=8", data=feeds, timing=False).model
    return model, macs(model) / macs(folded)


def main() -> None:
    """Parse, measure, print a block a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="cifar_rep, cifar_bottleneck, sr_x3, depth, or the file of an image classifier")
    parser.add_argument("--data", type=Path, default=Path("build"))
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.8, 0.6])
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--torch-python", default="", help="an interpreter with torch-pruning")
    parser.add_argument("--onnxsim-python", default="", help="an interpreter with onnxsim")
    args = parser.parse_args()
    for name in args.models:
        path, feeds, judge = task(name, args)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            source, folded = folder / "folded.onnx", graphopt.run(path, "fold", data=feeds, timing=False).model
            folded.save(source)
            print(f"{path.name}: {judge(folded):.2f}", flush=True)
            others = peers(args, feeds, folder)
            for keep in args.keep:
                _say(keep, "graphopt", ours(folded, keep, feeds), judge)
                for peer in others:
                    _say(keep, peer.name, pruned(peer, source, keep, folder), judge)


def _say(keep: float, words: str, found: tuple[graphopt.Model, float] | str, judge: Judge) -> None:
    text = found if isinstance(found, str) else f"{_judged(judge, found[0])}, {found[1]:.1%} of the MACs"
    print(f"  at most {keep:.0%}: {words:28} {text}", flush=True)


if __name__ == "__main__":
    main()
