"""Equations of Einsum, spelled out: numpy computes the same by what is spelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphopt.ops.equation import spelled

CASES = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("b i j , b j k -> b i k", [(5, 2, 3), (5, 3, 4)]),
    ("...ij,...jk->...ik", [(5, 6, 2, 3), (5, 6, 3, 4)]),
    ("...ij,...jk->...ik", [(5, 6, 2, 3), (6, 3, 4)]),
    ("...ij,jk->...ik", [(5, 6, 2, 3), (3, 4)]),
    ("...ij,...jk->...ik", [(5, 6, 2, 3), (1, 1, 3, 4)]),
    ("i...,i...->...", [(4, 2, 3), (4, 2, 3)]),
    ("ba,ac", [(2, 3), (3, 4)]),
    ("...b,b", [(2, 5, 3), (3,)]),
    ("ij->ji", [(2, 3)]),
    ("a,b,c->abc", [(2,), (3,), (4,)]),
]


class Stated:
    """The shapes that the tensors have by their own word."""

    def shape(self, tensor: gs.Tensor) -> Any:
        return tensor.shape


def letters_of(equation: str, shapes: list[tuple[int, ...]]) -> Any:
    inputs = [gs.Variable(f"x{i}", np.float32, shape) for i, shape in enumerate(shapes)]
    return spelled(gs.Node("Einsum", attrs={"equation": equation}, inputs=inputs), Stated())  # type: ignore[arg-type]


@pytest.mark.parametrize(("equation", "shapes"), CASES)
def test_what_is_spelled_computes_the_same(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    operands, result = letters_of(equation, shapes)
    assert "." not in "".join(operands) + result
    plain = {letter: chr(65 + i) for i, letter in enumerate(sorted({*"".join(operands)}))}
    text = f"{','.join(operands)}->{result}".translate(str.maketrans(plain))
    arrays = [rng.normal(size=s) for s in shapes]
    np.testing.assert_allclose(np.einsum(text, *arrays), np.einsum(equation.replace(" ", ""), *arrays), atol=1e-12)


@pytest.mark.parametrize(("equation", "shapes"), [("ij,jk->ik", [(2, 3, 4), (3, 4)]), ("ij,jk->ik", [(2, 3)]), ("", [(2, 3)])])
def test_what_does_not_fit_is_not_spelled(equation: str, shapes: list[tuple[int, ...]]) -> None:
    assert letters_of(equation, shapes) is None
