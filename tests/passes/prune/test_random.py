"""Random networks from all building blocks, random masks: never a crash, never another output than the masked original's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nets import Net
from tests.passes.prune.oracle import TOLERANCE, channels_of, distance, prune, random_removal

SIZE = 6
Block = Callable[[Net, str, list[str]], str]


def _width(net: Net, name: str, width: int) -> str:
    net.widths[name] = width
    return name


def _pick(net: Net, pool: list[str]) -> str:
    return pool[int(net.rng.integers(len(pool)))]


def conv(net: Net, x: str, pool: list[str]) -> str:
    kernel = int(net.rng.choice([1, 3]))
    return net.conv(x, int(net.rng.choice([4, 6, 8, 12])), kernel, pad=kernel // 2, bias=bool(net.rng.integers(2)))


def depthwise(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    return net.conv(x, c * int(net.rng.choice([1, 2])), 3, pad=1, group=c)


def grouped(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    group = next((g for g in (3, 2, 4) if c % g == 0), 1)
    return net.conv(x, group * int(net.rng.choice([2, 3, 4])), 1, group=group)


def norm(net: Net, x: str, pool: list[str]) -> str:
    return net.bn(x)


def activation(net: Net, x: str, pool: list[str]) -> str:
    kind = str(net.rng.choice(["Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Clip", "PRelu", "Softplus"]))
    if kind == "PRelu":
        return net.op(kind, x, net.const(net.random(net.widths[x], 1, 1)))
    return net.op(kind, x, *([net.const(np.float32(0)), net.const(np.float32(6))] if kind == "Clip" else []))


def constant(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    shapes: list[tuple[int, ...]] = [(c, 1, 1), (1, c, 1, 1), (), (SIZE,), (c, SIZE, SIZE), (1, 1, SIZE, 1)]
    shape = shapes[int(net.rng.integers(len(shapes)))]
    other = net.const(net.random(*shape))
    made = net.op(str(net.rng.choice(["Add", "Mul", "Sub", "Max"])), *((x, other) if net.rng.integers(2) else (other, x)))
    return _width(net, made, c)


def add(net: Net, x: str, pool: list[str]) -> str:
    same = [p for p in pool if net.widths[p] == net.widths[x]]
    return net.op(str(net.rng.choice(["Add", "Mul"])), x, _pick(net, same))


def concat(net: Net, x: str, pool: list[str]) -> str:
    parts = [x, *(_pick(net, pool) for _ in range(int(net.rng.integers(1, 3))))]
    total = sum(net.widths[p] for p in parts)
    return x if total > 40 else _width(net, net.op("Concat", *parts, axis=1), total)


def split(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    at = int(net.rng.integers(1, c)) if c > 1 else 0
    if not at:
        return x
    first = net.op("Split", x, net.const(np.array([at, c - at])), outputs=2, axis=1)
    pool.append(_width(net, f"{first}_1", c - at))
    return _width(net, first, at)


def pick(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    if net.rng.integers(2):
        indices = net.rng.integers(0, c, int(net.rng.integers(2, 9)))
        return _width(net, net.op("Gather", x, net.const(indices), axis=1), len(indices))
    step = int(net.rng.choice([1, 2]))
    ranges = (net.const(np.array([v])) for v in (0, c, 1, step))
    return _width(net, net.op("Slice", x, *ranges), -(-c // step))


def shuffle(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    group = next((g for g in (2, 3) if c % g == 0 and c > g), 0)
    if not group:
        return x
    r = net.op("Reshape", x, net.const(np.array([0, group, c // group, SIZE, SIZE])))
    r = net.op("Transpose", r, perm=[0, 2, 1, 3, 4])
    return _width(net, net.op("Reshape", r, net.const(np.array([0, -1, SIZE, SIZE]))), c)


def excite(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    s = net.op("Relu", net.conv(net.op("GlobalAveragePool", x), 4, 1))
    return _width(net, net.op("Mul", x, net.op("Sigmoid", net.conv(s, c, 1))), c)


def gate(net: Net, x: str, pool: list[str]) -> str:
    return _width(net, net.op("Mul", x, net.op("Sigmoid", net.conv(x, 1, 1))), net.widths[x])


def pool(net: Net, x: str, pool: list[str]) -> str:
    return net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])


def pixels(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    if c % 4:
        return x
    mode = str(net.rng.choice(["DCR", "CRD"]))
    up = _width(net, net.op("DepthToSpace", x, blocksize=2, mode=mode), c // 4)
    return net.conv(up, 6, 2, strides=[2, 2])


def pad(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    return _width(net, net.op("Pad", x, net.const(np.array([0, 1, 0, 0, 0, 2, 0, 0]))), c + 3)


def tile(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    return x if c > 12 else _width(net, net.op("Tile", x, net.const(np.array([1, 2, 1, 1]))), 2 * c)


def softmax(net: Net, x: str, pool: list[str]) -> str:
    return net.op("Softmax", x, axis=int(net.rng.choice([1, 2, 3])))


def channels_last(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    t = net.op("Transpose", x, perm=[0, 2, 3, 1])
    m = net.op("MatMul", t, net.const(net.random(c, 6)))
    return _width(net, net.op("Transpose", net.op("Relu", m), perm=[0, 3, 1, 2]), 6)


def shared(net: Net, x: str, pool: list[str]) -> str:
    c = net.widths[x]
    w = net.const(net.random(c, c, 1, 1))
    return _width(net, net.op("Conv", net.op("Relu", net.op("Conv", x, w)), w), c)


BLOCKS: tuple[Block, ...] = (
    conv, conv, conv, conv, depthwise, grouped, norm, activation, activation, constant, add, add, concat, concat, split, pick,
    shuffle, excite, gate, pool, pixels, pad, tile, softmax, channels_last, shared,
)  # fmt: skip


def random_network(seed: int) -> onnx.ModelProto:
    net = Net(seed)
    batch = "n" if net.rng.integers(2) else 2
    tensors = [net.conv(net.input(batch, 3, SIZE, SIZE), 8, 3, pad=1)]
    for _ in range(int(net.rng.integers(3, 14))):
        block = BLOCKS[int(net.rng.integers(len(BLOCKS)))]
        x = tensors[-1] if net.rng.random() < 0.7 else _pick(net, tensors)
        tensors.append(block(net, x, tensors))
    if net.rng.integers(2):
        out = net.conv(tensors[-1], 5, 1)
    else:
        c = net.widths[tensors[-1]]
        out = net.op("Gemm", net.op("Flatten", tensors[-1]), net.const(net.random(c * SIZE * SIZE, 4)))
    return net.model(out)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_random_networks(seed: int) -> None:
    graph = channels_of(random_network(seed))
    reference, result = prune(graph, random_removal(graph, seed))
    assert [p.why for p in result.problems] == []
    assert distance(reference, result.model, seed) <= TOLERANCE
