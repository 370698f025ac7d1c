"""fold over selections, phases and views: the minimal graph, the outputs in float64, and twins that must be refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.nets import Net, feed_for, ops_of
from tests.passes.fold.moved import MOVED, Build, deconv, ints, nearest, shuffled, sliced, upscaled, x
from tests.passes.fold.test_fold import error, fold, is_refused


@pytest.mark.parametrize("name", MOVED)
def test_moved_block_becomes_its_plain_form(name: str) -> None:
    build, expected = MOVED[name]
    net = Net(seed=len(name))
    proto = net.model(build(net))
    folded, _ = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == expected
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6


BY_TIME: dict[str, tuple[str, list[str]]] = {
    "an operator costs by being there": ("1x1-averagepool", ["Conv"]),
    "a reshape is a view": ("reshape, gemm, reshape", ["Gemm", "Reshape", "Reshape"]),
    "blocks are slow in float": ("1x1-convtranspose with bias, kernel = stride", ["Conv", "ConvTranspose"]),
}


@pytest.mark.parametrize("why", BY_TIME)
def test_a_target_with_a_table_of_times_decides_by_time(why: str) -> None:
    """By multiply-accumulates these become something else, or nothing: see ``MOVED``."""
    name, expected = BY_TIME[why]
    net = Net(seed=len(name))
    proto = net.model(MOVED[name][0](net))
    folded, _ = fold(proto, target="ort-x86-vnni")
    feed = feed_for(proto)
    assert ops_of(folded) == expected
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6


def read_twice(net: Net) -> str:
    y = net.conv(x(net), 8, 3)
    return net.op("Concat", sliced(net, y, 0, 4), net.op("Relu", y), axis=1)


REFUSED: dict[str, tuple[Build, str]] = {
    "a slice of what is read elsewhere": (read_twice, "extra-consumer"),
    "kernels of different size side by side": (
        lambda n: n.op("Concat", n.conv(i := x(n), 4, 3, pad=1), n.conv(i, 6, 1), axis=1), "cost",
    ),
    "interpolation": (
        lambda n: n.conv(n.op("Resize", x(n), "", n.const(np.asarray([1, 1, 2, 2], np.float32)), mode="linear"), 4), "resize-mode",
    ),
    "a factor that is not whole": (
        lambda n: n.conv(n.op("Resize", x(n), "", n.const(np.asarray([1, 1, 1.5, 1.5], np.float32)), mode="nearest"), 4),
        "resize-scale",
    ),
    "elements copied unevenly": (
        lambda n: n.conv(nearest(n, x(n), 3, coordinate_transformation_mode="asymmetric", nearest_mode="round_prefer_floor"), 4),
        "resize-scale",
    ),
    "1x1 with bias before a padded transposed convolution": (
        lambda n: deconv(n, n.conv(x(n, size="s"), 32, 1), 6, 4, 2, pads=[1, 1, 1, 1]), "bias-under-padding",
    ),
    "a mean over a size that is not known": (lambda n: n.op("GlobalAveragePool", n.conv(x(n, size="s"), 16, 1)), "dynamic-mean"),
    "a stride that does not fit the blocks": (
        lambda n: n.conv(upscaled(n, n.conv(x(n), 8, 3, pad=1), 2), 2, 1, strides=[3, 3]), "phases",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_one_map_is_refused_with_its_reason(name: str) -> None:
    is_refused(*REFUSED[name], name)


def test_a_shuffle_of_unknown_batch_and_size_is_a_selection() -> None:
    net = Net()
    i = net.input("n", 8, "h", "w")
    wide = net.op("Reshape", net.conv(i, 8, 1), ints(net, 0, 2, 4, -1))
    turned = net.op("Transpose", wide, perm=[0, 2, 1, 3])
    dims = net.op("Concat", *(net.op("Slice", net.op("Shape", i), ints(net, a), ints(net, a + 1)) for a in (0, 1, 2, 3)), axis=0)
    proto = net.model(net.op("Reshape", turned, dims))
    folded, _ = fold(proto)
    assert "Transpose" in ops_of(folded), "height and width were joined and parted again by a computed shape: not provable"


def test_a_shuffle_with_sizes_copied_is_a_selection() -> None:
    net = Net()
    i = net.input("n", 8, 9, 9)
    proto = net.model(net.op("Relu", shuffled(net, net.conv(i, 8, 1), 2)))
    assert ops_of(fold(proto)[0]) == ["Conv", "Relu"]


def test_a_reshape_that_is_no_shuffle_is_left_alone() -> None:
    net = Net()
    wide = net.op("Reshape", net.conv(net.input(1, 8, 4, 4), 8, 1), ints(net, 1, 4, 2, 4, 4))
    turned = net.op("Transpose", wide, perm=[0, 3, 1, 2, 4])
    proto = net.model(net.op("Reshape", turned, ints(net, 1, 4, 8, 4)))
    assert ops_of(fold(proto)[0]) == ops_of(proto)


def ringed(net: Net, off: float) -> str:
    """A 1x1 padded with its own bias (``off`` by something in one channel), then a valid 3x3, at an open size."""
    i = net.input("n", 4, "h", "w")
    bias = net.random(5)
    y = net.op("Conv", i, net.const(net.random(5, 4, 1, 1)), net.const(bias))
    net.widths[y] = 5
    value = (bias + off * np.eye(5)[0]).reshape(1, 5, 1, 1)
    down, up = net.op("Sub", y, net.const(value)), net.const(value)
    return net.conv(net.op("Add", net.op("Pad", down, ints(net, 0, 0, 1, 1, 0, 0, 1, 1)), up), 3, 3)


def test_padding_with_the_bias_is_padding_of_the_input() -> None:
    net = Net(opset=16)
    proto = net.model(ringed(net, 0.0))
    folded, _ = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == ["Conv"]
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6


def test_padding_with_another_value_is_not() -> None:
    net = Net(opset=16)
    proto = net.model(ringed(net, 0.5))
    folded, outcome = fold(proto)
    assert ops_of(folded) == ["Conv", "Conv"]
    assert "bias-under-padding" in {r.code for r in outcome.refusals}


@pytest.mark.parametrize(("cut", "left"), [(1, ["Conv"]), (0, ["Add", "Conv"])])
def test_a_border_that_is_cut_off_again_is_no_border(cut: int, left: list[str]) -> None:
    """Behind a bias and zero padding the constant differs along the border; without its outermost elements it is a bias."""
    net = Net()
    y = net.conv(net.conv(x(net), 32, 1), 4, 3, pad=1)
    net.widths[y] = 4
    proto = net.model(net.op("Slice", y, ints(net, cut, cut), ints(net, 9 - cut, 9 - cut), ints(net, 2, 3)))
    folded, _ = fold(proto)
    feed = feed_for(proto)
    assert ops_of(folded) == left
    assert error(folded, proto, feed) <= 2 * error(proto, proto, feed) + 1e-6


@pytest.mark.parametrize("read", [False, True])
def test_outputs_of_a_batch_norm_that_nobody_reads_do_not_matter(read: bool) -> None:
    """Before opset 14 training code left the running statistics behind as outputs."""
    net = Net(opset=9)
    y = net.conv(x(net), 4)
    c = [net.const(net.random(4, low=0.5, high=1.5)) for _ in range(4)]
    out = net.op("BatchNormalization", y, *c, outputs=5)
    net.widths[out] = 4
    proto = net.model(net.op("Relu", out), ir=8)
    if read:
        proto.graph.output.append(onnx.helper.make_tensor_value_info(f"{out}_1", onnx.TensorProto.FLOAT, [4]))
    folded, _ = fold(proto)
    assert ("BatchNormalization" in ops_of(folded)) is read


def test_initializers_that_are_inputs_of_an_old_file_are_constants() -> None:
    """Before IR 4 every initializer had to be an input as well, and no caller overrides them."""
    net = Net(opset=8)
    y = net.bn(net.conv(x(net), 4))
    proto = net.model(y, ir=8)
    proto.ir_version = 3
    for initializer in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(initializer.name, initializer.data_type, initializer.dims))
    assert ops_of(fold(proto)[0]) == ["Conv"]


def test_axes_of_size_one_can_be_moved_in_any_way() -> None:
    net = Net()
    proto = net.model(net.op("Relu", net.op("Transpose", net.input(1, 1, 1, 1, 1, 1), perm=[0, 1, 4, 2, 5, 3])))
    assert ops_of(fold(proto)[0])[-1] == "Transpose"
