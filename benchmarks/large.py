"""Time and memory on big models, and side by side with other optimizers, each in a process of its own.

    python -m benchmarks.large make FOLDER                    # big3.onnx (3 GiB beside it), big1.onnx, big1x.onnx
    python -m benchmarks.large run FOLDER/big3.onnx ...       # graphopt alone: no passes, the exact passes, the command
    python -m benchmarks.large compare MODEL ... --peer-python PATH

``compare`` wants an interpreter that has onnxsim, onnxslim and onnxscript (``pip install onnxsim onnxslim onnxscript`` in a virtual
environment of its own). Every row loads the file, optimizes and saves, with one thread, ``--repeats`` times in alternation with the
others; the least of the times and of the peaks are shown, and their ratio to graphopt's. Verification is not part of it (the others
have none, or have it switched off); ``command`` is the whole of ``graphopt run``, which verifies.

Peak memory is that of the whole process tree, sampled; of it, ``anonymous`` leaves out pages of files that are mapped, which the
system may drop at any time.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

_ALIGNMENT = 4096
_CHUNK = 1 << 22
_POLL = 0.02

_ROUND_TRIP = "import sys, graphopt; graphopt.load(sys.argv[1]).save(sys.argv[2], force=True)"
_PASSES = """
import sys, graphopt
from graphopt.passes.fold import Fold
from graphopt.passes.simplify import Simplify
from graphopt.pipeline import Context
model = graphopt.load(sys.argv[1])
for one in (Simplify(), Fold()):
    one.run(model, Context(model))
model.save(sys.argv[2], force=True)
"""
_PEERS = {
    "onnxscript": """
import sys, onnx_ir, onnxscript.optimizer
model = onnx_ir.load(sys.argv[1])
onnxscript.optimizer.optimize(model)
onnx_ir.save(model, sys.argv[2])
""",
    "onnxsim": """
import sys, onnx, onnxsim
onnx.save(onnxsim.simplify(onnx.load(sys.argv[1]))[0], sys.argv[2])
""",
    "onnxslim": """
import sys, onnxslim
onnxslim.slim(sys.argv[1], sys.argv[2])
""",
}


# -- the models --------------------------------------------------------------------------------------------------------------


class _Big:
    """A network as it is written: weights go to ``data`` as they are drawn, the graph only names their place."""

    def __init__(self, data: IO[bytes], location: str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.data = data
        self.location = location
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, low: float | None = None) -> str:
        """Normal values that keep the variance of what they multiply; uniform in [low, low + 1) where ``low`` is given."""
        start = -(-self.data.tell() // _ALIGNMENT) * _ALIGNMENT
        self.data.write(b"\0" * (start - self.data.tell()))
        count = math.prod(shape)
        scale = np.float32(1 / math.sqrt(max(1, count // shape[0])))
        for at in range(0, count, _CHUNK):
            size = min(_CHUNK, count - at)
            drawn = self.rng.random(size, np.float32) + np.float32(low or 0)
            if low is None:
                drawn = self.rng.standard_normal(size, np.float32) * scale
            self.data.write(drawn.tobytes())
        tensor = TensorProto(name=f"w{len(self.weights)}", dims=shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", start), ("length", 4 * count)):
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)
        return tensor.name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"{kind.lower()}_{len(self.nodes)}", **attributes))
        return name


def make_big(path: Path, gib: float, seed: int = 0) -> None:
    """A network of ``gib`` GiB with its weights in ``path``.data: half convolutions with batch norms, half matrix products."""
    location = path.name + ".data"
    with path.with_name(location).open("wb") as data:
        net = _Big(data, location, seed)
        x, width, wide = "image", 512, 2048
        x = net.op("Conv", x, net.weight(width, 3, 3, 3), kernel_shape=[3, 3], pads=[1] * 4)
        while data.tell() < gib * 2**29:
            x = net.op("Conv", x, net.weight(width, width, 3, 3), kernel_shape=[3, 3], pads=[1] * 4)
            scale, variance = net.weight(width, low=0.5), net.weight(width, low=0.5)
            x = net.op("Relu", net.op("BatchNormalization", x, scale, net.weight(width), net.weight(width), variance))
        x = net.op("Flatten", net.op("GlobalAveragePool", x))
        x = net.op("Relu", net.op("Gemm", x, net.weight(wide, width), transB=1))
        while data.tell() < gib * 2**30:
            x = net.op("Relu", net.op("Gemm", x, net.weight(wide, wide), net.weight(wide), transB=1))
            x = net.op("Add", net.op("MatMul", x, net.weight(wide, wide)), net.weight(wide))
            x = net.op("Relu", net.op("Mul", x, net.weight(wide, low=0.5)))
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, wide])]
    graph = helper.make_graph(net.nodes, path.stem, inputs, outputs, net.weights)
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString(deterministic=True))


def make(folder: Path) -> None:
    """The three models of the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    make_big(folder / "big3.onnx", 3)
    make_big(folder / "big1x.onnx", 1)
    onnx.save(onnx.load(folder / "big1x.onnx"), folder / "big1.onnx")


