"""Layouts against numpy: what is done to labels is what the operator does to data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ops.channels.layout import (
    Field,
    Layout,
    blank,
    kept_positions,
    normal,
    restrict,
    select,
    separate,
    split,
    uncover,
    with_axis,
)
from graphopt.ops.channels.regroup import Copy, common, lost_factors, refine, reshaped


def expanded(layout: Layout) -> np.ndarray:
    """The label of every element of a tensor with one field, -1 where there is none; all sizes must be numbers."""
    shape = [int(f or 0) for f in layout.factors]
    made = np.full(shape, -1)
    for field in layout.fields:
        made = np.broadcast_to(field.labels.reshape([s if k in field.at else 1 for k, s in enumerate(shape)]), shape)
    return made.reshape([int(np.prod([int(f or 0) for f in axis], dtype=int)) for axis in layout.axes])


def channels(shape: Sequence[int], axis: int) -> Layout:
    return separate([np.arange(n) if a == axis else None for a, n in enumerate(shape)], shape)


@pytest.mark.parametrize(
    ("shape", "axis", "target"),
    [
        ((2, 6, 4), 1, (2, 2, 3, 4)), ((2, 6, 4), 1, (12, 4)), ((2, 6, 4), 1, (2, 24)), ((2, 6, 4), 1, (48,)),
        ((2, 6, 4), 2, (2, 3, 2, 2, 2)), ((12, 5), 0, (3, 2, 2, 5)), ((3, 1, 4), 2, (3, 4)), ((3, 4), 1, (1, 3, 1, 4, 1)),
    ],
)  # fmt: skip
def test_reshape(shape: tuple[int, ...], axis: int, target: tuple[int, ...]) -> None:
    layout = channels(shape, axis)
    assert lost_factors(layout, target) == []
    assert np.array_equal(expanded(reshaped(layout, target)), expanded(layout).reshape(target))


@given(st.data())
def test_reshape_and_transpose_any_way(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    layout = channels(shape, data.draw(st.integers(0, len(shape) - 1)))
    array = expanded(layout)
    for _ in range(3):
        order = data.draw(st.permutations(range(layout.rank)))
        layout, array = select(layout, order), array.transpose(order)
        target: list[int] = []
        for size in array.shape:
            if data.draw(st.booleans()) and size % 2 == 0:
                target += [2, size // 2]
            elif target and data.draw(st.booleans()):
                target[-1] *= size
            else:
                target.append(size)
        if lost_factors(layout, target):
            return
        layout, array = reshaped(layout, target), array.reshape(target)
        assert np.array_equal(expanded(layout), array)


def test_reshape_with_symbols() -> None:
    layout = Layout((("n",), (6,), ("h",), ("w",)), (Field((1,), np.arange(6)),))
    flat = reshaped(layout, [Copy(0), None])
    assert flat.axes == (("n",), (6, "h", "w"))
    split_up = reshaped(layout, ["n", 2, 3, "h", "w"])
    assert split_up.axes == (("n",), (2,), (3,), ("h",), ("w",))
    assert split_up.fields[0].labels.shape == (2, 3)


@pytest.mark.parametrize("target", [[None, 3, 2, None], [Copy(0), 4, None], ["m", 6, 2, None]])
def test_reshape_that_loses_labels_says_so(target: list[int | str | Copy | None]) -> None:
    layout = Layout((("n",), (6,), ("h",), (5,)), (Field((1,), np.arange(6)),))
    assert lost_factors(layout, target) == [1] or not reshaped(layout, target).fields


def test_lost_labels_of_a_partly_matched_factor() -> None:
    layout = channels((6, 4), 0)
    assert lost_factors(layout, (2, 5, None, 2)) == [0]


def test_normal_form() -> None:
    labels = np.arange(6).reshape(2, 3)
    assert normal([(1, 2, 3), (4, 5)], [Field((1, 2), labels)], "").axes == ((6,), (20,))
    assert normal([(2, 4, 3)], [Field((0, 2), labels)], "").axes == ((2, 4, 3),)
    assert normal([(1,)], [Field((0,), np.zeros(1, int))], "").axes == ((1,),)


def test_split_and_uncover() -> None:
    layout = split(channels((6, 4), 0), 0, (2, 3))
    assert [f.at for f in layout.fields] == [(0, 1)]
    assert uncover(layout, 0).fields[0].labels.tolist() == [0, 1, 2]
    assert uncover(uncover(layout, 0), 1).fields == ()


def test_with_axis_replaces_labels() -> None:
    made = with_axis(channels((3, 4, 5), 1), 1, (2,), np.array([7, 8]))
    assert made.axes == ((3,), (2,), (5,))
    assert made.labels(1).tolist() == [7, 8]


@pytest.mark.parametrize(
    ("a", "b", "splits"),
    [
        ((6,), (2, 3), ([[2, 3]], [[2], [3]])),
        ((4, 6), (2, 12), ([[2, 2], [6]], None)),
        (("n", 6), ("n", 6), ([[], [6]], [[], [6]])),
        (("n", 6), ("m", 6), None),
        ((6,), (4,), None),
        ((None,), (None,), None),
    ],
)
def test_common_factors(a: tuple, b: tuple, splits: tuple | None) -> None:
    found = common(a, b)
    if splits is None:
        assert found is None
    elif splits[1] is None:
        assert found is None or [np.prod(s) for s in found[0]] == list(a)
    else:
        assert found == splits


def test_refine_splits_an_axis() -> None:
    splits = common((12,), (3, 4))
    assert splits is not None
    assert refine(channels((12,), 0), 0, splits[0]).axes == ((3, 4),)


def test_restrict_and_kept_positions() -> None:
    layout = reshaped(channels((2, 6, 4), 1), (2, 24))
    removed = np.array([False, True, False, True, True, False])
    rest = restrict(layout, removed)
    assert rest is not None
    assert rest.axes == ((2,), (3, 4))
    positions = kept_positions(layout, 1, removed)
    assert positions is not None
    assert np.array_equal(expanded(layout)[0][positions], np.repeat([0, 2, 5], 4))


def test_what_is_not_rectangular_cannot_stay() -> None:
    joint = reshaped(channels((6,), 0), (2, 3))
    assert restrict(joint, np.array([True, False, False, False, False, False])) is None
    assert restrict(joint, np.ones(6, bool)) is None


def test_sizes() -> None:
    layout = blank((2, "h", None), "a reason")
    assert [layout.size(a) for a in range(3)] == [2, None, None]
    assert layout.why == "a reason"
