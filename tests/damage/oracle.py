"""The verdict on one damaged model: what the real command made of it, held against what is allowed.

    accepted   exit code 0, only the output written, and it loads and computes what the input model does
    refused    exit code 2, one ``error[GOnnn]:`` line and at most one line of help on stderr, nothing on stdout, nothing written
    else       wrong, with the reason

Whatever the command was: no traceback, no signal, no internal error (exit code 3), no more than ``SECONDS``, and no more memory
than 1 GiB and four times the file. A lossy pipeline computes something else on purpose, so its output need only load; it may also
say that a budget cannot be met (exit code 1, GO4xx).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.damage.compare import disagreement, loads
from tests.damage.corpus import EXACT, LOSSY, Case
from tests.damage.draft import Allowed
from tests.damage.process import Run, run, snapshot

SECONDS = float(os.environ.get("DAMAGE_SECONDS", "60"))
"""More for a busy machine: seconds are counted by the clock on the wall."""

MEMORY = 1 << 30
PER_BYTE = 4
_REFUSAL = re.compile(r"error\[(GO\d{3})\]: [^\n]+\n(  help: [^\n]+\n)?")
_SECRET = b"a secret that no result may hold" * 512


@dataclass(frozen=True)
class Verdict:
    """``kind``: "refused", "agreed" or "wrong"; ``why``: the code and words of the refusal, or what is wrong."""

    kind: str
    why: str = ""
    seconds: float = 0.0
    peak: int = 0
    code: str = ""

    @property
    def wrong(self) -> bool:
        return self.kind == "wrong"


def judge(case: Case) -> Verdict:
    """Make the model, run the command, and say what came of it."""
    with tempfile.TemporaryDirectory(prefix="damage-") as name:
        root = Path(name)
        (root / "secret.bin").write_bytes(_SECRET)
        folder = root / "model"
        folder.mkdir()
        path = case.write(folder)
        before = snapshot(root)
        target = folder / "o.onnx"
        done = run(arguments(case, path, target), root / "streams", SECONDS)
        for stream in (root / "streams.out", root / "streams.err"):
            stream.unlink()
        written = {n: h for n, h in snapshot(root).items() if before.get(n) != h}
        lost = [n for n in before if not (root / n).exists() and not (root / n).is_symlink()]
        size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
        why, code = _broken(done, size), _refusal(done, case)
        if not why and lost:
            why = f"deleted {lost}"
        if not why and code:
            why = f"wrote {sorted(written)}" if written else ""
            why = why or ("a sound model is refused: " + done.err.splitlines()[0][:300] if case.allowed is Allowed.KEPT else "")
            return _verdict("refused", done, why, code)
        if not why:
            why = _accepted(case, done, path, target, written)
        return _verdict("agreed", done, why)


def _verdict(kind: str, done: Run, why: str, code: str = "") -> Verdict:
    said = done.err.splitlines()[0][:300] if code and done.err else ""
    return Verdict("wrong" if why else kind, why or said, done.seconds, done.peak, code)


def arguments(case: Case, path: Path, target: Path) -> list[str]:
    """The command line."""
    if case.command[0] != "run":
        return [*case.command, str(path)]
    return [case.command[0], str(path), *case.command[1:], "-o", str(target), "--no-timing", "--samples", "2"]


def _broken(done: Run, size: int) -> str:
    """What no run may do."""
    last = done.err.strip().splitlines()[-1][:200] if done.err.strip() else ""
    if done.stopped == "timeout":
        return f"timeout: no end in {SECONDS:.0f} s"
    limit = MEMORY + PER_BYTE * size
    if done.stopped or done.peak > limit:
        return f"memory: {done.peak >> 20} MiB, {limit >> 20} MiB are allowed"
    if done.code < 0:
        return f"signal: died by signal {-done.code}"
    if "Traceback" in done.err + done.out:
        return f"traceback: {last}"
    if done.code == 3:
        return f"internal: {done.err.splitlines()[0][:300] if done.err else 'without a word'}"
    return ""


def _refusal(done: Run, case: Case) -> str:
    """The code of a clean refusal, "" if it is none."""
    found = _REFUSAL.fullmatch(done.err)
    if found is None or done.out:
        return ""
    code = found[1]
    fine = done.code == 2 or (case.command == LOSSY and done.code == 1 and code.startswith("GO4"))
    return code if fine else ""


def _accepted(case: Case, done: Run, path: Path, target: Path, written: dict[str, str]) -> str:
    if done.code != 0:
        return f"exit {done.code}: {(done.err or done.out)[:300]!r}"
    if done.err:
        return f"said on stderr: {done.err[:300]!r}"
    wanted = {"model/o.onnx"} if case.command[0] == "run" else set[str]()
    if written.keys() - {"model/o.onnx.data"} != wanted:
        return f"wrote {sorted(written)} instead of {sorted(wanted)}"
    if case.allowed is Allowed.REFUSED:
        return "accepted: this must be refused"
    if case.command == EXACT:
        why = disagreement(path, target)
    elif case.command == LOSSY:
        why = loads(target)
    else:
        why = ""
    return f"result: {why}" if why else ""


def keep(case: Case, folder: Path) -> Path:
    """Write a case's model where it stays, for a person to look at; its path."""
    place = folder / re.sub(r"\W+", "-", case.id)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (folder / "secret.bin").write_bytes(_SECRET)
    return case.write(place)
