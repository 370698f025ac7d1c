"""The baseline: findings that were there before, and do not fail the check until they are touched.

An entry is (rule, model, anchor) and how many there are. The anchor is structural (``graphopt.check.anchor``): renaming every node
revives nothing, and one more of the same kind is new. The model is its path as seen from the baseline's folder, with ``/``, so that
a checkout anywhere gives the same file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from graphopt.check.finding import Checked, Finding, State
from graphopt.check.place import seen_from
from graphopt.errors import UsageError
from graphopt.model.files import write_bytes

SCHEMA = 1
Key = tuple[str, str, str]


class Baseline:
    """What was found when the baseline was written."""

    def __init__(self, folder: Path, counts: Counter[Key]) -> None:
        self.folder = folder
        self._left = Counter(counts)

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read the file. Raises UsageError GO953."""
        try:
            data: object = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
            raise UsageError("GO953", str(path), why, f"`graphopt check --write-baseline {path}` writes one") from None
        except ValueError as error:
            raise UsageError("GO953", str(path), f"is no JSON: {error}", "write it again with --write-baseline") from None
        return cls(path.resolve().parent, Counter(_counts(data, path)))

    def apply(self, checked: Checked) -> Checked:
        """The same, with the findings marked that are in the baseline; each entry answers for as many as it counted."""
        model = seen_from(Path(checked.model), self.folder)
        return replace(checked, findings=tuple(self._known(finding, model) for finding in checked.findings))

    def _known(self, finding: Finding, model: str) -> Finding:
        key = (finding.code, model, finding.anchor)
        if finding.state is not State.NEW or not self._left[key]:
            return finding
        self._left[key] -= 1
        return replace(finding, state=State.BASELINE)


def write(path: Path, results: Iterable[Checked]) -> int:
    """Write the baseline of what was found; how many findings it holds."""
    folder = path.resolve().parent
    counts: Counter[Key] = Counter()
    places: dict[Key, str] = {}
    for checked in results:
        model = seen_from(Path(checked.model), folder)
        for finding in checked.findings:
            if finding.state is not State.SUPPRESSED:
                key = (finding.code, model, finding.anchor)
                counts[key] += 1
                places.setdefault(key, finding.where)
    entries = [
        {"code": key[0], "model": key[1], "anchor": key[2], "count": count, "where": places[key]}
        for key, count in sorted(counts.items())
    ]
    write_bytes(path, (json.dumps({"schema": SCHEMA, "findings": entries}, indent=1) + "\n").encode())
    return sum(counts.values())


def _counts(data: object, path: Path) -> dict[Key, int]:
    entries = cast("dict[str, Any]", data).get("findings") if isinstance(data, dict) else None
    if not isinstance(entries, list) or cast("dict[str, Any]", data).get("schema") != SCHEMA:
        raise UsageError("GO953", str(path), "is no baseline of graphopt's", "write it again with --write-baseline")
    counts: dict[Key, int] = {}
    for entry in cast("list[object]", entries):
        fields = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        code, model, anchor, count = (fields.get(name) for name in ("code", "model", "anchor", "count"))
        if not (isinstance(code, str) and isinstance(model, str) and isinstance(anchor, str) and type(count) is int and count > 0):
            raise UsageError("GO953", str(path), "has an entry without code, model, anchor and count", "write it again")
        counts[code, model, anchor] = counts.get((code, model, anchor), 0) + count
    return counts
