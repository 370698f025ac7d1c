"""Normalisations, what looks along channels, attention, recurrence, control flow, quantizers, types."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.pruning.cases.case import Case, conv, head, image, ints, linear, relu, wide
from tests.pruning.nets import Distinct


def _tokens(net: Distinct, width: int = 8, length: int = 5) -> str:
    return net.input(2, length, width)


def layer_norm(net: Distinct) -> str:
    h = linear(net, _tokens(net), 8, 6, "h")
    n = net.op("LayerNormalization", h, net.const(net.random(6)), net.const(net.random(6)))
    return linear(net, net.op("Tanh", linear(net, n, 6, 10), out="mlp"), 10, 3)


def layer_norm_in_nine(net: Distinct, *, mean: bool = True) -> str:
    """As older exporters write it; without the mean it is RMSNorm."""
    h = linear(net, _tokens(net), 8, 6, "h")
    centred = net.op("Sub", h, net.op("ReduceMean", h, axes=[-1])) if mean else h
    square = net.op("Pow", centred, net.const(np.float32(2)))
    deviation = net.op("Sqrt", net.op("Add", net.op("ReduceMean", square, axes=[-1]), net.const(np.float32(1e-5))))
    n = net.op("Add", net.op("Mul", net.op("Div", centred, deviation), net.const(net.random(6))), net.const(net.random(6)))
    return linear(net, n, 6, 3)


def rms_norm(net: Distinct) -> str:
    h = linear(net, _tokens(net), 8, 6, "h")
    return linear(net, net.op("RMSNormalization", h, net.const(net.random(6))), 6, 3)


def group_norm_lowered(net: Distinct) -> str:
    """Reshape to groups, normalise each, shape back, scale and shift channels."""
    a = net.conv(image(net), 8, pad=1)
    flat = net.op("Reshape", named(net, a, "a"), ints(net, 0, 4, -1))
    n = net.op("InstanceNormalization", flat, net.const(np.ones(4)), net.const(np.zeros(4)))
    n = net.op("Reshape", n, net.op("Shape", "a"))
    n = net.op("Add", net.op("Mul", n, net.const(net.random(8, 1, 1))), net.const(net.random(8, 1, 1)))
    return head(net, wide(net, relu(net, n), 8))


def named(net: Distinct, x: str, name: str) -> str:
    return net.op("Identity", x, out=name)


def instance_norm(net: Distinct) -> str:
    a = net.conv(image(net), 6)
    return head(net, net.op("InstanceNormalization", a, net.const(net.random(6)), net.const(net.random(6)), out="a"))


def instance_norm_lowered(net: Distinct) -> str:
    a = named(net, net.conv(image(net), 6), "a")
    centred = net.op("Sub", a, net.op("ReduceMean", a, axes=[2, 3]))
    variance = net.op("ReduceMean", net.op("Mul", centred, centred), axes=[2, 3])
    n = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.const(np.float32(1e-5)))))
    return head(net, wide(net, net.op("Mul", n, net.const(net.random(6, 1, 1)), out="n"), 6))


def grouped_after_norm(net: Distinct) -> str:
    """A grouped convolution whose input cannot shrink, as in AlexNet."""
    a = conv(net, image(net), 8, "a")
    return head(net, conv(net, wide(net, net.op("LRN", a, size=3), 8), 6, "g", group=2))


def along(net: Distinct, kind: str, axis: int) -> str:
    a = net.conv(image(net, size=6), 6, pad=1)
    if kind == "CumSum":
        return head(net, net.op(kind, named(net, a, "a"), net.const(np.array(axis))))
    if kind == "LRN":
        return head(net, net.op(kind, named(net, a, "a"), size=3))
    if kind == "TopK":
        net.op(kind, named(net, a, "a"), ints(net, 3), outputs=2, out="top", axis=axis)
        return head(net, wide(net, "top", 3 if axis == 1 else 6))
    if kind == "ArgMax":
        return net.conv(wide(net, net.op("Cast", net.op(kind, named(net, a, "a"), axis=axis), to=1), 1 if axis == 1 else 6), 4, 1)
    if kind.startswith("Reduce"):
        return head(net, wide(net, net.op(kind, named(net, a, "a"), axes=[axis], keepdims=1), 1 if axis == 1 else 6))
    return head(net, net.op(kind, named(net, a, "a"), axis=axis))


# -- attention: 5 tokens of 8 features, 2 heads of 6 -------------------------------------------------------------------------

_HEADS, _SIZE = 2, 6


def _heads(net: Distinct, x: str, name: str, *, key: bool = False, heads: int = _HEADS) -> str:
    r = net.op("Reshape", x, ints(net, 2, 5, heads, _SIZE))
    return net.op("Transpose", r, perm=[0, 2, 3, 1] if key else [0, 2, 1, 3], out=name)


def _attend(net: Distinct, q: str, kt: str, v: str, bias: str = "") -> str:
    score = net.op("Mul", net.op("MatMul", q, kt), net.const(np.float32(_SIZE**-0.5)))
    score = net.op("Add", score, bias) if bias else score
    made = net.op("MatMul", net.op("Softmax", score, axis=-1), v)
    made = net.op("Transpose", made, perm=[0, 2, 1, 3])
    return linear(net, net.op("Reshape", made, ints(net, 2, 5, _HEADS * _SIZE), out="joined"), _HEADS * _SIZE, 3)


def separate_qkv(net: Distinct, *, bias: bool = False) -> str:
    i = _tokens(net)
    q, k, v = (linear(net, i, 8, _HEADS * _SIZE, n) for n in "qkv")
    table = net.const(net.random(1, _HEADS, 5, 5)) if bias else ""
    return _attend(net, _heads(net, q, "qh"), _heads(net, k, "kh", key=True), _heads(net, v, "vh"), table)


def by_einsum(net: Distinct, heads: int = _HEADS) -> str:
    """Scores and mixing by Einsum; fewer heads of keys and values are spread over those of queries."""
    i = _tokens(net)
    count = {"q": _HEADS, "k": heads, "v": heads}
    q, k, v = (_heads(net, linear(net, i, 8, m * _SIZE, n), f"{n}h", heads=m) for n, m in count.items())
    score = net.op(
        "Softmax", net.op("Einsum", q, k, equation="bhid, bhjd -> bhij" if heads == _HEADS else "...id,...jd->...ij"), axis=-1
    )
    made = net.op("Einsum", score, v, equation="...ij,...jd->...id")
    made = net.op("Transpose", made, perm=[0, 2, 1, 3])
    return linear(net, net.op("Reshape", made, ints(net, 2, 5, _HEADS * _SIZE), out="joined"), _HEADS * _SIZE, 3)


def fused_split(net: Distinct) -> str:
    i, width = _tokens(net), _HEADS * _SIZE
    net.op("Split", linear(net, i, 8, 3 * width, "qkv"), ints(net, width, width, width), out="q", outputs=3, axis=2)
    return _attend(net, _heads(net, "q", "qh"), _heads(net, "q_1", "kh", key=True), _heads(net, "q_2", "vh"))


def fused_gather(net: Distinct) -> str:
    """[N, L, 3, heads, d], transposed, and three Gathers along the first axis."""
    i, width = _tokens(net), _HEADS * _SIZE
    r = net.op("Reshape", linear(net, i, 8, 3 * width, "qkv"), ints(net, 2, 5, 3, _HEADS, _SIZE))
    r = net.op("Transpose", r, perm=[2, 0, 3, 1, 4])
    q, k, v = (net.op("Gather", r, net.const(np.array(n)), axis=0, out=f"{t}h") for n, t in enumerate("qkv"))
    return _attend(net, q, net.op("Transpose", k, perm=[0, 1, 3, 2]), v)


def fused_in_heads(net: Distinct) -> str:
    """[N, L, heads, 3 d], and a Split within every head."""
    i, width = _tokens(net), _HEADS * _SIZE
    r = net.op("Reshape", linear(net, i, 8, 3 * width, "qkv"), ints(net, 2, 5, _HEADS, 3 * _SIZE))
    r = net.op("Transpose", r, perm=[0, 2, 1, 3])
    net.op("Split", r, ints(net, _SIZE, _SIZE, _SIZE), out="q", outputs=3, axis=-1)
    return _attend(net, "q", net.op("Transpose", "q_1", perm=[0, 1, 3, 2]), "q_2")


def one_target(net: Distinct) -> str:
    """The heads' sizes are joined once, for queries, keys and values, with a batch of any size."""
    i = net.input("n", 5, 8)
    count = net.op("Gather", net.op("Shape", i), ints(net, 0))
    target = net.op("Concat", count, ints(net, 5, _HEADS, _SIZE), axis=0)
    q, k, v = (net.op("Reshape", linear(net, i, 8, _HEADS * _SIZE, n), target) for n in "qkv")
    score = net.op("MatMul", net.op("Transpose", q, perm=[0, 2, 1, 3]), net.op("Transpose", k, perm=[0, 2, 3, 1]))
    made = net.op("MatMul", net.op("Softmax", score, axis=-1), net.op("Transpose", v, perm=[0, 2, 1, 3]))
    made = net.op("Reshape", net.op("Transpose", made, perm=[0, 2, 1, 3]), net.op("Concat", count, ints(net, 5, -1), axis=0))
    return linear(net, made, _HEADS * _SIZE, 3)


