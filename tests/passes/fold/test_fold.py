"""fold on named blocks: the minimal graph, the outputs in float64, and a twin that must be refused where one exists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context, Outcome
from graphopt.target import Target
from tests.nets import Net, exact_outputs, feed_for, ops_of, outputs_of

Build = Callable[[Net], str]


def fold(proto: onnx.ModelProto, simplify: bool = False, target: str = "generic") -> tuple[onnx.ModelProto, Outcome]:
    """Folded for a device of which no times are known: what counts are multiply-accumulates."""
    model = Model.load(proto)
    outcome = Fold(simplify=simplify).run(model, Context(model.copy(), target=Target.load(target)))
    return model.proto(), outcome


def error(proto: onnx.ModelProto, reference: onnx.ModelProto, feed: dict[str, np.ndarray]) -> float:
    exact = exact_outputs(reference, feed)
    found = outputs_of(proto, feed)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in zip(exact, found, strict=True))


def is_refused(build: Build, code: str, name: str) -> None:
    """The network stays as it is, for this reason; its weights are drawn by its name."""
    net = Net(seed=len(name))
    proto = net.model(build(net))
    folded, outcome = fold(proto)
    assert ops_of(folded) == ops_of(proto)
    assert code in {r.code for r in outcome.refusals}


def x(net: Net, c: int = 4, size: int | str = 9) -> str:
    return net.input(1, c, size, size)


def dbb(net: Net) -> str:
    """Diverse branch block (Ding et al. 2021): the 1x1 pads, so the 3x3 and the pool read the batch norm's own border."""
    i = x(net)
    a = net.bn(net.conv(i, 6, 3, pad=1, bias=False))
    b = net.bn(net.conv(i, 6, 1, bias=False))
    c = net.bn(net.conv(net.bn(net.conv(i, 4, 1, pad=1, bias=False)), 6, 3, bias=False))
    d = net.bn(net.op("AveragePool", net.bn(net.conv(i, 6, 1, pad=1, bias=False)), kernel_shape=[3, 3], strides=[1, 1]))
    return net.op("Add", net.op("Add", net.op("Add", a, b), c), d)


def repvgg(net: Net, stride: int = 1, size: int = 9) -> str:
    i = x(net, size=size)
    a = net.bn(net.conv(i, 4, 3, pad=1, strides=[stride] * 2, bias=False))
    b = net.bn(net.conv(i, 4, 1, strides=[stride] * 2, bias=False))
    total = net.op("Add", a, b)
    return net.op("Add", total, net.bn(i)) if stride == 1 else total


def acnet(net: Net) -> str:
    i = x(net)
    a = net.bn(net.conv(i, 4, 3, pad=1, bias=False))
    b = net.bn(net.conv(i, 4, (1, 3), pads=[0, 1, 0, 1], bias=False))
    c = net.bn(net.conv(i, 4, (3, 1), pads=[1, 0, 1, 0], bias=False))
    return net.op("Sum", a, b, c)


def linear_block(net: Net, pad_first: bool = True, bias: bool = True, skip: bool = True, size: int | str = 9) -> str:
    i = x(net, size=size)
    wide = net.conv(i, 32, 3, pad=1, bias=bias) if pad_first else net.conv(i, 32, 1, bias=bias)
    back = net.conv(wide, 4, 1) if pad_first else net.conv(wide, 4, 3, pad=1)
    return net.op("Add", back, i) if skip else back


def dilated(net: Net) -> str:
    """Dilated re-parametrization (Ding et al. 2024): a large kernel and smaller dilated ones, depthwise."""
    i = x(net)
    a = net.bn(net.conv(i, 4, 7, pad=3, group=4, bias=False))
    b = net.bn(net.conv(i, 4, 3, pad=3, group=4, dilations=[3, 3], bias=False))
    c = net.bn(net.conv(i, 4, 3, pad=2, group=4, dilations=[2, 2], bias=False))
    return net.op("Add", net.op("Add", a, b), c)


