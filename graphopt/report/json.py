"""A report as JSON. The schema is stable within its version: fields are added, never renamed or removed.

    schema      1
    graphopt    version of the program
    model, pipeline, target, seed, seconds
    data        {source, calibrated}
    input       figures: {nodes, params, macs, bytes, unknown: [labels of nodes whose cost is not known]}
    result      figures
    accuracy    {input, result, count}, or null where no labels were given
    notes       what the reader must not miss
    passes      [{pass, name, kind, changed, figures, accuracy, seconds, notes, facts,
                  verification: {status, against, tolerance, worst, samples, rounding, statement},
                  drift: {worst_rel, sqnr_db, outputs: [{name, kind, max_abs, range, rel, sqnr_db, cosine, top1,
                      psnr_db}]},
                  latency: {input_ms, result_ms, ratio, low, high},
                  rewrites: [{where, what, macs_saved}], refusals: [{where, code, why}]}]

``drift`` and ``latency`` are against the input model; null where they were not measured. JSON has no infinity: an
infinite figure is the text "inf" or "-inf", and one that is not a number is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from graphopt.pipeline import JSON
from graphopt.pipeline.record import Accuracy, Figures, PassRecord, Report, Verification
from graphopt.runtime import Timing
from graphopt.verify import Drift

SCHEMA = 1


def to_json(report: Report, *, indent: int | None = 2) -> str:
    """The report as text of JSON, with a newline at its end."""
    return json.dumps(to_data(report), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def to_data(report: Report) -> dict[str, JSON]:
    """The report as plain dicts and lists."""
    from graphopt import __version__

    data: dict[str, JSON] = {
        "schema": SCHEMA,
        "graphopt": __version__,
        "model": report.model,
        "pipeline": report.pipeline,
        "target": report.target,
        "seed": report.seed,
        "seconds": round(report.seconds, 3),
        "data": {"source": report.data, "calibrated": report.calibrated},
        "input": _figures(report.figures),
        "result": _figures(report.result),
        "accuracy": _accuracies(report),
        "notes": list(report.notes),
        "passes": [_pass(one) for one in report.passes],
    }
    return {key: _finite(value) for key, value in data.items()}


def _figures(figures: Figures) -> JSON:
    return {
        "nodes": figures.nodes,
        "params": figures.params,
        "macs": figures.macs,
        "bytes": figures.bytes,
        "unknown": list(figures.unknown),
    }


def _accuracies(report: Report) -> JSON:
    if report.accuracy is None:
        return None
    after = report.passes[-1].accuracy if report.passes else report.accuracy
    return {
        "input": report.accuracy.share,
        "result": None if after is None else after.share,
        "count": report.accuracy.count,
    }


def _pass(one: PassRecord) -> JSON:
    return {
        "pass": one.text,
        "name": one.name,
        "kind": one.kind,
        "changed": one.changed,
        "figures": _figures(one.figures),
        "verification": _verification(one.verification),
        "drift": _drift(one.drift),
        "latency": _latency(one.timing),
        "accuracy": _share(one.accuracy),
        "seconds": round(one.seconds, 3),
        "rewrites": [{"where": r.where, "what": r.what, "macs_saved": r.macs_saved} for r in one.rewrites],
        "refusals": [{"where": r.where, "code": r.code, "why": r.why} for r in one.refusals],
        "notes": list(one.notes),
        "facts": one.facts,
    }


def _verification(found: Verification) -> JSON:
    return {
        "status": found.status,
        "against": found.against,
        "tolerance": found.tolerance,
        "worst": found.worst,
        "samples": found.samples,
        "rounding": found.rounding,
        "statement": str(found),
    }


def _drift(drift: Drift | None) -> JSON:
    if drift is None:
        return None
    outputs: list[JSON] = [
        {
            "name": one.name,
            "kind": one.kind,
            "max_abs": one.max_abs,
            "range": one.range,
            "rel": one.rel,
            "sqnr_db": one.sqnr_db,
            "cosine": one.cosine,
            "top1": one.top1,
            "psnr_db": one.psnr_db,
        }
        for one in drift.outputs
    ]
    return {"worst_rel": drift.worst_rel, "sqnr_db": drift.sqnr_db, "outputs": outputs}


def _latency(timing: Timing | None) -> JSON:
    if timing is None:
        return None
    return {
        "input_ms": timing.a_ms,
        "result_ms": timing.b_ms,
        "ratio": timing.ratio,
        "low": timing.low,
        "high": timing.high,
    }


def _share(accuracy: Accuracy | None) -> JSON:
    return None if accuracy is None else accuracy.share


def _finite(value: object) -> JSON:
    """``value`` with what JSON cannot carry replaced; numpy's numbers, which a pass's facts may hold, become
    Python's.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return _finite(cast(object, value.tolist()))
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in cast("Sequence[object]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return str(value)