def heads_beside_batch(net: Distinct) -> str:
    """[L, N, heads d] as [L, N heads, d], all by one computed target, of which keys and values may need different ones."""
    i = net.input("l", "n", 8)
    length, batch = (net.op("Gather", net.op("Shape", i), ints(net, k)) for k in range(2))
    target = net.op("Concat", length, net.op("Mul", batch, ints(net, _HEADS)), ints(net, _SIZE), axis=0)
    q, k, v = (net.op("Reshape", linear(net, i, 8, _HEADS * _SIZE, n), target) for n in "qkv")
    score = net.op("MatMul", net.op("Transpose", q, perm=[1, 0, 2]), net.op("Transpose", k, perm=[1, 2, 0]))
    made = net.op("MatMul", net.op("Softmax", score, axis=-1), net.op("Transpose", v, perm=[1, 0, 2]))
    rows = net.op("Concat", net.op("Mul", length, batch), ints(net, _HEADS * _SIZE), axis=0)
    return linear(net, net.op("Reshape", net.op("Transpose", made, perm=[1, 0, 2]), rows), _HEADS * _SIZE, 3)


def grouped_query(net: Distinct) -> str:
    """One head of keys and values for two heads of queries, by Expand."""
    i = _tokens(net)
    q = _heads(net, linear(net, i, 8, _HEADS * _SIZE, "q"), "qh")
    shape = ints(net, 2, _HEADS, 5, _SIZE)
    k, v = (net.op("Expand", _heads(net, linear(net, i, 8, _SIZE, n), f"{n}h", heads=1), shape) for n in "kv")
    return _attend(net, q, net.op("Transpose", k, perm=[0, 1, 3, 2]), v)


