"""A coverage-guided fuzzer on the model door (needs the extra ``fuzz``: atheris, https://github.com/google/atheris).

    python -m tests.fuzz.door [--seconds 60] [--corpus FOLDER] [--findings FOLDER]

Each input is read, walked, written and read again (``target.examine``); what is accepted also goes through ``simplify`` and
``fold`` in a worker process, whose death is counted but is no failure: native code is contained where the command line runs it.
Failures: an exception that is not a clean error, a reading that loses something, more than 10 s, more than 2 GiB. Each is kept
once a cause, as a file and a line. Prints how many inputs were tried; the exit code is 1 if there was a failure.

Libfuzzer ends its process when it is done or stuck. So the fuzzing itself is a child of the command, started again after a hang
until the time is over; it leaves its counts in a file.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.differential.pool import Failure, _Worker

HANG = 10
STUCK = 30
"""Seconds of one input: what is a failure, and when libfuzzer ends the process."""

START = 120
"""Seconds that a worker may take to import everything."""

WORKER_MEMORY = 4 << 30
MEMORY_MIB = 2048
LARGEST = 1 << 15
_NOTED_EVERY = 10


class Session:
    """One fuzzing process: its counts, its findings, and its worker."""

    def __init__(self, findings: Path) -> None:
        self.findings = findings
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.scratch = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._worker: _Worker[bytes, tuple[str, str] | None] | None = None

    def one(self, raw: bytes) -> None:
        """What libfuzzer calls with each input."""
        from tests.fuzz.target import Finding, examine

        self.counts["inputs"] += 1
        start = time.monotonic()
        try:
            code = examine(raw, Path(self.scratch.name) / "out.onnx")
        except Finding as found:
            self.note(found.key, str(found), raw)
        else:
            self.counts[code or "accepted"] += 1
            if time.monotonic() - start > HANG:
                self.note("hang", f"more than {HANG} s", raw)
            if not code:
                self._rewrite(raw)
        if self.counts["inputs"] % _NOTED_EVERY == 0:
            self.save()

    def _rewrite(self, raw: bytes) -> None:
        digest = hashlib.sha256(raw).hexdigest()
        if digest in self.seen:
            return
        self.seen.add(digest)
        if self._worker is None:
            self._worker = _Worker(_work)
            _ask(self._worker, b"", START)
        worker = self._worker
        result = _ask(worker, raw, HANG)
        self.counts["rewritten"] += 1
        if isinstance(result, Failure):
            self.counts[f"worker {result.kind}"] += 1
            self.keep(f"worker-{result.kind}", raw)
            if result.kind != "error":
                worker.stop()
                self._worker = None
        elif result:
            self.note(*result, raw)

    def note(self, key: str, why: str, raw: bytes) -> None:
        """A failure: told once a cause."""
        self.counts["failures"] += 1
        key = re.sub(r"\[\d+\]", "[]", key)  # whichever node it was
        name = hashlib.sha256(key.encode()).hexdigest()[:12]
        if not (self.findings / f"{name}.txt").exists():
            (self.findings / f"{name}.txt").write_text(f"{key}\n{why}\n")
            (self.findings / f"{name}.onnx").write_bytes(raw)

    def keep(self, kind: str, raw: bytes) -> None:
        folder = self.findings / kind
        folder.mkdir(exist_ok=True)
        (folder / f"{hashlib.sha256(raw).hexdigest()[:12]}.onnx").write_bytes(raw)

    def save(self) -> None:
        (self.findings / "counts.json").write_text(json.dumps(self.counts))


def _ask(worker: _Worker[bytes, tuple[str, str] | None], raw: bytes, seconds: float) -> tuple[str, str] | Failure | None:
    """What the worker says of an input; a Failure where it says nothing."""
    worker.give(raw)
    worker.pipe.poll(seconds)
    answered = worker.pipe.poll()
    result = worker.take(seconds)
    worker.finished()
    return Failure("timeout", "no answer") if result is None and not answered else result


def _work(raw: bytes) -> tuple[str, str] | None:
    from tests.fuzz.target import Finding, rewrite

    importlib.import_module("onnxruntime")
    resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, WORKER_MEMORY))
    try:
        rewrite(raw)
    except Finding as found:
        return f"passes: {found.key}", str(found)
    return None


def fuzz(seconds: int, corpus: Path, findings: Path) -> None:
    """Fuzz in this process, which libfuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["graphopt"]):
        import graphopt.model.model
        import graphopt.model.writer  # noqa: F401
    from tests.fuzz.mutate import mutate

    session = Session(findings)
    # What is in the corpus was rewritten when it was found, and the seeds in the differential tests.
    session.seen = {hashlib.sha256(path.read_bytes()).hexdigest() for path in corpus.iterdir()}

    def mutator(raw: bytes, size: int, seed: int) -> bytes:
        return mutate(raw, size, random.Random(seed), atheris.Mutate)

    arguments = [
        f"-max_total_time={seconds}", f"-timeout={STUCK}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={LARGEST}",
        f"-artifact_prefix={findings}/stopped-", "-report_slow_units=999", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *arguments], session.one, custom_mutator=mutator)
    atheris.Fuzz()


def campaign(seconds: int, corpus: Path, findings: Path) -> tuple[Counter[str], list[str]]:
    """Fuzz for so long, over and over where a hang ends the process; the counts and the failures."""
    from tests.fuzz.seeds import write_seeds

    total: Counter[str] = Counter()
    failures: list[str] = []
    findings.mkdir(parents=True, exist_ok=True)
    if not corpus.is_dir() or not any(corpus.iterdir()):
        total["seeds"] = write_seeds(corpus)
    end = time.monotonic() + seconds
    while (left := int(end - time.monotonic())) > 0:
        (findings / "counts.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.door", "--child", "--seconds", str(left)]
        places = ["--corpus", str(corpus), "--findings", str(findings)]
        with (findings / "log.txt").open("a") as log:
            code = subprocess.run([*command, *places], stdout=log, stderr=log, check=False).returncode
        if (findings / "counts.json").exists():
            total.update(json.loads((findings / "counts.json").read_text()))
        if code == 0:
            break
        total["stopped"] += 1
    failures += [
        path.read_text().strip().replace("\n", ": ") + f" ({path.with_suffix('.onnx')})"
        for path in findings.glob("*.txt")
        if path.name != "log.txt"
    ]
    failures += [f"a hang, or out of memory ({path})" for path in sorted(findings.glob("stopped-*"))]
    return total, failures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.door", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz/corpus"))
    parser.add_argument("--findings", type=Path, default=Path("fuzz/findings"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        fuzz(options.seconds, options.corpus, options.findings)
        return 0
    start = time.monotonic()
    counts, failures = campaign(options.seconds, options.corpus.resolve(), options.findings.resolve())
    print("\n".join(f"{count:>9}  {name}" for name, count in counts.most_common()))
    print("\n".join([f"{len(failures)} failures", *failures]))
    print(f"{counts['inputs']} inputs in {time.monotonic() - start:.0f} s")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
