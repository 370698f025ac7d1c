"""The manager: every promise that a pass makes is held against it, and nothing of the input is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import DataError, ModelError, UsageError, VerificationError
from graphopt.model import Model
from graphopt.pipeline import Context, Kind, Outcome, Pass, Refusal, Rewrite, option
from graphopt.pipeline.manager import GENERATED
from graphopt.pipeline.pipeline import Pipeline
from tests.nets import Net


@dataclass(frozen=True, kw_only=True)
class Edit(Pass):
    """Do one thing to the model, as told; what the other passes of this file derive from."""

    name: ClassVar[str] = "edit"
    kind: ClassVar[Kind] = Kind.EXACT

    def run(self, model: Model, ctx: Context) -> Outcome:
        self.edit(model, ctx)
        return Outcome(changed=True, rewrites=[Rewrite("here", "edited")])

    def edit(self, model: Model, ctx: Context) -> None:
        """Edit the model."""


@dataclass(frozen=True, kw_only=True)
class Scale(Edit):
    """Multiply the first convolution's weights: exact for 1.0, wrong for anything else."""

    name: ClassVar[str] = "scale"
    by: float = option(1.0, "the factor")

    def edit(self, model: Model, ctx: Context) -> None:
        conv = next(node for node in model.graph.nodes if node.op == "Conv")
        weights = model.value(conv.inputs[1])
        assert weights is not None
        model.set_input(conv, 1, model.constant("scaled", (weights * self.by).astype(weights.dtype)))


@dataclass(frozen=True, kw_only=True)
class LossyScale(Scale):
    """The same without a promise, or with the result itself as the reference."""

    name: ClassVar[str] = "lossy"
    kind: ClassVar[Kind] = Kind.LOSSY
    reference: str = option("", "own: the right one, original: a wrong one")
    look: bool = option(False, "look at the data")

    def run(self, model: Model, ctx: Context) -> Outcome:
        if self.look:
            assert len(ctx.feeds) > 0
        outcome = super().run(model, ctx)
        if self.reference:
            outcome.reference = model.copy() if self.reference == "own" else ctx.original
        return outcome


@dataclass(frozen=True, kw_only=True)
class Rename(Edit):
    """Give the output another name: another interface."""

    name: ClassVar[str] = "rename"

    def edit(self, model: Model, ctx: Context) -> None:
        model.graph.outputs[0].name = "other"
        model.edited()


@dataclass(frozen=True, kw_only=True)
class Break(Edit):
    """Let a node read what nothing produces."""

    name: ClassVar[str] = "break"

    def edit(self, model: Model, ctx: Context) -> None:
        model.set_input(model.graph.nodes[-1], 0, model.variable("nowhere", np.float32, (1, 4, 8, 8)))


@dataclass(frozen=True, kw_only=True)
class Refuse(Edit):
    """Edit, and then claim to have done nothing."""

    name: ClassVar[str] = "refuse"

    def run(self, model: Model, ctx: Context) -> Outcome:
        Scale(by=3.0).edit(model, ctx)
        return Outcome(refusals=[Refusal("here", "not-today", "it is late")], notes=["remember this"])


def net(op: str = "Relu") -> onnx.ModelProto:
    made = Net()
    x = made.input("N", 3, 8, 8)
    return made.model(made.op(op, made.conv(x, 4, pad=1)))


def images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)


def run(model: object, passes: object, **options: object) -> graphopt.Result:
    return graphopt.run(model, passes, timing=False, **options)


def test_no_passes_is_a_round_trip() -> None:
    proto = net()
    result = run(proto, [])
    assert result.model.proto().SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)
    assert result.report.passes == []


def test_the_input_is_not_touched(tmp_path: Path) -> None:
    model = Model.load(net())
    before = model.proto().SerializeToString(deterministic=True)
    result = run(model, [LossyScale(by=2.0)])
    assert model.proto().SerializeToString(deterministic=True) == before
    assert result.model.proto().SerializeToString(deterministic=True) != before


def test_an_exact_pass_is_held_against_its_input() -> None:
    record = run(net(), [Scale(by=1.0)]).report.passes[0]
    assert (record.verification.status, record.verification.against) == ("held", "the pass's input")
    assert record.verification.tolerance == 1e-4
    assert record.verification.samples == 8
    assert record.drift is not None
    assert record.drift.worst_rel == 0


