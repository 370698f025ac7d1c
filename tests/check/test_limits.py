"""Limits that are odd, and limits that cannot be held against anything: none of them passes for kept."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphopt.check import Checked, registry
from graphopt.check.config import LIMITS, Options, read
from graphopt.check.runner import Settings, check_file
from graphopt.check.session import Request, settings_for
from graphopt.check.subject import Asked
from graphopt.errors import UsageError
from graphopt.target import Target
from tests.check.cases import raw, value
from tests.check.number_cases import classes, image, two_convs
from tests.nets import Net


def checked(folder: Path, model: onnx.ModelProto, limits: dict[str, float], against: onnx.ModelProto | None = None) -> Checked:
    """Only the rules of the limits are asked."""
    onnx.save(model, folder / "model.onnx")
    if against is not None:
        onnx.save(against, folder / "reference.onnx")
    asked = Asked(
        Target.load("ort-x86-vnni"), against=None if against is None else folder / "reference.onnx", limits=limits, samples=2
    )
    return check_file(folder / "model.onnx", Settings(asked, [LIMITS[name] for name in limits]))


@pytest.mark.parametrize("name", LIMITS)
def test_the_rule_of_a_limit_asks_for_it(name: str) -> None:
    rule = registry.load(LIMITS[name])
    assert rule.check is not None
    assert rule.check.__globals__["LIMIT"] == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("most", [0.0, 0.5])
@pytest.mark.parametrize("name", ["max-params", "max-macs", "max-bytes", "max-activation", "max-nodes"])
def test_a_limit_of_nothing_is_exceeded_and_told(name: str, most: float, tmp_path: Path) -> None:
    (found,) = checked(tmp_path, two_convs(32), {name: most}).findings
    assert found.why.endswith(f"the limit of {most:g}")


def branches(nodes: int) -> onnx.ModelProto:
    """One If, each branch of which has this many nodes."""
    names = [f"t{i}" for i in range(nodes + 1)]
    inner = [helper.make_node("Relu", ["x" if i == 0 else a], [b]) for i, (a, b) in enumerate(pairwise(names))]
    body = helper.make_graph(inner, "body", [], [value(names[-1], 1)])
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)
    return raw([choice], [value("x", 1)], [value("y", 1)], [numpy_helper.from_array(np.array(True), "yes")])


@pytest.mark.parametrize(("most", "told"), [(7, False), (6, True)])
def test_nodes_in_bodies_count(most: int, told: bool, tmp_path: Path) -> None:
    assert bool(checked(tmp_path, branches(3), {"max-nodes": most}).findings) == told


def test_an_endless_number_is_a_limit_that_nothing_exceeds(tmp_path: Path) -> None:
    (tmp_path / "graphopt.toml").write_text(f"[check]\nlimits = {{ max-macs = 1{'0' * 400} }}\n")
    assert not checked(tmp_path, two_convs(32), dict(read(tmp_path / "graphopt.toml").options.limits)).findings


def net(build: Callable[[Net], str]) -> onnx.ModelProto:
    made = Net()
    return made.model(build(made))


def not_a_number() -> onnx.ModelProto:
    proto = net(classes)
    array = np.full_like(numpy_helper.to_array(proto.graph.initializer[0]), np.nan)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, proto.graph.initializer[0].name))
    return proto


def another_output() -> onnx.ModelProto:
    proto = net(classes)
    proto.graph.output[0].name = proto.graph.node[0].output[0] = "other"
    return proto


@pytest.mark.parametrize("name", ["min-sqnr-db", "min-top1", "min-cosine"])
@pytest.mark.parametrize("model", [not_a_number, another_output])
def test_what_cannot_be_compared_keeps_no_limit(model: Callable[[], onnx.ModelProto], name: str, tmp_path: Path) -> None:
    (found,) = checked(tmp_path, model(), {name: 0.5}, net(classes)).findings
    assert "cannot be compared" in found.why


@pytest.mark.parametrize(("name", "build"), [("min-top1", image), ("min-psnr-db", classes)])
def test_a_figure_that_no_output_has_is_not_kept(name: str, build: Callable[[Net], str], tmp_path: Path) -> None:
    (found,) = checked(tmp_path, net(build), {name: 0.5}, net(build)).findings
    assert found.code == LIMITS[name]
    assert f"{name} cannot be checked" in found.why


def unknown_operator() -> bytes:
    proto = net(classes)
    proto.graph.node.append(helper.make_node("MyOp", [proto.graph.output[0].name], ["z"], domain="org.example"))
    proto.graph.output[0].name = "z"
    proto.opset_import.append(helper.make_opsetid("org.example", 1))
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("raw", "limits", "code"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", {}, "GO002"),
        (b"version https://git-lfs.github.com/spec/v1\n", {"min-sqnr-db": 30.0}, "GO002"),
        (unknown_operator(), {"min-sqnr-db": 30.0}, "GO030"),
        (unknown_operator(), {"max-latency-ratio": 1.1}, "GO030"),
    ],
)
def test_a_reference_that_is_none_is_a_mistake(raw: bytes, limits: dict[str, float], code: str, tmp_path: Path) -> None:
    onnx.save(net(classes), tmp_path / "model.onnx")
    (tmp_path / "reference.onnx").write_bytes(raw)
    asked = Asked(Target.load("ort-x86-vnni"), against=tmp_path / "reference.onnx", limits=limits, seconds=0.1)
    with pytest.raises(UsageError, match="the reference") as caught:
        check_file(tmp_path / "model.onnx", Settings(asked, registry.chosen([], [])))
    assert caught.value.diagnostic.code == code


def test_the_interface_is_compared_with_a_reference_that_does_not_run(tmp_path: Path) -> None:
    onnx.save(net(classes), tmp_path / "model.onnx")
    (tmp_path / "reference.onnx").write_bytes(unknown_operator())
    asked = Asked(Target.load("ort-x86-vnni"), against=tmp_path / "reference.onnx")
    result = check_file(tmp_path / "model.onnx", Settings(asked, ["GO026", "GO514"]))
    assert [f.code for f in result.findings] == ["GO026"]
    assert "the reference" in result.skipped["GO514"]


def test_a_limit_whose_rule_is_not_asked_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="GO411 is not asked"):
        settings_for(tmp_path / "model.onnx", Request([], Options(select=("GO1",), limits={"max-macs": 1.0})))


def test_a_check_by_no_rule_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rule is left"):
        settings_for(tmp_path / "model.onnx", Request([], Options(select=("GO302",), ignore=("GO302",))))


def test_what_a_branch_reads_is_needed_no_longer_than_that(tmp_path: Path) -> None:
    """Of the graph's x, a, b, d and y three are there at once: the branch is the last that reads a."""
    bodies = [
        helper.make_graph([helper.make_node(op, ["a"], [f"z{op}"])], "b", [], [value(f"z{op}", 1000)]) for op in ("Neg", "Exp")
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("If", ["c"], ["b"], then_branch=bodies[0], else_branch=bodies[1]),
        helper.make_node("Relu", ["b"], ["d"]),
        helper.make_node("Neg", ["d"], ["y"]),
    ]
    proto = raw(nodes, [value("x", 1000), value("c", kind=onnx.TensorProto.BOOL)], [value("y", 1000)])
    (found,) = checked(tmp_path, proto, {"max-activation": 1.0}).findings
    assert found.facts["count"] == 3 * 4000 + 1