def rotary(net: Distinct) -> str:
    """Halves of a head are turned into each other by position: two of its features go together."""
    i, half = _tokens(net), _SIZE // 2
    cos, sin = (net.const(net.random(1, 1, 5, half)) for _ in range(2))

    def turned(x: str) -> str:
        first, second = (net.op("Slice", x, ints(net, a), ints(net, b), ints(net, 3)) for a, b in ((0, half), (half, _SIZE)))
        real = net.op("Sub", net.op("Mul", first, cos), net.op("Mul", second, sin))
        imaginary = net.op("Add", net.op("Mul", first, sin), net.op("Mul", second, cos))
        return net.op("Concat", real, imaginary, axis=-1)

    q, k, v = (_heads(net, linear(net, i, 8, _HEADS * _SIZE, n), f"{n}h") for n in "qkv")
    return _attend(net, turned(q), net.op("Transpose", turned(k), perm=[0, 1, 3, 2]), v)


def swin(net: Distinct) -> str:
    """A feature map rolled, cut into windows, attended within, put together and rolled back, beside its shortcut."""
    x = net.op("Transpose", net.conv(image(net), 6, 1), perm=[0, 2, 3, 1], out="map")
    rolled = net.op("Concat", *(net.op("Slice", x, ints(net, a), ints(net, b), ints(net, 1)) for a, b in ((2, 8), (0, 2))), axis=1)
    r = net.op("Reshape", rolled, ints(net, 2, 2, 4, 2, 4, 6))
    w = net.op("Reshape", net.op("Transpose", r, perm=[0, 1, 3, 2, 4, 5]), ints(net, 8, 16, 6))
    q, k, v = (linear(net, w, 6, 8, n) for n in "qkv")
    q, v = (net.op("Transpose", net.op("Reshape", t, ints(net, 8, 16, 2, 4)), perm=[0, 2, 1, 3]) for t in (q, v))
    k = net.op("Transpose", net.op("Reshape", k, ints(net, 8, 16, 2, 4)), perm=[0, 2, 3, 1])
    score = net.op("Add", net.op("MatMul", q, k), net.const(net.random(1, 2, 16, 16)))
    score, barrier = net.op("Reshape", score, ints(net, 2, 4, 2, 16, 16)), net.const(net.random(1, 4, 1, 16, 16))
    score = net.op("Reshape", net.op("Add", score, barrier), ints(net, -1, 2, 16, 16))
    a = net.op("Transpose", net.op("MatMul", net.op("Softmax", score, axis=-1), v), perm=[0, 2, 1, 3])
    a = linear(net, net.op("Reshape", a, ints(net, 8, 16, 8)), 8, 6)
    r = net.op("Transpose", net.op("Reshape", a, ints(net, 2, 2, 2, 4, 4, 6)), perm=[0, 1, 3, 2, 4, 5])
    back = net.op("Reshape", r, ints(net, 2, 8, 8, 6))
    back = net.op("Concat", *(net.op("Slice", back, ints(net, a), ints(net, b), ints(net, 1)) for a, b in ((6, 8), (0, 6))), axis=1)
    return linear(net, net.op("Add", x, back, out="sum"), 6, 4)


