"""Published re-parametrization blocks, as torch's exporters write them, fold to exactly their deployed form.

The files were made by ``blocks/make.py`` from the definitions in ``blocks/nets.py``; the tests need no torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.pipeline import Context
from tests.nets import feed_for, ops_of
from tests.oracle import evaluate
from tests.passes.fold.blocks import DEPLOYED, FOLDER

FILES = sorted(FOLDER.glob("*.onnx"))
EXPORTERS = ("dynamo", "dynamic", "unoptimized", "torchscript", "preserve")

UNFOLDED = {"dbb.dynamic", "ecb.dynamic"}
"""Where height and width are dynamic, a border is written at positions that are computed from the input's shape."""


def test_every_block_is_there_from_every_exporter() -> None:
    assert {p.stem for p in FILES} == {f"{name}.{exporter}" for name in DEPLOYED for exporter in EXPORTERS}


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_a_block_folds_to_its_deployed_form(path: Path) -> None:
    proto = onnx.load(path)
    model = Model.load(proto)
    outcome = Fold().run(model, Context(model.copy()))
    folded = model.proto()
    onnx.checker.check_model(folded, full_check=True)
    refused = sorted({f"{r.code}: {r.where}" for r in outcome.refusals})
    assert (ops_of(folded) == DEPLOYED[path.name.split(".")[0]]) is (path.stem not in UNFOLDED), (ops_of(folded), refused)
    feed = feed_for(proto, dynamic=17)
    for before, after in zip(evaluate(proto, feed), evaluate(folded, feed), strict=True):
        # the weights of the folded one were rounded to float32 once: of 2**-24 a weight, a few hundred of them in a sum
        assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()
