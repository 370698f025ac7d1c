"""The same model and options give the same bytes, whatever the seed of Python's hashes. The whole comparison (twenty models and
several interpreters) is `python -m benchmarks.determinism`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.determinism import ROOT, draw, fingerprint
from benchmarks.random_nets import random_net


@pytest.mark.parametrize("passes", ["simplify,fold", "fold,prune:macs=0.8:multiple=4,quant"])
@pytest.mark.parametrize("source", ["models/fashion_rep/fashion_rep.onnx", "random"])
def test_hash_seeds(source: str, passes: str, tmp_path: Path) -> None:
    model = ROOT / source
    if source == "random":
        model = tmp_path / "random.onnx"
        model.write_bytes(random_net(1).SerializeToString(deterministic=True))
    data = draw(model, tmp_path)
    first, second = (fingerprint(sys.executable, seed, model, passes, data, tmp_path) for seed in ("0", "4242"))
    assert not first.startswith("exit")
    assert first == second
