"""Write the pages of the rules: ``python -m tests.check.write_docs``."""

from __future__ import annotations

from pathlib import Path

from graphopt.check.codes import CODES
from graphopt.cli.explain import describe, page

DOCS = Path(__file__).parents[2] / "docs" / "rules"


def index() -> str:
    """The table of all rules."""
    rows = [describe(code) for code in CODES]
    lines = [f"| [{r['code']}]({r['code']}.md) | {r['name']} | {r['level']} | {_fix(r['fix'])} | {r['summary']} |" for r in rows]
    head = "# Rules\n\nWritten by `python -m tests.check.write_docs` from the rules' docstrings.\n\n"
    return head + "| code | name | level | mended by | |\n|---|---|---|---|---|\n" + "\n".join(lines) + "\n"


def _fix(pipeline: str) -> str:
    return f"`{pipeline}`" if pipeline else ""


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    for code in CODES:
        (DOCS / f"{code}.md").write_text(page(code), encoding="utf-8")
    (DOCS / "README.md").write_text(index(), encoding="utf-8")