WRONG = [
    (Scale(by=1.01), "GO503", "was promised"),
    (LossyScale(by=1.01, reference="original"), "GO503", "was promised"),
    (Rename(), "GO502", "GO026"),
    (Break(), "GO501", "GO023"),
]


@pytest.mark.parametrize(("one", "code", "words"), WRONG, ids=[str(one) for one, _, _ in WRONG])
def test_a_broken_promise_stops_the_run(one: Pass, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(VerificationError) as caught:
        run(net(), [one])
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == code
    assert words in diagnostic.why
    (folder,) = tmp_path.glob("graphopt-verify-*")
    assert str(folder) in diagnostic.hint
    assert {"reference.onnx", "candidate.onnx"} <= {path.name for path in folder.iterdir()}


def test_a_lossy_pass_may_be_held_against_its_reference() -> None:
    record = run(net(), [LossyScale(by=2.0, reference="own")]).report.passes[0]
    assert (record.verification.status, record.verification.against) == ("held", "the pass's reference model")
    assert record.drift is not None
    assert record.drift.worst_rel > 0.1


def test_a_lossy_pass_without_a_reference_is_measured() -> None:
    record = run(net(), [LossyScale(by=2.0)]).report.passes[0]
    assert record.verification.status == "measured"
    assert record.drift is not None
    assert record.drift.worst_rel > 0.1


def test_the_drift_is_from_the_original() -> None:
    report = run(net(), [LossyScale(by=2.0), Scale(by=1.0)]).report
    assert report.passes[1].verification.worst == 0
    assert report.passes[0].drift == report.passes[1].drift


def test_a_pass_that_changes_nothing_leaves_the_model_as_it_was() -> None:
    proto = net()
    result = run(proto, [Refuse()])
    assert result.model.proto().SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)
    record = result.report.passes[0]
    assert record.verification.status == "unchanged"
    assert [refusal.code for refusal in record.refusals] == ["not-today"]
    assert result.report.all_notes == ["refuse: remember this"]


NOTED = [
    (LossyScale(look=True), None, True),
    (LossyScale(look=True), images(), False),
    (LossyScale(look=False), None, False),
    (Scale(), None, False),
]


@pytest.mark.parametrize(("one", "data", "noted"), NOTED, ids=["made-up", "given", "not-looked-at", "exact"])
def test_choices_by_made_up_data_are_said_loudly(one: Pass, data: object, noted: bool) -> None:
    report = run(net(), [one], data=data).report
    assert any(GENERATED in note for note in report.all_notes) is noted
    assert report.calibrated is (data is not None)


def test_figures() -> None:
    report = run(net(), [LossyScale(by=2.0)], data=images(2)).report
    assert report.figures.nodes == 2
    assert report.figures.macs == 8 * 8 * 4 * 3 * 9
    assert report.figures.params == 4 * 3 * 9 + 4
    assert abs(report.figures.bytes - net().ByteSize()) < 100
    assert report.result == report.passes[-1].figures


def test_latency_is_measured_against_the_original() -> None:
    timing = graphopt.run(net(), [Scale()]).report.passes[0].timing
    assert timing is not None
    assert 0.2 < timing.ratio < 5


def unrunnable() -> onnx.ModelProto:
    proto = net()
    proto.graph.node[-1].op_type, proto.graph.node[-1].domain = "Mystery", "unheard.of"
    proto.opset_import.append(onnx.helper.make_opsetid("unheard.of", 1))
    return proto


def test_a_model_that_does_not_run_is_an_error() -> None:
    with pytest.raises(ModelError) as caught:
        run(unrunnable(), [Scale()])
    assert caught.value.diagnostic.code == "GO030"
    assert "--unverified" in caught.value.diagnostic.hint


def test_a_model_that_does_not_run_goes_through_when_asked() -> None:
    report = run(unrunnable(), [Scale()], verify=False).report
    assert any("NOT VERIFIED" in note for note in report.all_notes)
    assert report.passes[0].verification.status == "unverified"
    assert report.passes[0].drift is None


