"""Types of the nodes of onnx-graphsurgeon."""

from typing import Any

from onnx_graphsurgeon.ir.tensor import Tensor

class Node:
    op: str
    name: str
    attrs: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    domain: str | None
    def __init__(
        self,
        op: str,
        name: str | None = None,
        attrs: dict[str, Any] | None = None,
        inputs: list[Tensor] | None = None,
        outputs: list[Tensor] | None = None,
        domain: str | None = None,
    ) -> None: ...
    def subgraphs(self, recursive: bool = False) -> Any: ...