def lstm_cell(net: Distinct) -> str:
    """One step of a convolutional LSTM: its state comes in from outside, and so does the width of all gates."""
    x, state = net.input(2, 3, 8, 8), net.input(2, 4, 8, 8, name="state")
    net.op("Split", net.conv(x, 12, 1), ints(net, 4, 4, 4), axis=1, outputs=3, out="g")
    kept = net.op("Mul", net.op("Sigmoid", "g"), state)
    new = net.op("Add", kept, net.op("Mul", net.op("Sigmoid", "g_1"), net.op("Tanh", "g_2")))
    return head(net, wide(net, new, 4))


def mlp(net: Distinct) -> str:
    h = net.op("Erf", linear(net, _tokens(net), 8, 12), out="h")
    return linear(net, h, 12, 3)


def gated_mlp(net: Distinct) -> str:
    i = _tokens(net)
    gate = net.op("Sigmoid", linear(net, i, 8, 12, "g"))
    return linear(net, net.op("Mul", gate, linear(net, i, 8, 12, "u"), out="h"), 12, 3)


# -- recurrence and control flow ---------------------------------------------------------------------------------------------


def recurrent(net: Distinct, kind: str, direction: str = "forward") -> str:
    gates, count = (4 if kind == "LSTM" else 3), 2 if direction == "bidirectional" else 1
    x = net.op("Tanh", linear(net, net.input(5, 2, 4), 4, 6), out="x0")
    weights = [net.const(net.random(count, gates * 7, k)) for k in (6, 7)]
    net.op(kind, x, *weights, net.const(net.random(count, 2 * gates * 7)), out="y", outputs=2, hidden_size=7, direction=direction)
    flat = net.op("Reshape", net.op("Transpose", "y", perm=[0, 2, 1, 3]), ints(net, 0, 0, -1))
    return linear(net, flat, 7 * count, 3)


def capturing_if(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    b = conv(net, a, 4, "b")
    test = net.op("Greater", net.op("ReduceSum", "x", keepdims=0), net.const(np.float32(0)))
    bodies = {}
    for branch, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        value = helper.make_tensor_value_info(op, TensorProto.FLOAT, None)
        bodies[branch] = helper.make_graph([helper.make_node(op, ["a"], [op])], branch, [], [value])
    picked = wide(net, net.op("If", test, out="picked", **bodies), 6)
    return net.op("Add", head(net, b), net.conv(picked, 5, 1))


def capturing_loop(net: Distinct, kind: str) -> str:
    a = conv(net, image(net), 6, "a")
    c = head(net, conv(net, a, 4, "b"))
    zero = net.const(net.random(2, 6, 1, 1))
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 6, 1, 1])
    out = helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 6, 1, 1])
    nodes = [helper.make_node("ReduceMean", ["a"], ["m"], axes=[2, 3]), helper.make_node("Add", ["state", "m"], ["next"])]
    if kind == "Loop":
        number, go = (helper.make_tensor_value_info(n, t, []) for n, t in (("k", TensorProto.INT64), ("go", TensorProto.BOOL)))
        again = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
        nodes.append(helper.make_node("Identity", ["go"], ["again"]))
        body = helper.make_graph(nodes, "body", [number, go, state], [again, out])
        s = net.op("Loop", net.const(np.array(3)), net.const(np.array(True)), zero, out="s", body=body)
    else:
        step = helper.make_tensor_value_info("step", TensorProto.FLOAT, [])
        seen = helper.make_tensor_value_info("seen", TensorProto.FLOAT, [])
        nodes.append(helper.make_node("Identity", ["step"], ["seen"]))
        body = helper.make_graph(nodes, "body", [state, step], [out, seen])
        s = net.op("Scan", zero, net.const(net.random(3)), out="s", outputs=2, body=body, num_scan_inputs=1)
    return net.op("Add", c, net.conv(wide(net, net.op("Reshape", s, ints(net, 2, 6, 1, 1)), 6), 5, 1))