def test_a_model_that_draws_at_random_is_an_error() -> None:
    made = Net()
    x = made.input(1, 3, 8, 8)
    noise = made.op("RandomNormalLike", x)
    with pytest.raises(ModelError) as caught:
        run(made.model(made.op("Relu", made.op("Add", x, noise))), [Edit()])
    assert caught.value.diagnostic.code == "GO032"


def test_a_fault_that_the_input_has_already_is_not_held_against_a_pass() -> None:
    proto = net()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    report = run(proto, [Scale()]).report
    assert any("not quite valid" in note for note in report.notes)
    assert report.passes[0].verification.status == "held"


def test_labels(tmp_path: Path) -> None:
    made = Net()
    x = made.input("N", 6)
    proto = made.model(made.op("Relu", x))
    rows = np.eye(6, dtype=np.float32)
    np.savez(tmp_path / "test.npz", x=rows, labels=np.array([0, 1, 2, 3, 4, 0]))
    report = run(proto, [Edit()], labels=tmp_path / "test.npz").report
    assert report.accuracy is not None
    assert (report.accuracy.right, report.accuracy.count) == (5, 6)
    assert report.passes[0].accuracy == report.accuracy


BAD_LABELS = [
    ({"x": np.zeros((2, 6), np.float32)}, "GO821"),
    ({"x": np.zeros((2, 6), np.float32), "labels": np.zeros(2)}, "GO821"),
    ({"x": np.zeros((2, 6), np.float32), "labels": np.zeros(3, int)}, "GO822"),
    ({"y": np.zeros((2, 6), np.float32), "labels": np.zeros(2, int)}, "GO804"),
]


@pytest.mark.parametrize(("arrays", "code"), BAD_LABELS)
def test_labels_that_do_not_fit(arrays: dict[str, np.ndarray], code: str, tmp_path: Path) -> None:
    made = Net()
    proto = made.model(made.op("Relu", made.input("N", 6)))
    np.savez(tmp_path / "test.npz", **arrays)
    with pytest.raises(DataError) as caught:
        run(proto, [], labels=tmp_path / "test.npz")
    assert caught.value.diagnostic.code == code


SAYS = [
    ("", ()),
    ("simplify", ("simplify",)),
    (["simplify", "fold"], ("simplify", "fold")),
    ([Scale(by=1.0), "simplify"], ("scale", "simplify")),
    (Scale(by=2.0), ("scale",)),
    (Pipeline((Scale(),)), ("scale",)),
]


@pytest.mark.parametrize(("passes", "names"), SAYS)
def test_whatever_says_a_pipeline(passes: object, names: tuple[str, ...]) -> None:
    assert tuple(one.name for one in Pipeline.of(passes).passes) == names


def test_an_unknown_pass_names_the_near_ones() -> None:
    with pytest.raises(UsageError, match="`fold`"):
        Pipeline.parse("flod")


def test_a_context_keeps_analyses_by_model() -> None:
    model = Model.load(net())
    ctx = Context(model)
    assert ctx.analyses(model) is ctx.analyses(model)
    assert ctx.analyses(model) is not ctx.analyses(model.copy())
    assert ctx.input_shapes() == (("x", (1, 3, 8, 8)),)
    assert not ctx.data_used
    assert not ctx.calibrated


def test_labels_need_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", x=images(2), labels=np.zeros(2, int))
    with pytest.raises(DataError, match="GO823"):
        run(net(), [], labels=tmp_path / "test.npz")


@dataclass(frozen=True, kw_only=True)
class Grow(Edit):
    """Add a convolution that does nothing but cost."""

    name: ClassVar[str] = "grow"

    def edit(self, model: Model, ctx: Context) -> None:
        conv = next(node for node in model.graph.nodes if node.op == "Conv")
        x, inner = conv.inputs[0], model.variable("grown", np.float32, ("N", 3, 8, 8))
        weights = model.constant("identity", np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1))
        model.add("Conv", [x, weights], [inner], before=conv)
        model.set_input(conv, 0, inner)


def test_a_result_that_is_worse_is_said_loudly() -> None:
    notes = run(net(), [Grow()]).report.notes
    assert [note.split(":")[0] for note in notes] == ["LARGER", "COSTLIER"]
