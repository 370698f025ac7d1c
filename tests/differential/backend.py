"""The backend tests of the onnx package as a differential test of ours: every model, no exception unnamed.

    python -m tests.differential.backend [--check roundtrip|decorated|outputs] [--jobs 2] [--only TEXT]

prints the counts (of all three without --check) and each case that is not the same, with its reason. The exit code is 1 if
``KNOWN`` does not list one of them.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from tests.differential.cases import Case, all_cases, file_cases
from tests.differential.checks import CHECKS, Verdict
from tests.differential.pool import Failure, run

KNOWN: dict[tuple[str, str], str] = {}
"""(check, case id) -> why this exception is right as it is."""


def verdict(check: str, case: Case) -> Verdict:
    """What a worker does."""
    return CHECKS[check](case)


def survey(check: str, cases: Sequence[Case], jobs: int = 2) -> dict[str, Verdict]:
    """The verdict on each case by its id; a dead or stuck worker is one too."""
    found: dict[str, Verdict] = {}
    for case, result in run(functools.partial(verdict, check), cases, jobs=jobs):
        found[case.id] = Verdict(result.kind, result.why) if isinstance(result, Failure) else result
    return dict(sorted(found.items()))


def misses(check: str, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """The cases that are neither fine nor explained."""
    return {id_: v for id_, v in verdicts.items() if not v.ok and (check, id_) not in KNOWN}


def sample(count: int, seed: int) -> list[Case]:
    """Some node models and some files, the same for the same seed."""
    draw = random.Random(seed)
    nodes = [c for c in all_cases() if c.path is None]
    files = [c for c in file_cases() if c.kind != "light"]
    return draw.sample(nodes, count - count // 5) + draw.sample(files, count // 5)


def table(check: str, verdicts: dict[str, Verdict]) -> Iterable[str]:
    counts = Counter(v.kind for v in verdicts.values())
    compared = len(verdicts) - counts["skipped"]
    changed = sum(v.kind == "same" and v.rewrites > 0 for v in verdicts.values())
    yield f"{check}: {counts['same']} of {compared} the same ({changed} of them rewritten), {counts['skipped']} skipped"
    for id_, v in verdicts.items():
        if not v.ok:
            known = KNOWN.get((check, id_))
            yield f"  {id_}: {v.kind}: {v.why}" + (f"  [{known}]" if known else "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential.backend", description=__doc__.splitlines()[0])
    parser.add_argument("--check", choices=sorted(CHECKS), action="append", help="default: roundtrip, decorated, outputs")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--only", default="", help="just the cases whose id contains this")
    parser.add_argument("--skipped", action="store_true", help="list the skipped ones too")
    options = parser.parse_args(argv)
    cases = [c for c in all_cases() if options.only in c.id]
    failed = False
    for check in options.check or ["roundtrip", "decorated", "outputs"]:
        start = time.monotonic()
        verdicts = survey(check, cases, options.jobs)
        print("\n".join(table(check, verdicts)))
        print(f"  ({time.monotonic() - start:.0f} s)")
        if options.skipped:
            print("\n".join(f"  {id_}: {v.why}" for id_, v in verdicts.items() if v.kind == "skipped"))
        failed |= bool(misses(check, verdicts))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
