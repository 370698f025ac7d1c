"""Models that crash, hang or flood native code: one coded error, exit code 2, nothing written. Through real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.signals import heed_interrupts
from tests.nets import Net

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork, and limits of memory")

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def cli(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graphopt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=ENV, timeout=300)


def unchecked(net: Net, output: str) -> onnx.ModelProto:
    """A model that nobody has looked at: what builds it must not run into what is wrong with it."""
    graph = helper.make_graph(net.nodes, "net", net.inputs, [onnx.ValueInfoProto(name=output)], net.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def negative_batch_dims() -> onnx.ModelProto:
    net = Net(opset=18)
    return unchecked(net, net.op("GatherND", net.input(1, 4), net.const(np.zeros((1, 2), np.int64)), batch_dims=-(2**31)))


def less_negative_batch_dims() -> onnx.ModelProto:
    net = Net(opset=18)
    return unchecked(net, net.op("GatherND", net.input(2, 3, 4), net.const(np.zeros((2, 3, 1), np.int64)), batch_dims=-(2**28)))


def more_outputs_than_it_says() -> onnx.ModelProto:
    net = Net(opset=18)
    return unchecked(net, net.op("Split", net.input(1, 4), outputs=3, axis=1, num_outputs=2))


CRASHES = [
    (negative_batch_dims, "SIGSEGV"),
    (less_negative_batch_dims, "SIGSEGV"),
    (more_outputs_than_it_says, "SIGABRT"),
]


@pytest.mark.parametrize(("make", "name"), CRASHES, ids=[make.__name__ for make, _ in CRASHES])
def test_a_crash_is_one_error(make: Callable[[], onnx.ModelProto], name: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(make().SerializeToString())
    done = cli("run", "model.onnx", "-o", "out.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error[GO040]: model.onnx: onnxruntime crashed ({name}) while loading model.onnx")
    assert len(done.stderr.splitlines()) == 2
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def loop(trips: int) -> onnx.ModelProto:
    net = Net(opset=18)
    x, count = net.input(1, 4), net.const(np.int64(trips))
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "a"], ["b"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            onnx.ValueInfoProto(name="a"),
        ],
        [helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []), onnx.ValueInfoProto(name="b")],
    )
    return unchecked(net, net.op("Loop", count, "", x, body=body))


def test_a_hang_is_one_error(tmp_path: Path) -> None:
    onnx.save(loop(2**62), tmp_path / "model.onnx")
    done = cli("run", "model.onnx", "-o", "out.onnx", "--time-limit", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[GO041]: model.onnx: onnxruntime was still running model.onnx after ")
    assert "--time-limit" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_loop_that_ends_is_none(tmp_path: Path) -> None:
    onnx.save(loop(20), tmp_path / "model.onnx")
    assert cli("run", "model.onnx", "--no-timing", cwd=tmp_path).returncode == 0


def seen(net: Net, bomb: str) -> onnx.ModelProto:
    """A model whose output depends on the bomb."""
    return unchecked(net, net.op("Add", "x", net.op("ReduceMax", bomb, keepdims=0)))


def wide_constant() -> onnx.ModelProto:
    net = Net(opset=18)
    net.input(1, 4)
    return seen(net, net.op("ConstantOfShape", net.const(np.array([2**31]))))


def wide_input() -> onnx.ModelProto:
    net = Net(opset=18)
    return unchecked(net, net.op("Relu", net.input(2**16, 2**15)))


def doubling() -> onnx.ModelProto:
    net = Net(opset=18)
    wide = net.input(1, 4)
    for _ in range(40):
        wide = net.op("Concat", wide, wide, axis=1)
    return seen(net, wide)


def computed_range() -> onnx.ModelProto:
    """No shape tells this one."""
    net = Net(opset=18)
    last = net.op("Mul", net.op("Size", net.input(1, 4)), net.const(np.int64(2**29)))
    return seen(net, net.op("Cast", net.op("Range", net.const(np.int64(0)), last, net.const(np.int64(1))), to=1))


def branch() -> onnx.ModelProto:
    """Nor this one: it is made in the branch of an If."""
    net = Net(opset=18)
    x = net.input(1, 4)
    least = net.op("ReduceMax", x, keepdims=0)
    always = net.op("Equal", net.op("Sub", least, least), net.const(np.float32(0)))
    wide = [
        helper.make_node("ConstantOfShape", [net.const(np.array([2**31]))], ["w"]),
        helper.make_node("ReduceMax", ["w"], ["m"], keepdims=0),
        helper.make_node("Add", [x, "m"], ["yes"]),
    ]
    yes = helper.make_graph(wide, "yes", [], [onnx.ValueInfoProto(name="yes")])
    no = helper.make_graph([helper.make_node("Identity", [x], ["no"])], "no", [], [onnx.ValueInfoProto(name="no")])
    return unchecked(net, net.op("If", always, then_branch=yes, else_branch=no))


BOMBS = [
    # model; whether its shapes tell what it is, so that commands refuse it which run nothing
    (wide_constant, True),
    (wide_input, True),
    (doubling, True),
    (computed_range, False),
    (branch, False),
]


@pytest.mark.parametrize("command", ["run", "inspect", "groups", "sensitivity"])
@pytest.mark.parametrize(("make", "told"), BOMBS, ids=[make.__name__ for make, _ in BOMBS])
def test_a_bomb_is_one_error(make: Callable[[], onnx.ModelProto], told: bool, command: str, tmp_path: Path) -> None:
    onnx.save(make(), tmp_path / "model.onnx")
    script = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
        "sys.exit(done.returncode)\n"
    )
    called = [sys.executable, "-c", script, sys.executable, "-m", "graphopt", command, "model.onnx"]
    done = subprocess.run(called, capture_output=True, text=True, check=False, cwd=tmp_path, env=ENV, timeout=300)
    *lines, peak = done.stderr.splitlines()
    assert int(peak) < 2**20  # KiB
    if command in ("run", "sensitivity") or told:
        assert done.returncode == 2
        assert lines[0].startswith("error[GO042]: model.onnx: ")
        assert "--memory-limit" in lines[1]
        assert done.stdout == ""
    else:
        assert done.returncode == 0


def test_memory_can_be_granted(tmp_path: Path) -> None:
    net = Net(opset=18)
    net.input(1, 4)
    onnx.save(seen(net, net.op("ConstantOfShape", net.const(np.array([2**22])))), tmp_path / "model.onnx")
    refused = cli("inspect", "model.onnx", "--memory-limit", "8MiB", cwd=tmp_path)
    assert (refused.returncode, refused.stderr[:12]) == (2, "error[GO042]")
    assert cli("inspect", "model.onnx", "--memory-limit", "64MiB", cwd=tmp_path).returncode == 0
    assert cli("inspect", "model.onnx", "--memory-limit", "0", cwd=tmp_path).returncode == 0


def test_what_is_known_to_be_harmless_may_take_what_many_samples_take(tmp_path: Path) -> None:
    """One sample takes 128 MiB, eight together more than a model may take that nobody has run."""
    net = Net(opset=18)
    x = net.op("Reshape", net.input("n", 4), net.const(np.array([-1, 4, 1, 1])))
    x = net.op("Expand", x, net.const(np.array([1, 4, 512, 512])))
    for inputs, outputs in ((4, 128), (128, 4)):
        x = net.op("Conv", x, net.const(net.random(outputs, inputs, 1, 1)))
    onnx.save(unchecked(net, net.op("GlobalAveragePool", x)), tmp_path / "model.onnx")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((16, 4), np.float32))
    done = cli("sensitivity", "model.onnx", "-d", "data.npy", "--multiple", "64", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_limit_that_is_none_is_a_wrong_option(tmp_path: Path) -> None:
    done = cli("inspect", "model.onnx", "--memory-limit", "much", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[GO920]")


def started(tmp_path: Path) -> subprocess.Popen[str]:
    """A run that hangs."""
    onnx.save(loop(2**62), tmp_path / "model.onnx")
    command = [sys.executable, "-m", "graphopt", "run", "model.onnx", "--time-limit", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=ENV, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 60
    while not children(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def children(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return False


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_outlives_a_signal(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    process = started(tmp_path)
    (child,) = children(process.pid)
    time.sleep(3)
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode == code
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def descendants(process: int) -> list[int]:
    found = children(process)
    return found + [one for child in found for one in descendants(child)]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_no_part_of_a_check_outlives_it(sent: signal.Signals, tmp_path: Path) -> None:
    for index in range(6):
        onnx.save(loop(2**62), tmp_path / f"{index}.onnx")
    command = [sys.executable, "-m", "graphopt", "check", "*.onnx", "--no-config", "--jobs", "2", "--time-limit", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=ENV)
    deadline = time.monotonic() + 60
    while len(descendants(process.pid)) < 7 and time.monotonic() < deadline:  # a child, two parts with a child each, a worker each
        time.sleep(0.05)
    started = descendants(process.pid)
    assert len(started) >= 5
    process.send_signal(sent)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, started))
