"""quant: 8-bit integers where the target has kernels for them.

``units`` divides the graph, ``placement`` decides what runs in integers, ``ranges`` looks at the data, ``affine`` and ``weights``
hold the arithmetic, ``insert`` writes it down, ``fidelity`` compares alternatives, ``proof`` reads back what the runtime makes of
it; ``rewrite`` and ``opset`` prepare.
"""

from graphopt.passes.quant.quant import Quant

__all__ = ["Quant"]
