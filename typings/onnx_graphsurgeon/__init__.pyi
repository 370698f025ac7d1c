"""Types of the part of onnx-graphsurgeon that graphopt uses (the package ships none)."""

from typing import Any

from onnx_graphsurgeon.ir.node import Node as Node
from onnx_graphsurgeon.ir.tensor import Constant as Constant
from onnx_graphsurgeon.ir.tensor import Tensor as Tensor
from onnx_graphsurgeon.ir.tensor import Variable as Variable

class Graph:
    nodes: list[Node]
    inputs: list[Tensor]
    outputs: list[Tensor]
    name: str
    doc_string: str
    opset: int
    import_domains: Any
    ir_version: int | None
    def __init__(
        self,
        nodes: list[Node] | None = None,
        inputs: list[Tensor] | None = None,
        outputs: list[Tensor] | None = None,
        name: str | None = None,
        doc_string: str | None = None,
        opset: int | None = None,
        import_domains: Any = None,
        producer_name: str | None = None,
        producer_version: str | None = None,
        functions: Any = None,
        ir_version: int | None = None,
    ) -> None: ...