def conv_transpose(net: Net, group: int = 1) -> str:
    i = x(net)
    weight = net.const(net.random(4, 6 // group, 3, 3))
    y = net.op("ConvTranspose", i, weight, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=group)
    net.widths[y] = 6
    return net.bn(y)


def matmul_chain(net: Net) -> str:
    i = net.input(2, 5, 8)
    y = net.op("MatMul", i, net.const(net.random(8, 32)))
    y = net.op("Add", y, net.const(net.random(32)))
    y = net.op("MatMul", y, net.const(net.random(32, 6)))
    return net.op("Mul", y, net.const(np.asarray(0.5)))


def gemm_chain(net: Net) -> str:
    i = net.input(3, 8)
    y = net.op("Gemm", i, net.const(net.random(8, 32)), net.const(net.random(32)), alpha=0.5, beta=2.0)
    return net.op("Gemm", y, net.const(net.random(6, 32)), net.const(net.random(1, 6)), transB=1)


FOLDED: dict[str, tuple[Build, list[str]]] = {
    "conv-bn": (lambda n: n.bn(n.conv(x(n), 6)), ["Conv"]),
    "conv-bn with stride and groups": (lambda n: n.bn(n.conv(x(n), 6, group=2, strides=[2, 2], pad=1)), ["Conv"]),
    "bn-conv without pad": (lambda n: n.conv(n.bn(x(n)), 6), ["Conv"]),
    "conv-mul-add": (
        lambda n: n.op("Add", n.op("Mul", n.conv(x(n), 6), n.const(n.random(6, 1, 1))), n.const(n.random(1, 6, 1, 1))),
        ["Conv"],
    ),
    "mul-conv with pad": (lambda n: n.conv(n.op("Mul", x(n), n.const(n.random(4, 1, 1))), 6, pad=1), ["Conv"]),
    "sub and div": (lambda n: n.op("Div", n.op("Sub", n.const(n.random(6, 1, 1)), n.conv(x(n), 6)), n.const(2.0)), ["Conv"]),
    "pad-conv": (
        lambda n: n.conv(n.op("Pad", x(n), n.const(np.asarray([0, 0, 1, 2, 0, 0, 0, 1]))), 6, pad=1),
        ["Conv"],
    ),
    "expand 3x3 then 1x1": (lambda n: n.conv(n.conv(x(n), 32, 3, pad=1), 4, 1), ["Conv"]),
    "1x1 with pad then valid 3x3": (lambda n: n.conv(n.conv(x(n), 32, 1, pad=1), 4, 3), ["Conv"]),
    "1x1 without bias then padded 3x3": (lambda n: n.conv(n.conv(x(n), 32, 1, bias=False), 4, 3, pad=1), ["Conv"]),
    "1x1 with bias then padded 3x3, size known": (lambda n: linear_block(n, pad_first=False), ["Add", "Conv"]),
    "1x1 3x3 1x1": (lambda n: n.conv(n.conv(n.conv(x(n), 16, 1, pad=1), 16, 3), 4, 1), ["Conv"]),
    "conv plus its input": (lambda n: linear_block(n), ["Conv"]),
    "x + a * conv(x)": (lambda n: n.op("Add", i := x(n), n.op("Mul", n.conv(i, 4, pad=1), n.const(0.2))), ["Conv"]),
    "conv minus its input": (lambda n: n.op("Sub", n.conv(i := x(n), 4, pad=1), i), ["Conv"]),
    "the same branch twice": (lambda n: n.op("Add", y := n.conv(x(n), 4), y), ["Conv"]),
    "repvgg": (repvgg, ["Conv"]),
    "repvgg, stride 2, even size": (lambda n: repvgg(n, 2, 8), ["Conv"]),
    "repvgg, stride 2, odd size": (lambda n: repvgg(n, 2, 9), ["Conv"]),
    "acnet": (acnet, ["Conv"]),
    "dbb": (dbb, ["Conv"]),
    "dilated re-parametrization": (dilated, ["Conv"]),
    "strides 2 and 2": (lambda n: n.conv(n.conv(x(n, size=17), 16, 1, strides=[2, 2], pad=1), 4, 2, strides=[2, 2]), ["Conv"]),
    "convtranspose-bn": (conv_transpose, ["ConvTranspose"]),
    "mul-convtranspose": (
        lambda n: n.op("ConvTranspose", n.op("Mul", x(n), n.const(n.random(4, 1, 1))), n.const(n.random(4, 6, 2, 2))),
        ["ConvTranspose"],
    ),
    "matmul chain": (matmul_chain, ["Add", "MatMul"]),
    "gemm chain": (gemm_chain, ["Gemm"]),
    "scales and shifts alone": (
        lambda n: n.op("Add", n.op("Mul", n.bn(x(n)), n.const(n.random(4, 1, 1))), n.const(n.random(4, 1, 1))),
        ["Add", "Mul"],
    ),
    "1-D": (lambda n: n.bn(n.conv(n.input(1, 4, 20), 6, (5,))), ["Conv"]),
    "3-D": (lambda n: n.bn(n.conv(n.input(1, 4, 5, 6, 7), 6, (3, 3, 3))), ["Conv"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_block_becomes_one_operator_with_the_same_outputs(name: str) -> None:
    build, expected = FOLDED[name]
    net = Net(seed=len(name))
    proto = net.model(build(net))
    folded, _ = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == expected
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6


def nonlinear_between(net: Net) -> str:
    return net.conv(net.op("Relu", net.conv(x(net), 16, 1)), 4, 1)


def inner_read_twice(net: Net) -> str:
    y = net.conv(x(net), 16, 1)
    return net.op("Concat", net.conv(y, 4, 1), net.op("Relu", y), axis=1)


REFUSED: dict[str, tuple[Build, str]] = {
    "1x1 with bias then padded 3x3": (lambda n: linear_block(n, pad_first=False, skip=False, size="s"), "bias-under-padding"),
    "bn then padded conv": (lambda n: n.conv(n.bn(x(n, size="s")), 6, pad=1), "bias-under-padding"),
    "bn then padded conv, size known": (lambda n: n.conv(n.bn(x(n)), 6, pad=1), "border-map"),
    "3x3 valid then padded 1x1 is cut off": (lambda n: n.conv(n.conv(x(n), 32, 3, bias=False), 4, 1, pad=1), "border-continues"),
    "3x3 then 3x3 at equal width grows": (lambda n: n.conv(n.conv(x(n, size=32), 4, 3), 4, 3), "cost"),
    "depthwise then pointwise grows": (lambda n: n.conv(n.conv(x(n), 4, 3, group=4), 8, 1), "cost"),
    "an inner tensor is read elsewhere": (inner_read_twice, "extra-consumer"),
    "bias before a transposed convolution": (
        lambda n: n.op("ConvTranspose", n.bn(x(n, size="s")), n.const(n.random(4, 6, 3, 3)), strides=[2, 2]), "bias-under-padding",
    ),
    "average pool that excludes its pad": (
        lambda n: n.op("AveragePool", n.conv(x(n), 4, 1), kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "pool-excludes-pad",
    ),
    "reflecting pad": (
        lambda n: n.conv(n.op("Pad", x(n), n.const(np.asarray([0, 0, 1, 1, 0, 0, 1, 1])), mode="reflect"), 4), "pad-mode",
    ),
    "weights computed at run time": (
        lambda n: n.bn(n.op("Conv", n.input(1, 4, 9, 9), n.op("Relu", n.input(4, 4, 3, 3, name="w")))), "weights-not-constant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_exact_or_not_cheaper_is_refused_with_its_reason(name: str) -> None:
    is_refused(*REFUSED[name], name)


def test_a_bias_is_not_rounding_because_larger_ones_beside_it_cancel() -> None:
    """In channel 0 a million is added and taken away again, in channel 1 a half is added: by the first the second looks small."""
    net = Net()
    y = net.conv(x(net, c=2, size="s"), 2, 1, group=2, bias=False)
    y = net.op("Add", net.op("Add", y, net.const([[[1e6]], [[0.0]]])), net.const([[[-1e6]], [[0.5]]]))
    proto = net.model(net.conv(y, 2, pad=1, group=2))
    folded, outcome = fold(proto)
    feed = feed_for(proto)
    np.testing.assert_allclose(outputs_of(folded, feed)[0][:, 1], outputs_of(proto, feed)[0][:, 1], rtol=0, atol=1e-5)
    assert ops_of(folded) == ["Conv", "Conv"]
    assert "bias-under-padding" in {r.code for r in outcome.refusals}


def test_grouped_convtranspose_takes_a_batch_norm_in() -> None:
    """ONNX's reference implementation does not know groups here, so this one is held against onnxruntime in float32."""
    net = Net()
    proto = net.model(conv_transpose(net, 2))
    folded, _ = fold(proto)
    before, after = (outputs_of(p, feed_for(proto))[0] for p in (proto, folded))
    assert ops_of(folded) == ["ConvTranspose"]
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


def test_a_nonlinearity_ends_a_region() -> None:
    net = Net()
    proto = net.model(nonlinear_between(net))
    assert ops_of(fold(proto)[0]) == ops_of(proto)


def test_an_inner_graph_output_is_kept() -> None:
    net = Net()
    inner = net.conv(x(net), 32, 3, pad=1)
    proto = net.model(net.conv(inner, 4, 1), inner)
    folded, outcome = fold(proto)
    assert ops_of(folded) == ["Conv", "Conv"]
    assert "graph-output" in {r.code for r in outcome.refusals}


def test_a_shared_weight_is_never_edited() -> None:
    net = Net()
    i = x(net)
    weight = net.const(net.random(4, 4, 1, 1))
    first = net.bn(net.op("Conv", i, weight))
    proto = net.model(net.op("Concat", first, net.op("Relu", net.op("Conv", i, weight)), axis=1))
    folded, _ = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == ["Concat", "Conv", "Conv", "Relu"]
    assert error(folded, proto, feed) < 1e-6


def test_an_overridable_weight_is_no_constant() -> None:
    net = Net()
    y = net.bn(net.conv(x(net), 4))
    weight = net.nodes[0].input[1]
    net.inputs.append(onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, [4, 4, 3, 3]))
    proto = net.model(y)
    assert ops_of(fold(proto)[0]) == ops_of(proto)


def test_non_finite_weights_are_left_alone() -> None:
    net = Net()
    i = x(net)
    weight = net.random(4, 4, 1, 1)
    weight[0, 0] = np.inf
    proto = net.model(net.bn(net.op("Conv", i, net.const(weight))))
    folded, outcome = fold(proto)
    assert ops_of(folded) == ops_of(proto)
    assert "non-finite-weights" in {r.code for r in outcome.refusals}


def test_weights_behind_shape_arithmetic_are_computed_first() -> None:
    net = Net()
    i = x(net)
    half = net.op("Cast", net.const(net.random(6, 4 * 9)), to=onnx.TensorProto.FLOAT)
    weight = net.op("Reshape", net.op("Identity", half), net.const(np.asarray([6, 4, 3, 3], np.int64)))
    proto = net.model(net.bn_of(net.op("Conv", i, weight), 6))
    assert "weights-not-constant" in {r.code for r in fold(proto)[1].refusals}
    assert ops_of(fold(proto, simplify=True)[0]) == ["Conv"]


def test_float16_is_cast_once_at_the_end() -> None:
    net = Net(dtype=np.float16)
    proto = net.model(net.bn(net.conv(x(net), 4)))
    folded, _ = fold(proto)
    assert {t.data_type for t in folded.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_provenance_names_the_sources_of_each_kernel() -> None:
    net = Net()
    proto = net.model(net.bn(net.conv(x(net), 4)))
    _, outcome = fold(proto)
    (sources,) = outcome.facts["folded"].values()
    assert set(sources) == {i.name for i in proto.graph.initializer}


def chain(count: int) -> onnx.ModelProto:
    net = Net()
    y = x(net)
    for _ in range(count):
        y = net.op("Relu", net.bn(net.conv(y, 4, 1)))
    return net.model(y)


@pytest.mark.parametrize("count", [50])
def test_twice_the_nodes_take_about_twice_the_steps(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are compositions tried: they grow with the nodes, not with their square."""
    from graphopt.analysis import affine

    tried: list[int] = []
    real = affine.composed

    def counted(*args: object) -> object:
        tried.append(1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(affine, "composed", counted)
    fold(chain(count))
    once = len(tried)
    fold(chain(2 * count))
    assert len(tried) - once <= 2 * once + 4


def test_what_two_branches_share_is_written_once() -> None:
    net = Net()
    trunk = net.bn(net.conv(x(net), 4, 1))
    proto = net.model(net.bn(net.conv(trunk, 4, 1)), net.bn(net.conv(trunk, 4, 1)))
    model = Model.load(proto)
    outcome = Fold(simplify=False).run(model, Context(model.copy()))
    assert ops_of(model.proto()) == ["Conv", "Conv", "Conv"]
    assert len(outcome.rewrites) == 3
    present = {id(node) for node in model.graph.nodes}
    readers = {id(reader) for node in model.graph.nodes for tensor in node.inputs for reader in tensor.outputs}
    assert readers <= present, "a tensor is read by a node that is not in the graph"


def test_a_rewrite_is_named_after_the_node_it_replaces() -> None:
    net = Net()
    y = net.bn(net.conv(x(net), 4))
    net.nodes[-1].name = ""
    _, outcome = fold(net.model(y))
    assert [rewrite.where for rewrite in outcome.rewrites] == [f"BatchNormalization -> '{y}'"]


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 17])
def test_a_matrix_without_bias_is_valid_in_every_opset(opset: int) -> None:
    """Before opset 11 Gemm has no optional bias."""
    net = Net(opset=opset)
    y = net.op("MatMul", net.input("n", 8), net.const(net.random(8, 6)))
    proto = net.model(net.op("Mul", y, net.const(net.random(6))), ir=8)
    folded, _ = fold(proto)
    onnx.checker.check_model(folded)
    assert len(folded.graph.node) == 1
    assert error(folded, proto, feed_for(proto)) < 1e-6


def test_before_opset_7_no_scale_is_written() -> None:
    net = Net(opset=6)
    proto = net.model(net.op("Neg", net.op("Neg", x(net))), ir=8)
    assert ops_of(fold(proto)[0]) == ["Neg", "Neg"]


@pytest.mark.parametrize("kind", ["MatMul", "Mul"])
def test_as_many_operators_as_before_are_no_gain(kind: str) -> None:
    net = Net()
    y = net.op(kind, net.input(2, 5, 8), net.const(net.random(8, 8) if kind == "MatMul" else net.random(8)))
    proto = net.model(net.op("Add", y, net.const(net.random(8))))
    model = Model.load(proto)
    outcome = Fold(simplify=False, max_growth=10.0).run(model, Context(model.copy()))
    assert outcome.rewrites == []
    assert model.proto() == proto


def test_a_tensor_added_to_itself_again_and_again() -> None:
    """Each step doubles the paths to the input, not the work."""
    net = Net()
    y = x(net)
    for _ in range(40):
        y = net.op("Add", y, y)
    folded, _ = fold(net.model(y))
    assert ops_of(folded) == ["Mul"]
    assert outputs_of(folded, {"x": np.ones((1, 4, 9, 9), np.float32)})[0].max() == 2.0**40


def test_a_sum_of_any_width_folds() -> None:
    net = Net()
    i = x(net)
    y = net.conv(i, 4, 1)
    for _ in range(499):
        y = net.op("Add", y, net.conv(i, 4, 1))
    proto = net.model(y)
    folded, outcome = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == ["Conv"]
    assert error(folded, proto, feed) < 1e-5
    (sources,) = outcome.facts["folded"].values()  # the model's own weights, however many rounds it took
    assert set(sources) == {initializer.name for initializer in proto.graph.initializer}


@pytest.mark.parametrize(("attributes", "left"), [({}, ["Conv", "Dropout", "Neg"]), ({"is_test": 1}, ["Conv"])])
def test_before_opset_7_dropout_drops_unless_told_not_to(attributes: dict[str, int], left: list[str]) -> None:
    net = Net(opset=6)
    y = net.op("Neg", net.op("Dropout", net.conv(x(net), 4), **attributes))
    assert ops_of(fold(net.model(y, ir=8))[0]) == left


MISTYPED = {
    "Slice": lambda net, y: net.op("Slice", y, *(net.const(np.array([v], object).astype(str), exact=True) for v in (0, 2, 1))),
    "Tile": lambda net, y: net.op("Tile", y, net.const([1.0, 2.0, 1.0, 1.0])),
    "Gather": lambda net, y: net.op("Gather", y, net.const([0.5, 1.5]), axis=1),
    "Split": lambda net, y: net.op("Split", y, net.const([2.0, 2.0]), axis=1, outputs=2),
    "Pad": lambda net, y: net.op("Pad", y, net.const(np.zeros(8))),
}


@pytest.mark.parametrize("op", MISTYPED)
def test_places_that_are_no_integers_are_not_read(op: str) -> None:
    """No runtime takes such a file; fold leaves it as it is."""
    net = Net()
    y = MISTYPED[op](net, net.conv(x(net), 4, 1))
    graph = onnx.helper.make_graph(net.nodes, "net", net.inputs, [onnx.ValueInfoProto(name=y)], net.initializers)
    model = Model.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))
    assert Fold(simplify=False).run(model, Context(model.copy())).rewrites == []
