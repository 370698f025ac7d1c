"""Imports go down only, and the heavy packages are not imported before they are needed.

errors < spec, guard < model < ops < analysis, target, runtime < verify < pipeline < passes, check < report < cli, testing; rooms
on one floor do not import one another. Imports inside functions and for type checking count: they are dependencies too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"errors"},
    {"spec", "guard"},
    {"model"},
    {"ops"},
    {"analysis", "target", "runtime"},
    {"verify"},
    {"pipeline"},
    {"passes", "check"},
    {"report"},
    {"cli", "testing"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOP = {"graphopt/__init__.py", "graphopt/__main__.py"}
"""The public face; it looks down on everything."""


def sources() -> list[Path]:
    # `graphopt/passes` is a link to `passes`: once is enough.
    own = [path for path in (ROOT / "graphopt").rglob("*.py") if "passes" not in path.relative_to(ROOT).parts[:2]]
    return sorted([*own, *(ROOT / "passes").rglob("*.py")])


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "passes" if parts[0] == "passes" else parts[1]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of everything that a file imports from graphopt."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module == "graphopt":
                names = [f"graphopt.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
            else:
                names = [node.module or ""]
        for name in names:
            if name.startswith("graphopt."):
                yield node.lineno, name.split(".")[1]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in TOP:
        return
    room = room_of(path)
    wrong = [
        f"line {line}: {room} imports {other}" for line, other in imports(path) if other != room and FLOOR[other] >= FLOOR[room]
    ]
    assert not wrong


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in sources() if path.relative_to(ROOT).as_posix() not in TOP}
    assert rooms <= set(FLOOR)


HEAVY = ["numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "networkx", "scipy", "rich", "PIL", "importlib.metadata"]


@pytest.mark.parametrize(
    "what",
    ["import graphopt", "from graphopt.cli.main import run; assert run(['--help']) == 0"],
    ids=["import", "help"],
)
def test_nothing_heavy_is_imported(what: str) -> None:
    script = f"import sys\n{what}\nheavy = [name for name in {HEAVY!r} if name in sys.modules]\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there() -> None:
    import graphopt

    for name in graphopt.__all__:
        assert getattr(graphopt, name) is not None
    assert set(graphopt.__all__) <= set(dir(graphopt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        graphopt.nothing  # noqa: B018
