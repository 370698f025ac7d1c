"""Small networks with what a channel is not free to leave: normalisation and reductions over channels, opaque and data-dependent
operators, quantizers, recurrent layers, attention.
"""

from __future__ import annotations

import numpy as np

from tests.analysis.channels.networks import gemm, head, images, relu
from tests.nets import Net


def softmax(net: Net, axis: int) -> str:
    return head(net, net.op("Softmax", net.conv(images(net), 6), out="a", axis=axis))


def layer_norm(net: Net) -> str:
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)))
    h = net.op("LayerNormalization", h, net.const(net.random(8)), net.const(net.random(8)), out="h")
    return net.op("MatMul", h, net.const(net.random(8, 3)))


def layer_norm_by_count(net: Net) -> str:
    h = net.op("MatMul", net.input(2, 7, 6), net.const(net.random(6, 8)), out="h")
    n = net.op("Cast", net.op("Gather", net.op("Shape", h), net.const(np.array(2))), to=1)
    return net.op("MatMul", net.op("Div", h, n), net.const(net.random(8, 3)))


def argmax(net: Net) -> str:
    a = net.op("ArgMax", net.conv(images(net), 6), axis=1, out="i")
    return net.op("Cast", a, to=1)


def lrn(net: Net) -> str:
    return head(net, net.op("LRN", net.conv(images(net), 6), out="a", size=3))


def instance_norm(net: Net) -> str:
    a = net.op("InstanceNormalization", net.conv(images(net), 6), net.const(net.random(6)), net.const(net.random(6)), out="a")
    return head(net, a)


