"""What becomes of all damaged models, as a table.

    python -m tests.damage.survey [--only KIND] [--exact] [--jobs 2] [--seconds S] [--seed N] [--keep FOLDER]

prints a line a kind (refused, agreed, wrong; the codes) and each failure with its reproducer. ``--only`` takes a part of a kind's
name or a room (file, header, structure, tensors, types, values, attributes, operators, external, bombs, depth, names, sound). The
exit code is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.damage.corpus import EXACT, SEED, Case, corpus
from tests.damage.draft import KINDS
from tests.damage.oracle import SECONDS, Verdict, judge, keep
from tests.differential.pool import Failure, run

Verdicts = dict[Case, Verdict]


def survey(cases: Sequence[Case], jobs: int = 2, progress: bool = False, seconds: float = SECONDS) -> Verdicts:
    """The verdict on each case. A worker that dies died in the oracle's own look at the result."""
    found: Verdicts = {}
    for case, result in run(judge, cases, jobs=jobs, seconds=3 * seconds):
        if isinstance(result, Failure):
            result = Verdict("wrong", f"the oracle's own run of the models: {result}")
        found[case] = result
        if progress and result.wrong:
            print(f"{len(found)}/{len(cases)} {case.id}: {result.why}", file=sys.stderr, flush=True)
    return {case: found[case] for case in cases}


def failures(verdicts: Verdicts) -> list[str]:
    """A line for each case that is not as it must be."""
    return [f"{case.id}: {v.why} ({reproducer(case)})" for case, v in verdicts.items() if v.wrong]


def reproducer(case: Case) -> str:
    return f"python -m tests.damage.make '{case.kind}' {case.base} {case.seed}"


def table(verdicts: Verdicts) -> Iterator[str]:
    yield f"{'kind':<52}{'allowed':<9}{'refused':>8}{'agreed':>7}{'wrong':>6}  codes"
    for kind in KINDS.values():
        own = [v for case, v in verdicts.items() if case.kind == kind.name]
        if own:
            counts = Counter(v.kind for v in own)
            codes = Counter(v.code for v in own if v.code)
            said = " ".join(f"{code}:{count}" for code, count in sorted(codes.items()))
            yield (f"{kind.name[:51]:<52}{kind.allowed:<9}{counts['refused']:>8}{counts['agreed']:>7}{counts['wrong']:>6}  {said}")


def totals(verdicts: Verdicts) -> Iterator[str]:
    counts = Counter(v.kind for v in verdicts.values())
    models = len({(c.kind, c.base, c.seed) for c in verdicts})
    yield (
        f"{models} models, {len(verdicts)} runs ({sum(c.command == EXACT for c in verdicts)} with the exact passes): "
        f"{counts['refused']} refused, {counts['agreed']} agreed, {counts['wrong']} wrong"
    )
    slow = max(verdicts.items(), key=lambda item: item[1].seconds)
    large = max(verdicts.items(), key=lambda item: item[1].peak)
    yield f"slowest {slow[1].seconds:.1f} s ({slow[0].id}); largest {large[1].peak >> 20} MiB ({large[0].id})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.damage.survey", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="just the kinds whose name contains this, or one room")
    parser.add_argument("--exact", action="store_true", help="just `run --passes simplify,fold`, no other command")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that one run may take; more on a busy machine")
    parser.add_argument("--seed", type=int, default=SEED, help="another corpus")
    parser.add_argument("--keep", type=Path, help="leave the models that failed in this folder")
    options = parser.parse_args(argv)
    cases = corpus(options.only, options.seed, extra=not options.exact)
    if not cases:
        parser.error(f"no kind or room is named {options.only}")
    os.environ["DAMAGE_SECONDS"] = str(options.seconds)  # the workers read it
    start = time.monotonic()
    verdicts = survey(cases, options.jobs, progress=True, seconds=options.seconds)
    print("\n".join(table(verdicts)))
    wrong = failures(verdicts)
    print("\n".join(["", *wrong, "", *totals(verdicts), f"{time.monotonic() - start:.0f} s"]))
    if options.keep:
        for case, verdict in verdicts.items():
            if verdict.wrong:
                keep(case, options.keep)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
