"""The sensitivity of a model to int8: what each kernel costs at the output alone, and what they cost together.

The model is folded first, since what runs in integers is the folded kernel. A kernel alone is in integers while all others are kept
in float; together they are put in integers one after the other, the most robust first, which is the curve that ``quant:drop`` looks
for its point on. Weights are rounded to the nearest and ranges are the best rule's: what a plain quantizer would do, before
rounding and biases are fitted.
"""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.model import Model
from graphopt.passes.fold import Fold
from graphopt.passes.quant.fidelity import Judge
from graphopt.passes.quant.quant import Quant, Trials, trials
from graphopt.pipeline import Context
from graphopt.pipeline.sensitivity import Series, Surveyed

TOGETHER = "together, the most robust first"
_STEPS = 10


def survey(model: Model, ctx: Context, multiple: int | None) -> Surveyed:
    """One series a kernel, with one point, and one for all of them. Raises UsageError GO932 where nothing can be quantized."""
    if multiple is not None:
        raise UsageError("GO932", "--multiple", "widths stay as they are in int8", "leave it out")
    Fold().run(model, ctx)
    options = Quant(placement="kernels", equalize="off", rounding="nearest", bias="keep", allow_slower=True)
    found = trials(options, model, ctx)
    if not isinstance(found, Trials):
        raise UsageError("GO932", model.label, f"int8 cannot be looked at: {found.why}")
    judge = Judge(found.choice.draft.model, ctx.feeds.split(ctx.seed)[1])
    names, labels = found.kernels(), found.labels()
    exact = found.made(frozenset(names))
    whole = 0.0 if exact is None else exact[1]

    def point(integer: int, kept: frozenset[str]) -> tuple[int, float, float] | None:
        made = found.made(kept)
        return None if made is None else (integer, (whole - made[1]) / max(whole, 1e-9), judge.error(made[0]))

    with ctx.progress("sensitivity", len(names) + _STEPS) as bar:
        alone: list[tuple[str, tuple[int, float, float]]] = []
        for name in names:
            one = point(1, frozenset(names) - {name})
            bar.advance()
            if one is not None:
                alone.append((name, one))
        order = [name for name, _ in sorted(alone, key=lambda pair: pair[1][2])]
        counts = sorted({round(len(order) * k / _STEPS) for k in range(1, _STEPS + 1)} - {0})
        points = [p for n in counts if (p := point(n, frozenset(names) - set(order[:n]))) is not None]
        bar.advance(_STEPS)
    series = [Series(labels[name], 1, [one]) for name, one in alone]
    return Surveyed([*series, Series(TOGETHER, len(order), points)] if points else series)