def quantized(net: Distinct, axis: int) -> str:
    """Weights in int8, with a scale for each output channel (axis 0) or each input channel (axis 1)."""
    a = conv(net, image(net, 4), 6, "a")
    q = net.op("DequantizeLinear", net.op("QuantizeLinear", a, _scalar(net, 0.05), _zero(net)), _scalar(net, 0.05), _zero(net))
    weight = net.const(net.rng.permutation(np.arange(-120, 120))[: 8 * 6].reshape(8, 6, 1, 1).astype(np.int8))
    scale = net.const(net.random(8 if axis == 0 else 6, low=0.01, high=0.1))
    w = net.op("DequantizeLinear", weight, scale, net.const(np.zeros(8 if axis == 0 else 6, np.int8)), axis=axis, out="w")
    made = wide(net, net.op("Conv", q, w, out="b"), 8)
    return head(net, relu(net, made))


def _scalar(net: Distinct, value: float) -> str:
    return net.const(np.float32(value))


def _zero(net: Distinct) -> str:
    return net.const(np.uint8(3))


def quantized_activations(net: Distinct) -> str:
    """A scale for each channel of an activation."""
    a = conv(net, image(net), 6, "a")
    scale, zero = net.const(net.random(6, low=0.01, high=0.1)), net.const(np.arange(1, 7, dtype=np.uint8))
    return head(net, net.op("DequantizeLinear", net.op("QuantizeLinear", a, scale, zero, axis=1), scale, zero, axis=1))


def constant_nodes(net: Distinct) -> str:
    i = image(net)
    for name, shape in (("w", (6, 3, 3, 3)), ("b", (6,)), ("v", (5, 6, 1, 1))):
        value = numpy_helper.from_array(net.random(*shape).astype(np.float32))
        net.nodes.append(helper.make_node("Constant", [], [name], value=value))
    return wide(net, net.op("Conv", relu(net, net.op("Conv", i, "w", "b"), "a"), "v"), 5)


