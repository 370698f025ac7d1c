"""What a stranger's networks, data and files must get: one case for each way in which a choice once went wrong without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_value_info

import graphopt
from graphopt.cli.main import run as command
from graphopt.cli.prune import _masks
from graphopt.errors import BudgetError, DataError
from graphopt.model import Model
from graphopt.passes.prune import allocate
from graphopt.passes.prune.costs import Floats, Products, macs_of
from graphopt.passes.prune.masks import read_masks
from graphopt.passes.prune.sensitivity import Distance, measured_outputs
from graphopt.target.latency import ShapeKey, Staircase
from tests.nets import Net, outputs_of
from tests.passes.prune.oracle import chain, channels_of

Feed = dict[str, Any]


def noise(count: int, *shape: int, seed: int = 0) -> list[Feed]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, *shape)).astype(np.float32)} for _ in range(count)]


def pruned(proto: onnx.ModelProto, spec: str, data: list[Feed]) -> tuple[Model, graphopt.PassRecord]:
    result = graphopt.run(proto, f"prune:{spec}", data=data, timing=False)
    return result.model, result.report.passes[-1]


# -- networks ------------------------------------------------------------------------------------------------------------------


def recurrent(op: str, gates: int) -> onnx.ModelProto:
    net = Net(1)
    x = net.op("Relu", net.op("MatMul", net.input(8, 1, 24), net.const(net.random(24, 32))))
    weights = [net.const(0.2 * net.random(1, gates * 16, n)) for n in (32, 16)]
    x = net.op("Squeeze", net.op(op, x, *weights, hidden_size=16), net.const(np.array([1], np.int64)))
    return net.model(net.op("MatMul", x, net.const(net.random(16, 4))))


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("metric", ["params", "size"])
def test_what_is_counted_of_a_recurrent_layer_is_both_of_its_weights(op: str, gates: int, metric: str) -> None:
    proto = recurrent(op, gates)
    data = [{"x": f["x"][0][:, None]} for f in noise(8, 8, 24)]
    _, record = pruned(proto, f"{metric}=0.6:multiple=1", data)
    budget: Any = record.facts["budget"]
    assert 0.95 * budget["target"] <= budget["reached"] <= budget["target"]


def convolutions() -> tuple[Net, str]:
    net = Net(3)
    x = net.op("Relu", net.conv(net.input("n", 3, 8, 8), 16, 3, pad=1))
    return net, net.conv(net.op("Relu", net.conv(x, 16, 3, pad=1)), 4, 1)


def behind(net: Net, last: str, nodes: Sequence[tuple[str, dict[str, Any]]], dtype: int) -> onnx.ModelProto:
    """The network with operators behind its last tensor, the output of another type."""
    proto = net.model(last)
    for k, (op, attributes) in enumerate(nodes):
        constants = attributes.pop("constants", [])
        for j, value in enumerate(constants):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(value, f"c{k}{j}"))
        proto.graph.node.append(make_node(op, [last, *(f"c{k}{j}" for j in range(len(constants)))], [f"end{k}"], **attributes))
        last = f"end{k}"
    proto.graph.output[0].CopyFrom(make_tensor_value_info(last, dtype, None))
    return proto


WITHOUT_NUMBERS: dict[str, tuple[list[tuple[str, dict[str, Any]]], int]] = {
    "quantized": ([("QuantizeLinear", {"constants": [np.float32(0.05), np.uint8(128)]})], TensorProto.UINT8),
    "classes of pixels": (
        [("ArgMax", {"axis": 1, "keepdims": 1}), ("Transpose", {"perm": [0, 2, 3, 1]})],
        TensorProto.INT64,
    ),
    "a mask": ([("Greater", {"constants": [np.float32(0)]})], TensorProto.BOOL),
}


@pytest.mark.parametrize("name", WITHOUT_NUMBERS)
def test_an_output_that_is_no_number_is_measured_by_what_it_is_made_of(name: str) -> None:
    net, last = convolutions()
    proto = behind(net, last, *WITHOUT_NUMBERS[name])
    assert measured_outputs(Model.load(proto)) == [last]
    _, record = pruned(proto, "macs=0.6:multiple=2", noise(16, 3, 8, 8))
    groups: Any = record.facts["groups"]
    assert all(error > 0 for group in groups for _, error in group["errors"])


def test_a_scale_is_the_variance_of_all_runs_together() -> None:
    rng = np.random.default_rng(0)
    runs = [{"y": 1e6 + 1e-3 * rng.standard_normal(50)} for _ in range(3)]
    off = [{"y": run["y"] + 1e-3} for run in runs]
    assert Distance(["y"], runs).error(off) == pytest.approx(1e-6 / np.var([run["y"] for run in runs]), rel=1e-3)


def test_what_is_no_number_is_the_worst() -> None:
    distance = Distance(["y"], [{"y": np.ones(4)}])
    assert distance.error([{"y": np.full(4, np.nan)}]) > distance.error([{"y": np.full(4, 1.1)}])


def test_numbers_that_are_no_numbers_are_left_out_of_an_error() -> None:
    good, bad = np.array([1.0, 2.0, 4.0]), np.array([np.inf, 2.0, 4.0])
    distance = Distance(["y"], [{"y": bad}])
    assert distance.error([{"y": good}]) == 0
    assert distance.error([{"y": good + 1}]) == pytest.approx(1.0)
    with pytest.raises(DataError, match="GO817"):
        Distance(["y"], [{"y": np.full(3, np.nan)}])


def gemm(bias: np.ndarray) -> onnx.ModelProto:
    net = Net(8)
    x = net.op("Relu", net.op("Gemm", net.input(16, 10), net.const(net.random(10, 24)), net.const(net.random(24))))
    return net.model(net.op("Gemm", x, net.const(net.random(24, 16)), net.const(bias)))


@pytest.mark.parametrize("shape", [(16,), (1, 16), (16, 1), (16, 16), (1, 1), ()])
def test_compensation_helps_whatever_is_added_to_a_product(shape: tuple[int, ...]) -> None:
    proto = gemm((3 * np.random.default_rng(1).standard_normal(shape)).astype(np.float32))
    rng = np.random.default_rng(2)
    data, fresh = ([{"x": rng.standard_normal((16, 10)).astype(np.float32)} for _ in range(n)] for n in (24, 8))
    errors = []
    for options in ("", ":compensate=false"):
        model, _ = pruned(proto, f"macs=0.7:multiple=4{options}", data)
        made = [outputs_of(model.proto(), f)[0] - outputs_of(proto, f)[0] for f in fresh]
        errors.append(float(np.square(made).mean()))
    assert errors[0] < errors[1]


@pytest.mark.parametrize("metric", ["macs", "params", "size"])
def test_operators_that_share_a_weight_go_on_sharing_it(metric: str) -> None:
    net = Net(9)
    x, z, first, shared = (
        net.input("n", 10),
        net.input("n", 10, name="z"),
        net.const(net.random(10, 64)),
        net.const(net.random(64, 48)),
    )
    one, two = (net.op("MatMul", net.op("Relu", net.op("MatMul", t, first)), shared) for t in (x, z))
    proto = net.model(net.op("Add", one, net.const(net.random(48))), two)
    data = [{**f, "z": -f["x"]} for f in noise(24, 10)]
    model, record = pruned(proto, f"{metric}=0.6:multiple=2", data)
    budget: Any = record.facts["budget"]
    assert budget["reached"] <= budget["target"]
    kernels = [n.inputs[1].name for n in model.graph.nodes if n.op == "MatMul"]
    assert len(set(kernels)) == 2


def test_sharers_of_a_weight_without_data_get_only_constants() -> None:
    """One of two can have no bias: then neither gets what stands in for removed channels."""
    net = Net(9)
    x = net.op("Relu", net.bn(net.conv(net.input(1, 3, 8, 8), 12, 3)))
    z = net.op("Relu", net.bn(net.conv(net.input(1, 3, 8, 8, name="z"), 12, 3)))
    kernel = net.const(net.random(8, 12, 1, 1))
    one, two = net.op("Conv", x, kernel, net.const(net.random(8))), net.op("Conv", z, kernel, net.input(8, name="b"))
    proto = net.model(net.op("Add", one, two))
    result = graphopt.run(proto, "prune:ratio=0.5:multiple=4", timing=False)
    kernels = [n.inputs[1].name for n in result.model.graph.nodes if n.op == "Conv" and n.inputs[1].shape[2:] == (1, 1)]
    assert len(set(kernels)) == 1


# -- data ----------------------------------------------------------------------------------------------------------------------


def tokens() -> onnx.ModelProto:
    net = Net(5)
    net.inputs.append(make_tensor_value_info("ids", TensorProto.INT64, ["n", 6]))
    x = net.op("Gather", net.const(net.random(50, 16)), "ids")
    x = net.op("Relu", net.op("Add", net.op("MatMul", x, net.const(net.random(16, 32))), net.const(net.random(32))))
    return net.model(net.op("MatMul", x, net.const(net.random(32, 4))))


SAYS_NOTHING: dict[str, tuple[Callable[[int], np.ndarray], int, str]] = {
    "one sample": (lambda _: np.arange(6)[None], 1, "one-sample"),
    "equal samples": (lambda _: np.arange(6)[None], 12, "equal-samples"),
    "a constant": (lambda _: np.full((1, 6), 7), 12, "constant-data"),
}


@pytest.mark.parametrize("name", SAYS_NOTHING)
def test_integers_may_say_nothing_as_well(name: str) -> None:
    make, count, code = SAYS_NOTHING[name]
    _, record = pruned(tokens(), "macs=0.6:multiple=4", [{"ids": make(k)} for k in range(count)])
    assert code in {r.code for r in record.refusals}
    assert record.facts["compensated"] is False


def test_one_constant_input_of_two_does_not_spoil_the_other() -> None:
    net = Net(7)
    x, z = net.input("n", 3, 8, 8), net.input("n", 2, 8, 8, name="z")
    x = net.op("Relu", net.op("Add", net.conv(x, 16, 3, pad=1), net.conv(z, 16, 1)))
    data = [{**f, "z": np.ones((1, 2, 8, 8), np.float32)} for f in noise(12, 3, 8, 8)]
    _, record = pruned(net.model(net.conv(x, 5, 1)), "macs=0.6:multiple=4", data)
    (why,) = [r.why for r in record.refusals if r.code == "constant-data"]
    assert "nothing is fitted" not in why
    assert record.facts["compensated"] is True


@pytest.mark.parametrize("name", ["one sample", "zeros", "a weight that is no number"])
def test_a_sensitivity_that_means_nothing_says_so(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, last = convolutions()
    proto = net.model(last)
    if name == "a weight that is no number":
        value = np.array(onnx.numpy_helper.to_array(proto.graph.initializer[0]))
        value.reshape(-1)[0] = np.nan
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(value, proto.graph.initializer[0].name))
    onnx.save(proto, tmp_path / "model.onnx")
    data = np.zeros((9, 3, 8, 8), np.float32) if name == "zeros" else noise(1, 3, 8, 8)[0]["x"]
    np.savez(tmp_path / "data.npz", x=data)
    words = ["sensitivity", tmp_path / "model.onnx", "-d", tmp_path / "data.npz", "--multiple", "8", "--format", "json"]
    assert command([str(w) for w in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["notes"]
    assert bool(found["series"]) == (name != "a weight that is no number")


# -- files ---------------------------------------------------------------------------------------------------------------------


def test_masks_of_a_network_without_an_axis_of_channels_come_back(tmp_path: Path) -> None:
    proto, rng = tokens(), np.random.default_rng(0)
    data = [{"ids": rng.integers(0, 50, (1, 6))} for _ in range(16)]
    model, record = pruned(proto, "macs=0.6:multiple=4", data)
    masks: Any = record.facts["masks"]
    path = tmp_path / "masks.npz"
    np.savez(path, **{name: np.array([c == "1" for c in text]) for name, text in masks.items()})
    again, _ = pruned(proto, f"masks={path}", data)
    sizes = [sorted(t.shape for t in m.constants().values()) for m in (model, again)]
    assert sizes[0] == sizes[1]


def test_masks_that_remove_nothing_say_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz")
    _, record = pruned(tokens(), f"masks={tmp_path / 'masks.npz'}", [{"ids": np.arange(6)[None]}])
    assert any("nothing was removed" in note for note in record.notes)


def test_masks_that_no_tensor_of_the_file_has_are_not_written(tmp_path: Path) -> None:
    report = graphopt.run(tokens(), "prune:ratio=0.5:multiple=4:importance=norm", timing=False).report
    facts: Any = report.passes[-1].facts
    facts["masks"] = {}
    with pytest.raises(DataError, match="GO843"):
        _masks(report, tmp_path / "masks.npz")


def damaged(path: Path, kind: str) -> None:
    np.savez_compressed(path, t0=np.ones(4000, bool))
    content = bytearray(path.read_bytes())
    if kind == "a damaged stream":
        content[60:70] = bytes(10)
        path.write_bytes(content)
    elif kind == "another way to compress":
        place = content.rindex(b"PK\x01\x02")
        content[place + 10] = 97
        content[8] = 97
        path.write_bytes(content)
    elif kind == "encrypted":
        place = content.rindex(b"PK\x01\x02")
        content[place + 8] |= 1
        content[6] |= 1
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            header = b"{'descr': '|b1', 'fortran_order': False, 'shape': (99999999999999999999999,), }"
            header += b" " * (117 - len(header)) + b"\n"
            archive.writestr("t0.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@pytest.mark.parametrize("kind", ["a damaged stream", "another way to compress", "encrypted", "a size beyond all"])
def test_damaged_masks_are_an_error(kind: str, tmp_path: Path) -> None:
    damaged(tmp_path / "masks.npz", kind)
    with pytest.raises(DataError, match="GO840") as error:
        read_masks(tmp_path / "masks.npz")
    assert "pickle" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_masks_with_one_name_twice_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz", t0=np.ones(4))
    with zipfile.ZipFile(tmp_path / "masks.npz", "a") as archive:
        archive.writestr("t0.npy", archive.read("t0.npy"))
    with pytest.raises(DataError, match="more than once"):
        read_masks(tmp_path / "masks.npz")


# -- the choice ----------------------------------------------------------------------------------------------------------------


def test_widths_of_one_step_have_one_time() -> None:
    stair = Staircase(ShapeKey("Conv", (3, 3), (1, 1), (1, 1), size=(8, 8)), (16,), (24, 48), ((10.0, 20.0),))
    assert [stair.time(16, width, 16, 1) for width in (17, 24, 32, 48)] == [10.0, 10.0, 10.0, 20.0]


def test_widths_below_a_step_have_times_of_their_own() -> None:
    stair = Staircase(
        ShapeKey("Conv", (3, 3), (1, 1), (1, 1), size=(8, 8)), (3, 16, 32), (16, 32), ((1.0, 2.0), (4.0, 8.0), (8.0, 16.0))
    )
    assert [stair.time(width, 16, 16, 1) for width in (3, 10, 16, 17, 32)] == [1.0, 4.0, 4.0, 8.0, 8.0]


def test_nothing_to_remove_is_what_is_said() -> None:
    net = Net(2)
    with pytest.raises(BudgetError, match="no channel can go"):
        pruned(net.model(net.conv(net.input(1, 3, 8, 8), 5, 3)), "macs=0.5", noise(4, 3, 8, 8))


def test_what_native_code_prints_does_not_get_into_a_report() -> None:
    """Neither at once nor when the C library writes out what it has buffered, as it does into a pipe."""
    script = """
