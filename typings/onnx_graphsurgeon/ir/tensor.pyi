"""Types of the tensors of onnx-graphsurgeon."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.node import Node

class LazyValues:
    shape: tuple[int, ...]
    dtype: Any
    nbytes: int
    def load(self) -> NDArray[Any]: ...

class Tensor:
    name: str
    inputs: list[Node]
    outputs: list[Node]
    shape: Any
    dtype: Any
    def is_empty(self) -> bool: ...

class Variable(Tensor):
    def __init__(self, name: str, dtype: Any = None, shape: Any = None, type: str = "tensor_type") -> None: ...
    type: str

class Constant(Tensor):
    _values: NDArray[Any] | LazyValues
    def __init__(
        self,
        name: str,
        values: NDArray[Any] | LazyValues,
        data_location: int | None = None,
        export_dtype: np.dtype[Any] | int | None = None,
    ) -> None: ...
