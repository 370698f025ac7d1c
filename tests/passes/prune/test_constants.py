"""Without data a removed channel leaves its mean, as its batch normalisation states it, in the biases of what reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.passes.prune import Prune
from graphopt.passes.prune.expected import Expectations
from graphopt.pipeline import Context, Outcome
from tests.nets import Net, feed_for, outputs_of
from tests.passes.prune.oracle import TOLERANCE, channels_of, distance

WIDTH = 16
Build = Callable[[Net, str], str]


def phi(t: float) -> float:
    return math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)


def cdf(t: float) -> float:
    return 0.5 * (1 + math.erf(t / math.sqrt(2)))


def relu_mean(mean: float, std: float) -> float:
    """E max(0, x) of x ~ N(mean, std^2)."""
    return mean * cdf(mean / std) + std * phi(mean / std) if std else max(mean, 0.0)


def normalised(net: Net, width: int = WIDTH) -> str:
    """An orthogonal 1x1 convolution of a standard normal input, so that the statistics of its batch normalisation are true."""
    weight = np.linalg.qr(net.rng.standard_normal((width, width)))[0][:, :, None, None]
    h = net.op("Conv", net.input("n", width, 12, 12), net.const(weight))
    zero, one = np.zeros(width), np.ones(width)
    scale, shift = net.random(width, low=0.3, high=1.5), net.random(width, low=-0.5, high=2.0)
    return net.op(
        "BatchNormalization", h, net.const(scale), net.const(shift), net.const(zero), net.const(one), epsilon=0.0, out="bn"
    )


def grouped(net: Net, a: str) -> str:
    return net.conv(a, 8, 1, group=4)


def depthwise_between(net: Net, a: str) -> str:
    d = net.conv(a, WIDTH, 3, group=WIDTH, pad=1)
    return net.conv(d, 6, 1)


def pooled(net: Net, a: str) -> str:
    flat = net.op("Flatten", net.op("GlobalAveragePool", a))
    return net.op("Gemm", flat, net.const(net.random(WIDTH, 5)), net.const(net.random(5)))


def flattened(net: Net, a: str) -> str:
    return net.op("Gemm", net.op("Flatten", a), net.const(net.random(5, WIDTH * 144)), transB=1)


def residual(net: Net, a: str) -> str:
    return net.conv(net.op("Relu", net.op("Add", a, net.bn(net.conv(a, WIDTH, 1)))), 6, 1)


READERS: dict[str, Build] = {
    "1x1": lambda n, a: n.conv(a, 6, 1),
    "3x3 without bias": lambda n, a: n.conv(a, 6, 3, bias=False),
    "3x3 with a border": lambda n, a: n.conv(a, 6, 3, pad=1),
    "grouped": grouped,
    "pooled": pooled,
    "flattened": flattened,
}


def run(proto: onnx.ModelProto, *, fold: bool = False, **options: object) -> tuple[Model, Outcome]:
    model, original = Model.load(proto), Model.load(proto)
    ctx = Context(original)
    if fold:
        Fold().run(model, ctx)
    outcome = Prune(**{"ratio": 0.5, "multiple": 1, **options}).run(model, ctx)  # type: ignore[arg-type]
    return model, outcome


def drift(proto: onnx.ModelProto, model: Model) -> float:
    feed = {"x": np.random.default_rng(3).standard_normal((16, WIDTH, 12, 12)).astype(np.float32)}
    return float(np.square(outputs_of(proto, feed)[0] - outputs_of(model.proto(), feed)[0]).mean())


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", READERS)
def test_constants_lower_the_drift_and_the_result_is_its_masked_reference(name: str, fold: bool) -> None:
    net = Net(4)
    proto = net.model(READERS[name](net, net.op("Relu", normalised(net))))
    made, outcome = run(proto, fold=fold)
    plain, _ = run(proto, fold=fold, compensate=False)
    assert outcome.reference is not None
    assert distance(outcome.reference, made) <= TOLERANCE
    assert outcome.facts["constants"] == 1
    assert drift(proto, made) < 0.8 * drift(proto, plain)


def test_the_bias_is_the_mean_by_hand() -> None:
    net = Net(4)
    proto = net.model(net.conv(net.op("Relu", normalised(net)), 6, 1))
    values = {i.name: onnx.numpy_helper.to_array(i).astype(np.float64) for i in proto.graph.initializer}
    scale, shift = (values[n] for n in proto.graph.node[1].input[1:3])
    weight, bias = (values[n] for n in proto.graph.node[-1].input[1:3])
    model, _ = run(proto)
    read = model.graph.nodes[-1].inputs
    kept, added = model.value(read[1]), model.value(read[2])
    assert kept is not None
    assert added is not None
    stays = [any(np.array_equal(weight[:, c], kept[:, k].astype(np.float64)) for k in range(kept.shape[1])) for c in range(WIDTH)]
    assert sum(stays) == WIDTH // 2
    lost = sum(weight[:, c, 0, 0] * relu_mean(shift[c], scale[c]) for c in range(WIDTH) if not stays[c])
    assert np.abs(added - bias - lost).max() <= 1e-4 * np.abs(lost).max()


FUNCTIONS: dict[str, tuple[Build, Callable[[float, float], float], float]] = {
    "relu": (lambda n, a: n.op("Relu", a), relu_mean, 2e-4),
    "clip": (
        lambda n, a: n.op("Clip", a, n.const(np.float32(0)), n.const(np.float32(1))),
        lambda m, s: relu_mean(m, s) - relu_mean(m - 1, s),
        5e-4,
    ),
    "leaky": (lambda n, a: n.op("LeakyRelu", a, alpha=0.1), lambda m, s: 0.9 * relu_mean(m, s) + 0.1 * m, 2e-4),
    "exp": (lambda n, a: n.op("Exp", a), lambda m, s: math.exp(m + 0.5 * s * s), 1e-5),
    "square of itself": (lambda n, a: n.op("Mul", a, a), lambda m, s: m * m + s * s, 1e-5),
    "sum with itself": (lambda n, a: n.op("Add", a, a), lambda m, s: 2 * m, 1e-5),
    "moved": (lambda n, a: n.op("Transpose", a, perm=[0, 1, 3, 2]), lambda m, s: m, 1e-5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_means_of_functions_of_a_gaussian(name: str) -> None:
    build, mean, tolerance = FUNCTIONS[name]
    net = Net(5)
    proto = net.model(net.conv(build(net, normalised(net)), 3, 1))
    values = {i.name: onnx.numpy_helper.to_array(i).astype(np.float64) for i in proto.graph.initializer}
    scale, shift = (values[n] for n in proto.graph.node[1].input[1:3])
    found = Expectations(channels_of(proto), {}).by_position()[proto.graph.node[-2].output[0]][0]
    wanted = np.asarray([mean(m, s) for m, s in zip(shift, scale, strict=True)])
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def test_a_sum_of_two_adds_means_and_variances() -> None:
    net = Net(5)
    a = normalised(net)
    b = net.bn(net.conv(a, WIDTH, 1))
    s = net.op("Add", a, b)
    proto = net.model(net.conv(s, 3, 1))
    found = Expectations(channels_of(proto), {}).by_position()
    for k in range(2):
        assert np.allclose(found[s][k], found[a][k] + found[b][k])


@pytest.mark.parametrize("name", ["GlobalMaxPool", "Softmax", "no statistic"])
def test_of_all_else_nothing_is_known(name: str) -> None:
    net = Net(5)
    a = normalised(net)
    b = net.op("Mul", a, net.conv(a, WIDTH, 1)) if name == "no statistic" else net.op(name, a)
    proto = net.model(net.conv(b, 3, 1))
    assert b not in Expectations(channels_of(proto), {}).found


@pytest.mark.parametrize("build", [depthwise_between, residual])
def test_networks_around_it(build: Build) -> None:
    """A depthwise convolution hides the mean, and nothing is compensated behind it; a sum does not
    (both that read the channels of the sum are compensated).
    """
    net = Net(6)
    proto = net.model(build(net, net.op("Relu", normalised(net))))
    model, outcome = run(proto)
    assert outcome.reference is not None
    assert distance(outcome.reference, model) <= TOLERANCE
    assert outcome.facts["constants"] == (0 if build is depthwise_between else 2)


def test_without_batch_normalisation_nothing_changes() -> None:
    net = Net(4)
    proto = net.model(net.conv(net.op("Relu", net.conv(net.input("n", 4, 8, 8), 8, 3)), 3, 1))
    (a, outcome), (b, _) = run(proto), run(proto, compensate=False)
    assert a.proto().SerializeToString(deterministic=True) == b.proto().SerializeToString(deterministic=True)
    assert not any("WITHOUT DATA" in n for n in outcome.notes)


def test_masks_get_no_constants(tmp_path: Path) -> None:
    net = Net(4)
    proto = net.model(net.conv(net.op("Relu", normalised(net)), 6, 1))
    np.savez(tmp_path / "m.npz", bn=np.arange(WIDTH) % 2 == 0)
    (a, _), (b, _) = (run(proto, ratio=None, masks=tmp_path / "m.npz", compensate=c) for c in (True, False))
    assert a.proto().SerializeToString(deterministic=True) == b.proto().SerializeToString(deterministic=True)


@pytest.mark.parametrize(("name", "says"), [("1x1", False), ("3x3 with a border", True)])
def test_the_reader_is_told_of_constants_and_of_borders(name: str, says: bool) -> None:
    net = Net(4)
    _, outcome = run(net.model(READERS[name](net, net.op("Relu", normalised(net)))))
    note = next(n for n in outcome.notes if "WITHOUT DATA" in n)
    assert ("borders" in note) == says


def test_names_that_survive_folding_mean_the_same() -> None:
    """What the file's graph says of a tensor is used by its name in the folded one."""
    net = Net(7)
    a = net.op("Relu", normalised(net))
    proto = net.model(net.conv(net.op("Add", net.bn(net.conv(a, WIDTH, 3, pad=1)), net.bn(net.conv(a, WIDTH, 1))), 3, 1))
    folded = Model.load(proto)
    Fold().run(folded, Context(Model.load(proto)))
    names = {o.name for n in folded.graph.nodes for o in n.outputs} & {o for n in proto.graph.node for o in n.output}
    told = Expectations(channels_of(proto), {}).by_position().keys() & names
    assert told
    feed = feed_for(proto)
    protos = [proto, folded.proto()]
    for one in protos:
        del one.graph.output[:]
        one.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in sorted(told))
    for mine, theirs in zip(outputs_of(protos[0], feed), outputs_of(protos[1], feed), strict=True):
        assert np.abs(mine - theirs).max() <= 1e-5 * np.ptp(mine)