import ctypes, os
from graphopt.passes.prune import allocate
with allocate._unprinted():
    os.write(1, b"from below\\n")
    ctypes.CDLL(None).printf(b"from below\\n")
print("a report")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_unbuffered())
    assert done.stdout == "a report\n"


def _unbuffered() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}


class Counted(Products):
    """A cost that counts what is asked of it."""

    asked = 0

    def changes(self, removed: Sequence[int], group: int, units: Sequence[int]) -> Floats:
        self.asked += len(units)
        return super().changes(removed, group, units)


@pytest.mark.parametrize("seed", range(20))
def test_a_choice_that_is_exchanged_keeps_its_budget_and_loses_nothing(seed: int) -> None:
    """Savings that are kept from step to step are those that would be counted anew."""
    rng = np.random.default_rng(seed)
    graph = chain(rng.integers(8, 40, 5).tolist())
    cost, ladders = macs_of(graph, list(graph.prunable)), [allocate.steps(g, 4) for g in graph.prunable]
    errors = [allocate.Curve([(4, a), (12, 4 * a)]) for a in rng.uniform(0.1, 1, len(ladders)).tolist()]
    target = float(rng.uniform(0.4, 0.9)) * cost.total
    start = [ladder[-1] for ladder in ladders]
    found = allocate._settled(cost, ladders, errors, start, target)
    if cost.count(start) > target:
        assert found == start
        return
    assert cost.count(found) <= target
    better = [found]
    for g, ladder in enumerate(ladders):
        at = ladder.index(found[g])
        better += [[*found[:g], ladder[at - 1], *found[g + 1 :]]] if at else []
        for h in (k for k in range(len(ladders)) if k != g and at):
            other = ladders[h].index(found[h])
            if other + 1 < len(ladders[h]):
                both = [*found]
                both[g], both[h] = ladder[at - 1], ladders[h][other + 1]
                better.append(both)
    assert all(allocate.total(errors, x) >= allocate.total(errors, found) - 1e-9 for x in better if cost.count(x) <= target)


def work(groups: int, width: int) -> int:
    """Savings that are counted to allocate a budget over so many groups of so many channels."""
    graph = chain([width] * groups)
    plain = macs_of(graph, list(graph.prunable))
    cost = Counted(plain.total, plain._terms, len(graph.prunable))
    rng = np.random.default_rng(0)
    ladders = [allocate.steps(g, 1) for g in graph.prunable]
    errors = [
        allocate.Curve([(width // 4, a), (width // 2, 4 * a), (3 * width // 4, 12 * a)])
        for a in rng.uniform(0.1, 1, groups).tolist()
    ]
    allocate.allocate(cost, ladders, errors, 0.6 * cost.total)
    return cost.asked


def test_work_grows_with_widths_as_a_square_at_most() -> None:
    """A step of the greedy choice looks at the rungs of the groups that the last step touched; steps grow with rungs."""
    assert work(6, 128) <= 5 * work(6, 64)


def test_work_does_not_grow_with_the_square_of_groups() -> None:
    assert work(16, 32) <= 3 * work(8, 32)


def test_the_networks_of_this_file_can_lose_channels() -> None:
    for proto in (tokens(), gemm(np.zeros(16, np.float32)), recurrent("GRU", 3)):
        assert channels_of(proto).prunable
