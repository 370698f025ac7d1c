"""All cases, by name."""

from __future__ import annotations

import numpy as np
import onnx

from tests.pruning.cases import convolutions, hostile, movements, sequences
from tests.pruning.cases.case import Case
from tests.pruning.nets import Distinct

CASES: dict[str, Case] = {**convolutions.CASES, **movements.CASES, **sequences.CASES, **hostile.CASES}


def proto_of(name: str, seed: int = 0) -> onnx.ModelProto:
    """The network of a case, with weights drawn from ``seed``."""
    case = CASES[name]
    net = Distinct(seed, np.float16 if case.half else np.float32, case.opset)
    made = case.build(net)
    return net.model(*([made] if isinstance(made, str) else made), ir=11 if case.opset > 21 else 9)