def reduce_channels(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    m = net.op("ReduceMax", a, axes=[1], keepdims=1)
    net.widths[m] = 1
    return net.conv(m, 2, 1)


def unknown(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    b = net.op("Einsum", a, equation="nchw->nchw")
    return head(net, relu(net, net.conv(b, 4), "b"))


def dynamic_gather(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    order = net.op("ArgMax", net.op("ReduceMean", a, axes=[0, 2, 3], keepdims=0), axis=0, keepdims=1)
    g = net.op("Gather", a, order, axis=1)
    net.widths[g] = 1
    return net.conv(g, 2, 1)


def shape_arithmetic(net: Net) -> str:
    a = relu(net, net.conv(net.input("n", 3, 8, 8), 8), "a")
    n = net.op("Gather", net.op("Shape", a), net.const(np.array([0])))
    r = net.op("Reshape", a, net.op("Concat", n, net.const(np.array([2, 4, -1])), axis=0))
    r = net.op("Transpose", r, perm=[0, 2, 1, 3])
    r = net.op("Reshape", r, net.op("Concat", n, net.const(np.array([8, 6, 6])), axis=0))
    net.widths[r] = 8
    return head(net, r)


def shape_of_channels(net: Net) -> str:
    a = relu(net, net.conv(images(net, size="s"), 6), "a")
    s = net.op("Shape", a)
    flat = net.op("Reshape", net.op("GlobalAveragePool", a), net.op("Slice", s, net.const(np.array([0])), net.const(np.array([2]))))
    return gemm(net, flat, 6, 3, 1)


def constant_node(net: Net) -> str:
    import onnx

    value = onnx.numpy_helper.from_array(net.random(6, 3, 3, 3).astype(np.float32))
    net.nodes.append(onnx.helper.make_node("Constant", [], ["w"], value=value))
    a = net.op("Conv", images(net), "w")
    net.widths[a] = 6
    return head(net, relu(net, a, "a"))


def captured(net: Net) -> str:
    from onnx import helper

    a = relu(net, net.conv(images(net), 6), "a")
    b = relu(net, net.conv(a, 4), "b")
    body = [
        helper.make_graph([helper.make_node(op, ["a"], [f"{op}_o"])], op, [], [helper.make_tensor_value_info(f"{op}_o", 1, None)])
        for op in ("Neg", "Abs")
    ]
    picked = net.op("If", net.const(np.array(True)), out="picked", then_branch=body[0], else_branch=body[1])
    net.widths[picked] = 6
    return net.op("Add", head(net, b), net.conv(picked, 5, 3))


def quantized(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    scale, zero = net.const(np.float32(0.05)), net.const(np.uint8(3))
    return head(net, net.op("DequantizeLinear", net.op("QuantizeLinear", a, scale, zero), scale, zero))


def quantized_per_channel(net: Net, axis: int) -> str:
    """Weights in integers with a scale and a zero point a channel of their ``axis``: rows 0, columns 1."""
    rng = np.random.default_rng(1)
    count = (6, 3)[axis]
    whole = net.const(rng.integers(-100, 100, (6, 3, 3, 3)).astype(np.int8))
    scale, zero = net.const(net.random(count, low=0.01, high=0.02)), net.const(rng.integers(-3, 3, count).astype(np.int8))
    weight = net.op("DequantizeLinear", whole, scale, zero, axis=axis)
    a = net.op("Conv", images(net), weight)
    net.widths[a] = 6
    b = relu(net, a, "a")
    whole = net.const(rng.integers(-100, 100, (5, 6, 1, 1)).astype(np.int8))
    count = (5, 6)[axis]
    scale, zero = net.const(net.random(count, low=0.01, high=0.02)), net.const(rng.integers(-3, 3, count).astype(np.int8))
    return net.op("Conv", b, net.op("DequantizeLinear", whole, scale, zero, axis=axis))


def quantized_activations_per_channel(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    scale, zero = net.const(net.random(6, low=0.01, high=0.02)), net.const(np.zeros(6, np.uint8))
    return head(net, net.op("DequantizeLinear", net.op("QuantizeLinear", a, scale, zero), scale, zero))


def computed_weight(net: Net) -> str:
    """A convolution whose weight another layer makes: rows and columns are channels like any others."""
    w = net.op(
        "Reshape", net.op("MatMul", net.input(6, 3, name="w"), net.const(net.random(3, 3))), net.const(np.array([6, 3, 1, 1]))
    )
    a = net.op("Conv", net.conv(images(net), 3), w)
    net.widths[a] = 6
    return head(net, relu(net, a, "a"))


def recurrent(net: Net, kind: str, gates: int, directions: int = 1) -> str:
    """[T, B, I] -> layer of 6 units -> layer of 4 units -> a product."""
    hidden = 6
    x = net.op("MatMul", net.input(5, 2, 7), net.const(net.random(7, 8)), out="x8")
    parameters = [net.random(directions, gates * hidden, 8), net.random(directions, gates * hidden, hidden)]
    extra: list[str] = [net.const(net.random(directions, 2 * gates * hidden)), "", net.const(net.random(directions, 2, hidden))]
    if kind == "LSTM":
        extra += [net.const(net.random(directions, 2, hidden)), net.const(net.random(directions, 3 * hidden))]
    way = {"direction": "bidirectional"} if directions == 2 else {}
    y = net.op(kind, x, *(net.const(p) for p in parameters), *extra, hidden_size=hidden, out="y", **way)
    y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.const(np.array([0, 0, -1])))
    z = net.op(
        kind,
        y,
        net.const(net.random(1, gates * 4, directions * hidden)),
        net.const(net.random(1, gates * 4, 4)),
        hidden_size=4,
        out="z",
    )
    return net.op("MatMul", net.op("Squeeze", z, net.const(np.array([1]))), net.const(net.random(4, 3)))


def fused_attention(net: Net, how: str) -> str:
    """Queries, keys and values of two heads of four from one product, told apart by Gather, Split or Slice."""
    i = net.input(2, 5, 8)
    qkv = net.op("Add", net.op("MatMul", i, net.const(net.random(8, 24))), net.const(net.random(24)), out="qkv")
    if how == "split":
        net.op("Split", qkv, net.const(np.array([8, 8, 8])), out="part", outputs=3, axis=2)
        parts = ["part", "part_1", "part_2"]
        parts = [net.op("Reshape", p, net.const(np.array([2, 5, 2, 4]))) for p in parts]
        q, k, v = (net.op("Transpose", p, perm=[0, 2, 1, 3]) for p in parts)
    else:
        wide = net.op("Transpose", net.op("Reshape", qkv, net.const(np.array([2, 5, 3, 2, 4]))), perm=[2, 0, 3, 1, 4])
        if how == "gather":
            q, k, v = (net.op("Gather", wide, net.const(np.array(n)), axis=0) for n in range(3))
        else:
            ends = [[net.const(np.array([v])) for v in (n, n + 1, 0)] for n in range(3)]
            q, k, v = (net.op("Squeeze", net.op("Slice", wide, *e), net.const(np.array([0]))) for e in ends)
    q = net.op("Mul", q, net.const(np.float32(0.5)))
    score = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    score = net.op("Softmax", net.op("Add", score, net.const(net.random(1, 2, 5, 5))))
    mixed = net.op("Transpose", net.op("MatMul", score, v), perm=[0, 2, 1, 3], out="mixed")
    return net.op("MatMul", net.op("Reshape", mixed, net.const(np.array([2, 5, 8]))), net.const(net.random(8, 3)))


def einsum_attention(net: Net, scores: str, mix: str) -> str:
    """Two heads of four; queries are [batch, heads, tokens, dimensions]."""
    i, made = net.input(2, 5, 8), []
    for name in "qkv":
        x = net.op("Reshape", net.op("MatMul", i, net.const(net.random(8, 8)), out=name), net.const(np.array([2, 5, 2, 4])))
        made.append(net.op("Transpose", x, perm=[0, 2, 1, 3]))
    score = net.op("Softmax", net.op("Einsum", made[0], made[1], equation=scores))
    mixed = net.op("Reshape", net.op("Einsum", score, made[2], equation=mix), net.const(np.array([2, 5, 8])))
    return net.op("MatMul", mixed, net.const(net.random(8, 3)))


def grouped_query(net: Net) -> str:
    """Four heads of queries, two of keys and values, which Expand repeats."""
    i = net.input(2, 5, 8)
    q = net.op("Reshape", net.op("MatMul", i, net.const(net.random(8, 16)), out="q"), net.const(np.array([2, 5, 4, 4])))
    q = net.op("Transpose", q, perm=[0, 2, 1, 3])
    made = []
    for name in "kv":
        x = net.op("Reshape", net.op("MatMul", i, net.const(net.random(8, 8)), out=name), net.const(np.array([2, 5, 2, 4])))
        x = net.op("Unsqueeze", net.op("Transpose", x, perm=[0, 2, 1, 3]), net.const(np.array([2])))
        x = net.op("Expand", x, net.const(np.array([2, 2, 2, 5, 4])))
        made.append(net.op("Reshape", x, net.const(np.array([2, 4, 5, 4]))))
    score = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", made[0], perm=[0, 1, 3, 2])))
    mixed = net.op("Transpose", net.op("MatMul", score, made[1]), perm=[0, 2, 1, 3])
    return net.op("MatMul", net.op("Reshape", mixed, net.const(np.array([2, 5, 16]))), net.const(net.random(16, 3)))


def equal_vectors(net: Net) -> str:
    """Two layers whose biases are one initializer: their channels have nothing to do with each other."""
    i, b = images(net), net.const(net.random(6), "b")
    made = []
    for name in ("a", "c"):
        y = relu(net, net.op("Conv", i, net.const(net.random(6, 3, 3, 3)), b), name)
        net.widths[y] = 6
        made.append(head(net, y))
    return net.op("Add", *made)


def group_norm_lowered(net: Net) -> str:
    a = net.op("Reshape", net.conv(images(net), 6), net.const(np.array([0, 2, -1])))
    a = net.op("InstanceNormalization", a, net.const(np.ones(2)), net.const(np.zeros(2)))
    a = net.op("Reshape", a, net.const(np.array([0, 6, 6, 6])), out="a")
    net.widths[a] = 6
    return head(net, a)


def attention(net: Net) -> str:
    i = net.input(2, 5, 8)
    q, k, v = (net.op("MatMul", i, net.const(net.random(8, 8)), out=n) for n in "qkv")
    score = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])))
    return net.op("MatMul", net.op("MatMul", score, v), net.const(net.random(8, 3)))


def two_batches(net: Net) -> str:
    a = relu(net, net.conv(images(net), 6), "a")
    r = net.op("Reshape", a, net.const(np.array([12, 1, 6, 6])))
    net.widths[r] = 1
    r = net.op("Reshape", net.conv(r, 2, pad=1), net.const(np.array([2, 12, 6, 6])))
    net.widths[r] = 12
    return head(net, r)


def embedding(net: Net) -> str:
    ids = net.op("Cast", net.op("Abs", net.input(2, 7)), to=7)
    words = net.op("Gather", net.const(net.random(20, 8)), net.op("Mod", ids, net.const(np.array(20))), out="words")
    return net.op("MatMul", net.op("Tanh", words), net.const(net.random(8, 3)))