# -- measuring ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds on the clock and of the processor; MiB at the peak, all and without mapped files; what it said if it failed."""

    wall: float
    cpu: float
    peak: float
    anonymous: float
    why: str = ""

    def least(self, other: Figures) -> Figures:
        return Figures(
            min(self.wall, other.wall),
            min(self.cpu, other.cpu),
            min(self.peak, other.peak),
            min(self.anonymous, other.anonymous),
            self.why or other.why,
        )


def measure(command: list[str], root: Path | None = None) -> Figures:
    """Run a command with one thread, from the checkout ``root``, and watch its process tree."""
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=root, stdout=said, stderr=said)  # noqa: S603 - our own command line
        peaks, done = [0.0, 0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        done.set()
        watcher.join()
        said.seek(0)
        why = said.read().decode(errors="replace").strip().splitlines()[-1:] if process.returncode else []
    return Figures(wall, usage.ru_utime + usage.ru_stime, max(peaks[0], usage.ru_maxrss / 1024), peaks[1], "".join(why)[:100])


def _watch(pid: int, peaks: list[float], done: threading.Event) -> None:
    while not done.wait(_POLL):
        sums = [0.0, 0.0]
        for one in _tree(pid):
            for index, kib in enumerate(_resident(one)):
                sums[index] += kib / 1024
        peaks[:] = [max(a, b) for a, b in zip(peaks, sums, strict=True)]


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _tree(int(child))


def _resident(pid: int) -> tuple[int, int]:
    """KiB of a process in memory: all, and anonymous."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return int(fields.get("VmRSS", 0)), int(fields.get("RssAnon", 0))


# -- tables ------------------------------------------------------------------------------------------------------------------


def table(model: Path, rows: dict[str, list[str]], base: str, repeats: int, root: Path) -> None:
    """Measure every row in turn, ``repeats`` times, and print them with their ratios to ``base``."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        for _ in range(repeats):
            for name, command in rows.items():
                out = Path(folder) / "out.onnx"
                figures = measure([*command, str(model), str(out)], None if name in _PEERS else root)
                found[name] = figures.least(found[name]) if name in found else figures
                for left in Path(folder).iterdir():
                    left.unlink()
    size = sum(p.stat().st_size for p in (model, model.with_name(model.name + ".data")) if p.exists())
    print(f"{model.name}: {size / 2**20:.0f} MiB")
    print(f"  {'':24}{'wall s':>8}{'cpu s':>8}{'peak MiB':>10}{'anon.':>8}{'wall':>8}{'peak':>7}   (ratios to {base})")
    for name, f in found.items():
        ratio = f"{f.wall / found[base].wall:8.2f}{f.peak / found[base].peak:7.2f}"
        print(f"  {name:24}{f.wall:8.2f}{f.cpu:8.2f}{f.peak:10.0f}{f.anonymous:8.0f}{ratio}   {f.why}", flush=True)


def main() -> None:
    """Parse and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run", "compare"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--peer-python", metavar="PATH")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent, help="the checkout of graphopt to measure")
    args = parser.parse_args()
    if args.what == "make":
        make(args.paths[0])
        return
    ours = {
        "no passes": [sys.executable, "-c", _ROUND_TRIP],
        "simplify,fold": [sys.executable, "-c", _PASSES],
        "import alone": [sys.executable, "-c", "import graphopt, onnxruntime"],
    }
    command = [sys.executable, "-c", _COMMAND]
    peers = {name: [args.peer_python, "-c", script] for name, script in _PEERS.items()} if args.peer_python else {}
    whole = {
        "command": [*command, "simplify,fold"],
        "command, unverified": [*command, "simplify,fold", "--unverified"],
    }
    for model in args.paths:
        rows = {**ours, **whole} if args.what == "run" else {**ours, **peers}
        table(model.absolute(), rows, "simplify,fold", args.repeats, args.root)


_COMMAND = """
import sys
from graphopt.cli import main
passes, *flags, model, out = sys.argv[1:]
sys.argv = ["graphopt", "run", model, "--passes", passes, *flags, "--no-timing", "--samples", "1", "-o", out, "--force"]
main()
"""


if __name__ == "__main__":
    main()