def unknown(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    e = net.op("Einsum", a, equation="nchw->nchw")
    return head(net, conv(net, e, 4, "b"))


def gather_by_data(net: Distinct) -> str:
    a = conv(net, image(net), 6, "a")
    order = net.op("ArgMax", net.op("ReduceMean", "x", axes=[0, 2, 3], keepdims=0), axis=0, keepdims=1)
    return net.conv(wide(net, net.op("Gather", a, order, axis=1), 1), 2, 1)


def half(net: Distinct) -> str:
    a = relu(net, net.bn(net.conv(image(net), 8, pad=1)), "spine")
    return head(net, net.op("Add", net.conv(conv(net, a, 6, "inner"), 8, pad=1), a))


def small_group(net: Distinct) -> str:
    return head(net, conv(net, conv(net, image(net), 6, "a"), 16, "b"))


_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare")

CASES: dict[str, Case] = {
    "LayerNorm fused": Case(layer_norm, {"mlp": 10}, {"h": "normalised"}),
    "LayerNorm in nine nodes": Case(layer_norm_in_nine, frozen={"h": "reduced"}),
    "RMSNorm in nodes": Case(lambda n: layer_norm_in_nine(n, mean=False), frozen={"h": "reduced"}),
    "RMSNorm fused": Case(rms_norm, frozen={"h": "normalised"}, opset=23),
    "GroupNorm lowered, groups go as a whole": Case(group_norm_lowered, {"a": 8}),
    "InstanceNorm": Case(instance_norm, {"a": 6}),
    "InstanceNorm lowered": Case(instance_norm_lowered, {"a": 6, "n": 6}),
    "LRN": Case(lambda n: along(n, "LRN", 1), frozen={"a": "normalised"}),
    "grouped after LRN": Case(grouped_after_norm, {"g": 6}, {"a": "normalised"}),
    "Softmax over channels": Case(lambda n: along(n, "Softmax", 1), frozen={"a": "along-axis"}),
    "Softmax over pixels": Case(lambda n: along(n, "Softmax", 3), {"a": 6}),
    "Softmax before opset 13": Case(lambda n: along(n, "Softmax", 2), {"a": 6}, opset=12),
    "ArgMax over channels": Case(lambda n: along(n, "ArgMax", 1), frozen={"a": "along-axis"}),
    "ArgMax over pixels": Case(lambda n: along(n, "ArgMax", 3), {"a": 6}),
    "TopK over channels": Case(lambda n: along(n, "TopK", 1), frozen={"a": "along-axis"}),
    "TopK over pixels": Case(lambda n: along(n, "TopK", 3), {"a": 6}),
    "CumSum over channels": Case(lambda n: along(n, "CumSum", 1), frozen={"a": "along-axis"}),
    "CumSum over pixels": Case(lambda n: along(n, "CumSum", -2), {"a": 6}),
    **{f"{k} over channels": Case(lambda n, k=k: along(n, k, 1), frozen={"a": "reduced"}) for k in _REDUCTIONS},
    **{f"{k} over pixels": Case(lambda n, k=k: along(n, k, -1), {"a": 6}) for k in _REDUCTIONS},
    "separate QKV": Case(separate_qkv, {"q": 12, "k": 12, "v": 12}, together=(("q", "k"), ("v", "joined"))),
    "relative bias": Case(
        lambda n: separate_qkv(n, bias=True), {"q": 12, "k": 12, "v": 12}, together=(("q", "k"), ("v", "joined"))
    ),
    "QKV by Einsum": Case(by_einsum, {"q": 12, "k": 12, "v": 12}, together=(("q", "k"), ("v", "joined"))),
    "one head of keys by Einsum": Case(
        lambda n: by_einsum(n, heads=1), {"q": 12, "k": 6, "v": 6}, together=(("qh", "kh"), ("vh", "joined"))
    ),
    "fused QKV by Split": Case(fused_split, {"qkv": 36, "q": 12, "q_1": 12, "q_2": 12}, together=(("q", "q_1"), ("q_2", "joined"))),
    "fused QKV by Gather": Case(fused_gather, {"qkv": 36}, together=(("qh", "kh"), ("vh", "joined"))),
    "fused QKV within heads": Case(fused_in_heads, {"qkv": 36}, together=(("q", "q_1"), ("q_2", "joined"))),
    "QKV in one shape": Case(one_target, {"q": 12, "k": 12, "v": 12}, together=(("q", "k"),)),
    "heads beside the batch": Case(heads_beside_batch, {"q": 12, "k": 12, "v": 12}, together=(("q", "k"),)),
    "grouped-query Expand": Case(grouped_query, {"q": 12, "k": 6, "v": 6}, together=(("q", "k"), ("v", "joined"))),
    "rotary positions": Case(rotary, {"q": 12, "k": 12, "v": 12}, together=(("q", "k"), ("v", "joined"))),
    "Swin: roll and windows": Case(swin, {"map": 6, "q": 8, "k": 8, "v": 8}, together=(("map", "sum"), ("q", "k"))),
    "MLP": Case(mlp, {"h": 12}),
    "gated MLP": Case(gated_mlp, {"h": 12}, together=(("g", "u", "h"),)),
    "ConvLSTM cell": Case(lstm_cell, frozen=dict.fromkeys(("g", "g_1", "g_2"), "graph-input")),
    "LSTM": Case(lambda n: recurrent(n, "LSTM"), {"x0": 6, "y": 7}),
    "LSTM in two directions": Case(lambda n: recurrent(n, "LSTM", "bidirectional"), {"x0": 6, "y": 7}),
    "GRU": Case(lambda n: recurrent(n, "GRU"), {"x0": 6, "y": 7}),
    "If capturing": Case(capturing_if, {"b": 4}, {"a": "captured"}),
    "Loop capturing": Case(lambda n: capturing_loop(n, "Loop"), {"b": 4}, {"a": "captured"}),
    "Scan capturing": Case(lambda n: capturing_loop(n, "Scan"), {"b": 4}, {"a": "captured"}),
    "quantized weights, axis 0": Case(lambda n: quantized(n, 0), {"a": 6, "b": 8}),
    "quantized weights, axis 1": Case(lambda n: quantized(n, 1), {"a": 6, "b": 8}),
    "quantized activations, axis 1": Case(quantized_activations, {"a": 6}),
    "weights in Constant nodes": Case(constant_nodes, {"a": 6}),
    "an unknown operator": Case(unknown, {"b": 4}, {"a": "unknown-operator"}),
    "indices from data": Case(gather_by_data, frozen={"a": "data-dependent"}),
    "float16": Case(half, {"spine": 8, "inner": 6}, half=True),
    "a group smaller than the multiple": Case(small_group, {"a": 6, "b": 16}),
}  # fmt: skip
