"""For the tests of others: ``assert_model`` holds a model against rules and budgets, as ``graphopt check`` does.

    from graphopt.testing import assert_model

    def test_the_detector_can_be_shipped() -> None:
        assert_model("build/detector.onnx", against="release/detector.onnx", data="calib.npz", min_sqnr_db=30, max_macs=5e8)

Nothing is read from a configuration file: a test says what it means.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from graphopt.check import Checked
from graphopt.check.config import LIMITS, Config, Options
from graphopt.check.session import Request, check
from graphopt.report.checks.text import render


def assert_model(
    path: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    preprocess: str | None = None,
    target: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    error: Sequence[str] = (),
    warning: Sequence[str] = (),
    baseline: str | os.PathLike[str] | None = None,
    samples: int = 32,
    threads: int = 1,
    seconds: float = 20.0,
    max_params: float | None = None,
    max_macs: float | None = None,
    max_bytes: float | None = None,
    max_activation: float | None = None,
    max_nodes: float | None = None,
    max_latency_ratio: float | None = None,
    min_sqnr_db: float | None = None,
    min_psnr_db: float | None = None,
    min_top1: float | None = None,
    min_cosine: float | None = None,
) -> Checked:
    """Check one model; the result has its figures (``facts``) and what did not fail it.

    Args:
        path: the model.
        against: a reference, for the interface and the ``min_`` limits and ``max_latency_ratio``.
        data: samples, as ``graphopt run --data`` takes them; inputs are generated without it.
        preprocess: how images become inputs.
        target: the device.
        select: only these rules: codes, beginnings of codes, names.
        ignore: not these.
        error: rules that fail the test although they only warn by themselves.
        warning: rules that do not fail it.
        baseline: findings that do not count.
        samples: how many samples drift is measured on.
        threads: threads of one operator.
        seconds: how long latency may be measured.
        max_params: parameters.
        max_macs: multiply-accumulates.
        max_bytes: of the file with its external data.
        max_activation: bytes of activations at once.
        max_nodes: nodes.
        max_latency_ratio: time over the reference's.
        min_sqnr_db: signal-to-noise ratio of every output against the reference's.
        min_psnr_db: peak signal-to-noise ratio of outputs that are images.
        min_top1: share of samples with the same greatest score.
        min_cosine: cosine.

    Raises:
        AssertionError: the model has errors, or does not let a limit be checked; the message is the report.
        UsageError, DataError: a path, a rule, the target or the data is wrong.
    """
    limits = {
        "max-params": max_params,
        "max-macs": max_macs,
        "max-bytes": max_bytes,
        "max-activation": max_activation,
        "max-nodes": max_nodes,
        "max-latency-ratio": max_latency_ratio,
        "min-sqnr-db": min_sqnr_db,
        "min-psnr-db": min_psnr_db,
        "min-top1": min_top1,
        "min-cosine": min_cosine,
    }
    options = Options(
        target,
        tuple(select) or None,
        tuple(ignore) or None,
        tuple(error) or None,
        tuple(warning) or None,
        None if against is None else os.fspath(against),
        None if data is None else os.fspath(data),
        preprocess,
        {name: float(value) for name, value in limits.items() if value is not None},
    )
    known = None if baseline is None else Path(baseline)
    literal: str = glob.escape(os.fspath(path))  # a path, whatever signs its name has
    (checked,) = check(Request([literal], options, Config(), known, samples=samples, threads=threads, seconds=seconds))
    if checked.failed or any(LIMITS[name] in checked.skipped for name in options.limits):
        raise AssertionError(render([checked]))
    return checked
