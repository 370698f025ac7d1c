"""The pass: goals met, options refused, masks and dead channels, the same result every time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.analysis import Analyses, Cost
from graphopt.errors import BudgetError, DataError, UsageError
from graphopt.model import Model
from graphopt.passes.prune import Prune
from graphopt.pipeline import Context, Outcome
from graphopt.runtime import feeds_from
from tests.nets import Net, outputs_of
from tests.passes.prune.oracle import TOLERANCE, distance


def classifier(seed: int = 0, width: int = 24) -> onnx.ModelProto:
    """Three stages with a residual block each, a depthwise convolution, pooling and a Gemm."""
    net = Net(seed)
    x = net.op("Relu", net.bn(net.conv(net.input("n", 3, 16, 16, name="image"), 16, 3, pad=1)))
    for _ in range(2):
        x = net.op("Relu", net.conv(x, width, 3, pad=1, strides=[2, 2]))
        inner = net.op("Relu", net.conv(x, 2 * width, 1))
        inner = net.op("Relu", net.conv(inner, 2 * width, 3, pad=1, group=2 * width))
        x = net.op("Add", x, net.conv(inner, width, 1))
    flat = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.model(net.op("Gemm", flat, net.const(net.random(10, width)), net.const(net.random(10)), transB=1, out="logits"))


def images(count: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth random images: neighbouring pixels and channels are alike, as in pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 3, 4, 4))
    return (coarse.repeat(4, 2).repeat(4, 3) + 0.2 * rng.standard_normal((count, 3, 16, 16))).astype(np.float32)


def run(proto: onnx.ModelProto, data: np.ndarray | None = None, **options: object) -> tuple[Model, Outcome]:
    model = Model.load(proto)
    feeds = None if data is None else feeds_from(data, model)
    outcome = Prune(**options).run(model, Context(model.copy(), feeds=feeds))  # type: ignore[arg-type]
    return model, outcome


def macs(model: Model) -> int:
    return Analyses(model).get(Cost((("image", (1, 3, 16, 16)),))).macs


def check_exact(model: Model, outcome: Outcome) -> None:
    assert outcome.reference is not None
    assert distance(outcome.reference, model) <= TOLERANCE


@pytest.mark.parametrize("share", [0.9, 0.75, 0.5, 0.3])
@pytest.mark.parametrize("multiple", [1, 4])
def test_budget_is_met_closely_and_never_overshot(share: float, multiple: int) -> None:
    proto = classifier()
    model, outcome = run(proto, images(), macs=share, multiple=multiple)
    reached = macs(model) / macs(Model.load(proto))
    assert reached <= share
    assert reached > 0.99 * share or outcome.notes
    check_exact(model, outcome)


@pytest.mark.parametrize("multiple", [2, 8, 16])
def test_widths_are_multiples(multiple: int) -> None:
    model, outcome = run(classifier(width=32), images(), macs=0.6, multiple=multiple)
    check_exact(model, outcome)
    widths = [model.value(n.inputs[1]).shape[0] for n in model.graph.nodes if n.op == "Conv"]  # type: ignore[union-attr]
    assert all(w % multiple == 0 for w in widths)


def test_a_width_that_is_no_multiple_goes_down_to_one_or_stays() -> None:
    model, _ = run(classifier(width=27), images(), macs=0.5, multiple=8)
    widths = {model.value(n.inputs[1]).shape[0] for n in model.graph.nodes if n.op == "Conv"}  # type: ignore[union-attr]
    assert widths <= {8, 16, 24, 32, 40, 48, 27, 54}


def test_uniform_ratio() -> None:
    model, outcome = run(classifier(), images(), ratio=0.5, multiple=4)
    check_exact(model, outcome)
    for group in outcome.facts["groups"]:  # type: ignore[union-attr]
        if group["tensor"] != "logits" and group["channels"] > 3:  # type: ignore[index, call-overload, operator]
            assert group["removed"] == group["channels"] // 2  # type: ignore[index, call-overload, operator]


def test_compensation_helps() -> None:
    proto, data = classifier(), images(256)
    plain, _ = run(proto, data, macs=0.7, multiple=4, compensate=False)
    better, outcome = run(proto, data, macs=0.7, multiple=4)
    check_exact(better, outcome)
    fresh = {"image": images(64, seed=1)}
    expected = outputs_of(proto, fresh)[0]
    errors = [float(np.square(outputs_of(m.proto(), fresh)[0] - expected).mean()) for m in (plain, better)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("importance", ["activations", "norm"])
def test_the_same_bytes_every_time(importance: str) -> None:
    made = [run(classifier(), images(), macs=0.7, multiple=4, importance=importance)[0] for _ in range(2)]
    assert made[0].proto().SerializeToString(deterministic=True) == made[1].proto().SerializeToString(deterministic=True)


def test_equal_importances_keep_the_order() -> None:
    net = Net()
    a = net.op("Relu", net.op("Conv", net.input(1, 2, 4, 4), net.const(np.ones((8, 2, 1, 1), np.float32))))
    proto = net.model(net.op("Conv", a, net.const(np.ones((3, 8, 1, 1), np.float32)), out="y"))
    model, outcome = run(proto, ratio=0.5, multiple=1, importance="norm")
    assert outcome.changed
    check_exact(model, outcome)


def test_without_data_the_goal_is_met_and_the_reader_is_told() -> None:
    model, outcome = run(classifier(), macs=0.7, multiple=4)
    check_exact(model, outcome)
    assert any("without data" in n for n in outcome.notes)
    assert outcome.facts["compensated"] is False


def test_without_data_and_goal_nothing_is_removed() -> None:
    _model, outcome = run(classifier())
    assert not outcome.changed
    assert outcome.notes


def test_generated_activations_on_request() -> None:
    model, outcome = run(classifier(), macs=0.7, multiple=4, importance="activations")
    check_exact(model, outcome)
    assert outcome.facts["compensated"] is True
    assert outcome.notes


@pytest.mark.parametrize(
    "options",
    [
        {"macs": 0.0}, {"macs": 1.5}, {"ratio": 1.0}, {"ratio": -0.1}, {"multiple": 0}, {"ridge": 0.0}, {"macs": 0.5, "ratio": 0.5},
    ],
)  # fmt: skip
def test_wrong_options(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="GO940"):
        run(classifier(), **options)


def test_a_budget_out_of_reach() -> None:
    with pytest.raises(BudgetError, match="GO401"):
        run(classifier(), images(), macs=0.001, multiple=8)


def frozen_net() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Softmax", net.conv(net.input(1, 3, 6, 6), 8), axis=1, out="y"))


def test_nothing_to_prune_is_told() -> None:
    _model, outcome = run(frozen_net(), np.random.default_rng(0).standard_normal((4, 3, 6, 6)))
    assert not outcome.changed
    assert {r.code for r in outcome.refusals} == {"frozen-channels"}
    assert any("0.0%" in n for n in outcome.notes)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (np.zeros((8, 3, 16, 16)), "constant-data"), (np.ones((8, 3, 16, 16)), "constant-data"),
        (images(1).repeat(8, 0), "equal-samples"), (images(1), "one-sample"),
    ],
)  # fmt: skip
def test_degenerate_data_is_named_and_not_fitted(data: np.ndarray, code: str) -> None:
    model, outcome = run(classifier(), data.astype(np.float32), macs=0.7, multiple=4)
    check_exact(model, outcome)
    assert [(r.where, r.code) for r in outcome.refusals if r.code != "frozen-channels"] == [("'image'", code)]
    assert any("'image'" in note for note in outcome.notes)
    plain, _ = run(classifier(), macs=0.7, multiple=4, importance="norm")
    fresh = {"image": images(32, seed=5)}
    expected = outputs_of(classifier(), fresh)[0]
    errors = [float(np.square(outputs_of(m.proto(), fresh)[0] - expected).mean()) for m in (model, plain)]
    assert errors[0] <= 1.01 * errors[1]


# -- masks ---------------------------------------------------------------------------------------------------------------------


def two_convs(seed: int = 0) -> onnx.ModelProto:
    net = Net(seed)
    a = net.op("Relu", net.conv(net.input(1, 3, 6, 6), 8), out="a")
    b = net.op("Relu", net.conv(a, 8, pad=1), out="b")
    return net.model(net.conv(net.op("Add", a, b), 4, 1))


def save(folder: Path, **masks: np.ndarray) -> Path:
    path = folder / "masks.npz"
    np.savez(path, **masks)
    return path


def test_masks_from_a_file(tmp_path: Path) -> None:
    mask = np.array([1, 0, 1, 1, 0, 1, 1, 0], float)
    model, outcome = run(two_convs(), masks=save(tmp_path, a=mask))
    check_exact(model, outcome)
    first = next(n for n in model.graph.nodes if n.op == "Conv")
    original = Model.load(two_convs())
    kept = original.value(original.graph.nodes[0].inputs[1])[mask != 0]  # type: ignore[index]
    assert np.array_equal(model.value(first.inputs[1]), kept)  # type: ignore[arg-type]


def test_masks_that_conflict_are_refused_by_name(tmp_path: Path) -> None:
    first, second = np.ones(8, bool), np.ones(8, bool)
    first[2] = False
    _model, outcome = run(two_convs(), masks=save(tmp_path, a=first, b=second))
    assert not outcome.changed
    refusal = next(r for r in outcome.refusals if r.code == "mask-conflict")
    assert "'a'" in refusal.why
    assert "'b'" in refusal.why


def test_masks_of_frozen_channels(tmp_path: Path) -> None:
    _, outcome = run(frozen_net(), masks=save(tmp_path, t0=np.arange(8) > 3))
    assert any("its mask removes" in r.why for r in outcome.refusals)
    assert not outcome.changed


def test_masks_that_leave_nothing(tmp_path: Path) -> None:
    _, outcome = run(two_convs(), masks=save(tmp_path, a=np.zeros(8, bool)))
    assert "empty-group" in {r.code for r in outcome.refusals}


@pytest.mark.parametrize(("masks", "code"), [({"nowhere": np.ones(8)}, "GO841"), ({"a": np.ones(7)}, "GO842")])
def test_masks_that_do_not_fit(tmp_path: Path, masks: dict[str, np.ndarray], code: str) -> None:
    with pytest.raises(DataError, match=code):
        run(two_convs(), masks=save(tmp_path, **masks))


def single_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(8))


def not_an_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "1 0 1 1 1 1 1 1")


NO_MASKS: dict[str, Callable[[Path], object]] = {
    "no archive": lambda path: path.write_text("no archive"),
    "one array": single_array,
    "a member that is no array": not_an_array,
    "bytes without a type": lambda path: np.savez(path, a=np.zeros(8, "V4")),
    "texts": lambda path: np.savez(path, a=np.full(8, "1")),
    "complex numbers": lambda path: np.savez(path, a=np.ones(8, complex)),
    "objects": lambda path: np.savez(path, a=np.asarray([None] * 8)),
}


@pytest.mark.parametrize("what", NO_MASKS)
def test_masks_that_are_none(what: str, tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    NO_MASKS[what](path)
    with pytest.raises(DataError, match="GO840"):
        run(two_convs(), masks=path)


def test_masks_of_an_input_cannot_be_obeyed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is an input of the model"):
        run(two_convs(), masks=save(tmp_path, x=np.ones(3)))


# -- dead channels -------------------------------------------------------------------------------------------------------------


def killed(kind: str) -> onnx.ModelProto:
    """A network in which channels 1 and 4 of 6 are dead, in one of several ways."""
    net = Net(1)
    weight, bias = net.random(6, 3, 3, 3), net.random(6)
    if kind == "rows":
        weight[[1, 4]] = 0
        bias[[1, 4]] = 0
    a = net.op("Conv", net.input(1, 3, 6, 6), net.const(weight), net.const(bias))
    scale, shift = net.random(6, low=0.5, high=1.5), net.random(6)
    if kind == "batch norm":
        scale[[1, 4]] = 0
        shift[[1, 4]] = 0
        a = net.op("BatchNormalization", a, *(net.const(v) for v in (scale, shift, net.random(6), net.random(6, low=1, high=2))))
    if kind == "mask":
        a = net.op("Mul", a, net.const(np.array([1, 0, 1, 1, 0, 1.0]).reshape(1, 6, 1, 1)))
    a = net.op("Clip", net.op("Relu", a), net.const(np.float32(0)), net.const(np.float32(6)))
    net.widths[a] = 6
    a = net.op("Concat", net.op("MaxPool", a, kernel_shape=[2, 2]), net.op("MaxPool", a, kernel_shape=[2, 2]), axis=1)
    columns = net.random(5, 12, 1, 1)
    if kind == "columns":
        columns[:, [1, 4, 7, 10]] = 0
    return net.model(net.op("Conv", a, net.const(columns)))


@pytest.mark.parametrize("kind", ["rows", "batch norm", "mask", "columns"])
def test_dead_channels_go_without_loss(kind: str) -> None:
    proto = killed(kind)
    model, outcome = run(proto, ratio=0.0)
    assert outcome.changed
    assert outcome.rewrites[0].what == "6 -> 4 channels"
    assert distance(Model.load(proto), model) <= TOLERANCE


def constant_channel(reader: str) -> onnx.ModelProto:
    """Channel 1 of 6 is sigmoid(0) = 0.5 wherever it is read."""
    net = Net(1)
    weight = net.random(6, 3, 3, 3)
    weight[1] = 0
    a = net.op("Sigmoid", net.op("Conv", net.input(1, 3, 6, 6), net.const(weight)))
    net.widths[a] = 6
    if reader == "convolution":
        return net.model(net.op("Conv", a, net.const(net.random(4, 6, 3, 3))))
    if reader == "padded convolution":
        return net.model(net.op("Conv", a, net.const(net.random(4, 6, 3, 3)), pads=[1] * 4))
    a = net.op("Flatten", net.op("GlobalAveragePool", a))
    if reader == "Gemm":
        return net.model(net.op("Gemm", a, net.const(net.random(6, 4)), net.const(net.random(4)), alpha=0.5, beta=2.0))
    a = net.op("MatMul", a, net.const(net.random(6, 4)))
    return net.model(net.op("Add", a, net.const(net.random(4))) if reader == "MatMul with Add" else a)


@pytest.mark.parametrize("reader", ["convolution", "Gemm", "MatMul with Add"])
def test_what_is_constant_goes_into_the_bias_of_its_reader(reader: str) -> None:
    proto = constant_channel(reader)
    model, outcome = run(proto, ratio=0.0)
    assert [r.what for r in outcome.rewrites] == ["6 -> 5 channels"]
    assert distance(Model.load(proto), model) <= TOLERANCE


@pytest.mark.parametrize(("reader", "why"), [("padded convolution", "border"), ("MatMul", "no bias")])
def test_what_is_constant_stays_where_no_bias_can_take_it(reader: str, why: str) -> None:
    _, outcome = run(constant_channel(reader), ratio=0.0)
    assert not outcome.changed
    assert [why in r.why for r in outcome.refusals if r.code == "constant-channel"] == [True]


# -- weights that are not plain -----------------------------------------------------------------------------------------------


def test_computed_weights_are_computed_first() -> None:
    net = Net()
    a = net.op("Conv", net.input(1, 3, 6, 6), net.op("Identity", net.const(net.random(8, 3, 3, 3))))
    b = net.op("Relu", a)
    c = net.op("Conv", b, net.op("Transpose", net.const(net.random(8, 4, 1, 1)), perm=[1, 0, 2, 3]))
    model, outcome = run(net.model(c), np.ones((4, 3, 6, 6), np.float32), ratio=0.5, multiple=1)
    assert outcome.rewrites
    check_exact(model, outcome)


def test_float16() -> None:
    net = Net(dtype=np.float16)
    a = net.op("Relu", net.conv(net.input(1, 3, 6, 6), 8))
    model, outcome = run(net.model(net.conv(a, 4, 1)), np.ones((4, 3, 6, 6), np.float16), ratio=0.5, multiple=1)
    assert outcome.rewrites
    assert outcome.reference is not None
    assert distance(outcome.reference, model) <= 1e-2


def test_initializers_listed_as_inputs() -> None:
    """IR 3 lists every initializer as an input."""
    proto = two_convs()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(array.shape)))
    model, outcome = run(proto, ratio=0.5, multiple=1)
    onnx.checker.check_model(model.proto())
    check_exact(model, outcome)


def test_an_initializer_that_may_be_overridden_is_not_touched() -> None:
    net = Net()
    i = net.input(1, 3, 6, 6)
    weight = net.const(net.random(8, 3, 1, 1), "w")
    a = net.op("Relu", net.op("Conv", i, weight), out="a")
    net.widths[a] = 8
    b = net.op("Relu", net.conv(a, 6), out="b")
    proto = net.model(net.conv(b, 4, 1))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [8, 3, 1, 1]))
    model, outcome = run(proto, ratio=0.5, multiple=1)
    assert [r.what for r in outcome.rewrites] == ["6 -> 3 channels"]
    assert next(n.inputs[1].name for n in model.graph.nodes if n.op == "Conv") == "w"
