"""The building blocks of random networks: each takes a feature map [N, C, 6, 6] and gives one, of any number of channels.

The batch may be open, so sizes in Reshape are 0 or -1 there. A block may add maps to the pool, which later blocks join.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.pruning.cases.case import ints, linear, wide
from tests.pruning.nets import Distinct

SIZE = 6
WIDEST = 24
Pool = list[str]
Block = Callable[[Distinct, str, Pool], str]


def some(net: Distinct, *values: int) -> int:
    return int(net.rng.choice(values))


def flip(net: Distinct) -> bool:
    return bool(net.rng.integers(2))


def any_of(net: Distinct, pool: Pool) -> str:
    return pool[int(net.rng.integers(len(pool)))]


def like(net: Distinct, x: str, pool: Pool) -> str:
    """A map as wide as ``x``: from the pool, or made."""
    same = [p for p in pool if net.widths[p] == net.widths[x]]
    return any_of(net, same) if same and net.rng.random() < 0.7 else net.conv(any_of(net, pool), net.widths[x], 1)


def shaped(net: Distinct, x: str, width: int, *sizes: int) -> str:
    return wide(net, net.op("Reshape", x, ints(net, *sizes)), width)


def factor(net: Distinct, width: int) -> int:
    """A true divisor of a width, or 1."""
    found = [g for g in (2, 3, 4) if width % g == 0 and width > g]
    return some(net, *found) if found else 1


# -- convolutions ------------------------------------------------------------------------------------------------------------


def conv(net: Distinct, x: str, pool: Pool) -> str:
    kernel = some(net, 1, 3)
    return net.conv(x, some(net, 4, 6, 8, 12), kernel, pad=kernel // 2, bias=flip(net))


def conv_norm(net: Distinct, x: str, pool: Pool) -> str:
    return net.op("Relu", net.bn(net.conv(x, some(net, 4, 6, 8), 3, pad=1, bias=False)))


def depthwise(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    return net.conv(x, c * (some(net, 1, 2) if c <= 12 else 1), 3, pad=1, group=c, bias=flip(net))


def grouped(net: Distinct, x: str, pool: Pool) -> str:
    group = factor(net, net.widths[x])
    return net.conv(x, group * some(net, 1, 2, 3), some(net, 1, 3), group=group, auto_pad="SAME_UPPER")


def grouped_twice(net: Distinct, x: str, pool: Pool) -> str:
    a = net.conv(net.conv(x, 12, 1), 12, 1, group=some(net, 2, 3))
    return net.conv(net.op("Relu", a), some(net, 6, 12), 1, group=some(net, 2, 3, 6))


def transposed(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    group = some(net, 1, factor(net, c), c)
    rows = some(net, 1, 2) if group > 4 else some(net, 2, 3)
    inputs = [x, net.const(net.random(c, rows, 2, 2)), *([net.const(net.random(rows * group))] if flip(net) else [])]
    made = wide(net, net.op("ConvTranspose", *inputs, group=group, strides=[2, 2]), rows * group)
    return net.op("AveragePool", made, kernel_shape=[2, 2], strides=[2, 2])


def shared(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    weight = net.const(net.random(c, c, 1, 1))
    return wide(net, net.op("Conv", net.op("Tanh", net.op("Conv", x, weight)), weight), c)


def shared_by_two(net: Distinct, x: str, pool: Pool) -> str:
    y = like(net, x, pool)
    weight = net.const(net.random(5, net.widths[x], 1, 1))
    return wide(net, net.op(str(net.rng.choice(["Add", "Mul"])), net.op("Conv", x, weight), net.op("Conv", y, weight)), 5)


def quantized_weight(net: Distinct, x: str, pool: Pool) -> str:
    c, width, axis = net.widths[x], some(net, 4, 6), some(net, 0, 1)
    values = net.rng.permutation(np.arange(-127, 128))[: width * c].reshape(width, c, 1, 1).astype(np.int8)
    scale = net.const(net.random((width, c)[axis], low=0.005, high=0.02))
    weight = net.op("DequantizeLinear", net.const(values), scale, net.const(np.zeros((width, c)[axis], np.int8)), axis=axis)
    return wide(net, net.op("Conv", x, weight), width)


def one_dimension(net: Distinct, x: str, pool: Pool) -> str:
    c, width = net.widths[x], some(net, 4, 6)
    flat = shaped(net, x, c, 0, c, -1)
    return shaped(net, net.conv(flat, width, (3,), pad=1), width, 0, width, SIZE, SIZE)


def three_dimensions(net: Distinct, x: str, pool: Pool) -> str:
    deep = wide(net, net.op("Unsqueeze", x, ints(net, 2)), net.widths[x])
    made = net.conv(deep, some(net, 4, 6), (1, 3, 3), pads=[0, 1, 1, 0, 1, 1])
    return wide(net, net.op("Squeeze", made, ints(net, 2)), net.widths[made])


# -- element by element ------------------------------------------------------------------------------------------------------


def activation(net: Distinct, x: str, pool: Pool) -> str:
    kind = str(
        net.rng.choice(["Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Softplus", "Erf", "Tanh", "Clip", "PRelu", "Identity"])
    )
    if kind == "PRelu":
        return net.op(kind, x, net.const(net.random(*((net.widths[x], 1, 1) if flip(net) else (1,)))))
    return net.op(kind, x, *([net.const(np.float32(0)), net.const(np.float32(6))] if kind == "Clip" else []))


def norm(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if flip(net):
        return net.bn(x)
    return net.op("InstanceNormalization", x, net.const(net.random(c)), net.const(net.random(c)))


def constant(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    shapes: list[tuple[int, ...]] = [(c, 1, 1), (1, c, 1, 1), (), (1,), (SIZE,), (c, SIZE, SIZE), (1, 1, SIZE, 1), (SIZE, SIZE)]
    other = net.const(net.random(*shapes[int(net.rng.integers(len(shapes)))]))
    return wide(net, net.op(str(net.rng.choice(["Add", "Mul", "Sub", "Max"])), *((x, other) if flip(net) else (other, x))), c)


def join(net: Distinct, x: str, pool: Pool) -> str:
    return net.op(str(net.rng.choice(["Add", "Add", "Mul", "Sub", "Max"])), x, like(net, x, pool))


def where(net: Distinct, x: str, pool: Pool) -> str:
    other = like(net, x, pool) if flip(net) else net.const(net.random(net.widths[x], 1, 1))
    return wide(net, net.op("Where", net.op("Less", x, net.const(np.float32(0.1))), other, x), net.widths[x])


def residual(net: Distinct, x: str, pool: Pool) -> str:
    inner = net.op("Relu", net.conv(x, some(net, 3, 4, 6), 3, pad=1))
    return net.op("Add", x, net.conv(inner, net.widths[x], 1))


# -- joins, splits, moves ----------------------------------------------------------------------------------------------------


def concat(net: Distinct, x: str, pool: Pool) -> str:
    parts = [x, *(any_of(net, pool) for _ in range(some(net, 1, 2)))]
    total = sum(net.widths[p] for p in parts)
    return x if total > WIDEST else wide(net, net.op("Concat", *parts, axis=some(net, 1, -3)), total)


def concat_itself(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    return x if c > WIDEST // 2 else wide(net, net.op("Concat", x, net.op("Neg", x) if flip(net) else x, axis=1), 2 * c)


def concat_rows(net: Distinct, x: str, pool: Pool) -> str:
    both = net.op("Concat", x, like(net, x, pool), axis=2)
    return net.op("MaxPool", both, kernel_shape=[2, 1], strides=[2, 1])


def split(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if c < 2:
        return x
    at = int(net.rng.integers(1, c))
    first = net.op("Split", x, ints(net, at, c - at), outputs=2, axis=1)
    pool.append(wide(net, f"{first}_1", c - at))
    return wide(net, first, at)


def c2f(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if c % 2 or c > 12:
        return x
    first = net.op("Split", x, outputs=2, axis=1)
    second = wide(net, f"{first}_1", c // 2)
    m = net.op("Add", second, net.op("Relu", net.conv(second, c // 2, 3, pad=1)))
    return wide(net, net.op("Concat", wide(net, first, c // 2), second, m, axis=1), 3 * c // 2)


def gated_halves(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if c % 2:
        return x
    first = net.op("Split", x, outputs=2, axis=1)
    return wide(net, net.op("Mul", first, net.op("Sigmoid", f"{first}_1")), c // 2)


def pick(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if flip(net):
        indices = net.rng.integers(-c, c, some(net, 2, 4, 6))
        return wide(net, net.op("Gather", x, net.const(indices), axis=1), len(indices))
    start, end, step = ((0, c, 2), (1, c, 1), (-1, -(2**40), -1))[some(net, 0, 1, 2)] if c > 1 else (0, 1, 1)
    width = len(range(c)[slice(start, None if end < -c else end, step)])
    return wide(net, net.op("Slice", x, *(ints(net, v) for v in (start, end, 1, step))), width)


def shuffle(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    group = factor(net, c)
    r = net.op("Transpose", shaped(net, x, c, 0, group, c // group, SIZE, SIZE), perm=[0, 2, 1, 3, 4])
    return shaped(net, r, c, 0, *((-1, SIZE, SIZE) if flip(net) else (c, SIZE, -1)))


def depth_to_space(net: Distinct, x: str, pool: Pool) -> str:
    wider = net.conv(x, some(net, 8, 12), 1)
    up = net.op("DepthToSpace", wider, blocksize=2, mode=str(net.rng.choice(["DCR", "CRD"])))
    return net.conv(wide(net, up, net.widths[wider] // 4), 4, 2, strides=[2, 2])


def lowered_shuffle(net: Distinct, x: str, pool: Pool) -> str:
    wider, c = net.conv(x, 12, 1), 3
    r = net.op("Transpose", shaped(net, wider, 12, 0, c, 2, 2, SIZE, SIZE), perm=[0, 1, 4, 2, 5, 3])
    return net.op("MaxPool", shaped(net, r, c, 0, c, 2 * SIZE, 2 * SIZE), kernel_shape=[2, 2], strides=[2, 2])


def space_to_depth(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if c > 6:
        return x
    down = wide(net, net.op("SpaceToDepth", x, blocksize=2), 4 * c)
    return net.op("Resize", net.conv(down, 6, 1), "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")


def resize(net: Distinct, x: str, pool: Pool) -> str:
    down = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.op("Resize", down, "", net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")


def pad(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    if flip(net):
        value = [net.const(np.float32(0.5))] if flip(net) else []
        return net.op("MaxPool", net.op("Pad", x, ints(net, 0, 0, 1, 0, 0, 0, 1, 2), *value), kernel_shape=[3, 3], strides=[1, 1])
    return wide(net, net.op("Pad", x, ints(net, 0, 1, 0, 0, 0, 2, 0, 0)), c + 3)


def tile(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    return x if c > WIDEST // 2 else wide(net, net.op("Tile", x, ints(net, 1, 2, 1, 1)), 2 * c)


def there_and_back(net: Distinct, x: str, pool: Pool) -> str:
    """Reshapes that split or join axes, with something in between, and their inverse."""
    c = net.widths[x]
    group = factor(net, c)
    first = ((0, 0, -1), (0, group, c // group, -1), (0, -1, SIZE), (0, c * SIZE * SIZE), (-1, 1, SIZE, SIZE))[
        some(net, 0, 1, 2, 3, 4)
    ]
    r = net.op("Sigmoid", shaped(net, x, c, *first))
    return shaped(net, r, c, -1 if first[0] == -1 else 0, c, SIZE, SIZE)


def crossed(net: Distinct, x: str, pool: Pool) -> str:
    """A Reshape that cuts across channels and pixels."""
    c = net.widths[x]
    r = shaped(net, x, c, 0, SIZE, c * SIZE)
    return shaped(net, net.op("Transpose", net.op("Abs", r), perm=[0, 2, 1]), c, 0, c, SIZE, SIZE)


def computed_sizes(net: Distinct, x: str, pool: Pool) -> str:
    """Sizes by Shape, the number of channels from Shape or written into the file."""
    c, shape = net.widths[x], net.op("Shape", x)
    n, mine = (net.op("Slice", shape, ints(net, k), ints(net, k + 1)) for k in (0, 1))
    flat = net.op("Reshape", x, net.op("Concat", n, mine if flip(net) else ints(net, c), ints(net, SIZE * SIZE), axis=0))
    sizes = net.op("Concat", n, mine if flip(net) else ints(net, c), ints(net, SIZE, SIZE), axis=0)
    return wide(net, net.op("Reshape", net.op("Relu", flat), sizes), c)


# -- what looks along an axis ------------------------------------------------------------------------------------------------


def pooled(net: Distinct, x: str, pool: Pool) -> str:
    return net.op(str(net.rng.choice(["MaxPool", "AveragePool"])), x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])


def excite(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    s = net.op("ReduceMean", x, axes=[2, 3]) if flip(net) else net.op("GlobalAveragePool", x)
    s = net.conv(net.op("Relu", net.conv(wide(net, s, c), 4, 1)), c, 1)
    return wide(net, net.op("Mul", *((x, net.op("Sigmoid", s)) if flip(net) else (net.op("HardSigmoid", s), x))), c)


def excite_dense(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    s = net.op("Relu", linear(net, net.op("ReduceMean", x, axes=[2, 3], keepdims=0), c, 4))
    s = net.op("Unsqueeze", net.op("Sigmoid", linear(net, s, 4, c)), ints(net, 2, 3))
    return wide(net, net.op("Mul", x, s), c)


def gate(net: Distinct, x: str, pool: Pool) -> str:
    return wide(net, net.op("Mul", x, net.op("Sigmoid", net.conv(x, 1, 1))), net.widths[x])


def gate_of_mean(net: Distinct, x: str, pool: Pool) -> str:
    kind = str(net.rng.choice(["ReduceMean", "ReduceMax", "ReduceL2", "ReduceSum"]))
    mean = net.op(kind, x, ints(net, 1)) if kind == "ReduceSum" else net.op(kind, x, axes=[1])
    return wide(net, net.op("Mul", x, net.op("Sigmoid", net.conv(wide(net, mean, 1), 1, 1))), net.widths[x])


def expanded(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    pooled = net.op("GlobalAveragePool", x)
    return wide(net, net.op("Expand", pooled, ints(net, 1, c if flip(net) else 1, SIZE, SIZE)), c)


def along(net: Distinct, x: str, pool: Pool) -> str:
    kind, axis = str(net.rng.choice(["Softmax", "CumSum", "LRN", "LpNormalization"])), some(net, 1, 2, 3, 3)
    if kind == "LRN":
        return net.op(kind, x, size=3) if axis == 1 else x
    return net.op(kind, x, net.const(np.array(axis))) if kind == "CumSum" else net.op(kind, x, axis=axis)


def group_norm(net: Distinct, x: str, pool: Pool) -> str:
    c = net.widths[x]
    group = factor(net, c)
    ones, zeros = net.const(np.ones(group)), net.const(np.zeros(group))
    n = shaped(net, net.op("InstanceNormalization", shaped(net, x, c, 0, group, -1), ones, zeros), c, 0, c, SIZE, SIZE)
    return wide(net, net.op("Add", net.op("Mul", n, net.const(net.random(c, 1, 1))), net.const(net.random(c, 1, 1))), c)


def layer_norm(net: Distinct, x: str, pool: Pool) -> str:
    """Channels last, normalised by one operator or by many, and back."""
    c = net.widths[x]
    t = net.op("Transpose", x, perm=[0, 2, 3, 1])
    if flip(net):
        n = net.op("LayerNormalization", t, net.const(net.random(c)), net.const(net.random(c)))
    else:
        mean = net.op("ReduceMean", net.op("Mul", t, t), axes=[-1])
        n = net.op(
            "Mul", net.op("Div", t, net.op("Sqrt", net.op("Add", mean, net.const(np.float32(1e-3))))), net.const(net.random(c))
        )
    return wide(net, net.op("Transpose", n, perm=[0, 3, 1, 2]), c)


def unknown(net: Distinct, x: str, pool: Pool) -> str:
    return net.op("Einsum", x, equation="nchw->nchw")


# -- tokens ------------------------------------------------------------------------------------------------------------------


def _tokens(net: Distinct, x: str) -> str:
    c = net.widths[x]
    return net.op("Transpose", shaped(net, x, c, 0, c, SIZE * SIZE), perm=[0, 2, 1])


def _map(net: Distinct, tokens: str, c: int) -> str:
    return shaped(net, net.op("Transpose", tokens, perm=[0, 2, 1]), c, 0, c, SIZE, SIZE)


def mlp(net: Distinct, x: str, pool: Pool) -> str:
    c, t = net.widths[x], _tokens(net, x)
    h = net.op("Erf", linear(net, t, c, 8))
    if flip(net):
        h = net.op("Mul", h, net.op("Sigmoid", linear(net, t, c, 8)))
    return _map(net, net.op("Add", t, linear(net, h, 8, c)), c)


def channels_last(net: Distinct, x: str, pool: Pool) -> str:
    t = net.op("Transpose", x, perm=[0, 2, 3, 1])
    return wide(net, net.op("Transpose", net.op("Relu", linear(net, t, net.widths[x], 6)), perm=[0, 3, 1, 2]), 6)


def attention(net: Distinct, x: str, pool: Pool) -> str:
    """Two heads of four dimensions; queries, keys and values apart, fused and split, or with keys and values for one head only."""
    c, heads, size, kind = net.widths[x], 2, 4, some(net, 0, 1, 2)
    t = _tokens(net, x)

    def headed(y: str, count: int = heads) -> str:
        return net.op("Transpose", net.op("Reshape", y, ints(net, 0, 0, count, size)), perm=[0, 2, 1, 3])

    if kind == 1:
        first = net.op("Split", linear(net, t, c, 24), ints(net, 8, 8, 8), outputs=3, axis=2)
        q, k, v = (headed(y) for y in (first, f"{first}_1", f"{first}_2"))
    else:
        one = 1 if kind == 2 else heads
        q, k, v = (
            headed(linear(net, t, c, 8)),
            headed(linear(net, t, c, size * one), one),
            headed(linear(net, t, c, size * one), one),
        )
        if kind == 2:
            k, v = (net.op("Expand", y, ints(net, 1, heads, 1, 1)) for y in (k, v))
    score = net.op("Mul", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2])), net.const(np.float32(0.5)))
    if flip(net):
        score = net.op("Add", score, net.const(net.random(1, heads, SIZE * SIZE, SIZE * SIZE)))
    made = net.op("Transpose", net.op("MatMul", net.op("Softmax", score, axis=-1), v), perm=[0, 2, 1, 3])
    out = linear(net, net.op("Reshape", made, ints(net, 0, 0, heads * size)), heads * size, c)
    return _map(net, net.op("Add", t, out) if flip(net) else out, c)


def windows(net: Distinct, x: str, pool: Pool) -> str:
    """Rolled, cut into windows of 3 by 3, an MLP within each, and back."""
    c = net.widths[x]
    t = net.op("Transpose", x, perm=[0, 2, 3, 1])
    parts = (net.op("Slice", t, *(ints(net, v) for v in (a, b, 1))) for a, b in ((1, SIZE), (0, 1)))
    r = net.op(
        "Transpose", net.op("Reshape", net.op("Concat", *parts, axis=1), ints(net, 0, 2, 3, 2, 3, c)), perm=[0, 1, 3, 2, 4, 5]
    )
    w = linear(net, net.op("Relu", linear(net, net.op("Reshape", r, ints(net, -1, 9, c)), c, 6)), 6, c)
    r = net.op("Transpose", net.op("Reshape", w, ints(net, -1, 2, 2, 3, 3, c)), perm=[0, 1, 3, 2, 4, 5])
    back = net.op("Add", net.op("Reshape", r, ints(net, -1, SIZE, SIZE, c)), t)
    return wide(net, net.op("Transpose", back, perm=[0, 3, 1, 2]), c)


def recurrent(net: Distinct, x: str, pool: Pool) -> str:
    """Over the tokens, as a sequence [L, N, C]."""
    c, kind, count = net.widths[x], str(net.rng.choice(["LSTM", "GRU"])), some(net, 1, 2)
    gates, hidden = (4 if kind == "LSTM" else 3), 3
    sequence = net.op("Transpose", _tokens(net, x), perm=[1, 0, 2])
    weights = [net.const(net.random(count, gates * hidden, k)) for k in (c, hidden)]
    bias = [net.const(net.random(count, 2 * gates * hidden))] if flip(net) else []
    y = net.op(kind, sequence, *weights, *bias, hidden_size=hidden, direction="bidirectional" if count == 2 else "forward")
    flat = net.op("Reshape", net.op("Transpose", y, perm=[2, 0, 1, 3]), ints(net, 0, 0, -1))
    return _map(net, flat, count * hidden)


BLOCKS: tuple[Block, ...] = (
    *(
        conv,
        conv,
        conv,
        conv_norm,
        conv_norm,
        depthwise,
        grouped,
        grouped_twice,
        transposed,
        shared,
        shared_by_two,
        quantized_weight,
    ),
    *(
        one_dimension,
        three_dimensions,
        activation,
        activation,
        norm,
        constant,
        join,
        join,
        where,
        residual,
        residual,
        concat,
        concat,
    ),
    *(concat_itself, concat_rows, split, c2f, gated_halves, pick, shuffle, depth_to_space, lowered_shuffle, space_to_depth, resize),
    *(pad, tile, there_and_back, crossed, computed_sizes, pooled, excite, excite_dense, gate, gate_of_mean, expanded, along),
    *(group_norm, layer_norm, unknown, mlp, channels_last, attention, windows, recurrent),
)
