"""Measure a network of this folder by name: its metric and figure, from the committed file, with onnxruntime.

The name is a table of ``manifest.toml`` and a folder ``models/NAME`` with a module ``evaluate``, whose ``main`` takes the
words of a command line: the ONNX file first, then options of its own. Here the file, or each of them, comes from the manifest;
what follows the name is passed on.

    python -m models.evaluate NAME [options]
    python -m models.evaluate                 lists the names

``--model FILE`` measures another file, one that was compiled from the network, say.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def files(table: dict[str, Any]) -> dict[Path, str]:
    """The ONNX files of a manifest's table and their sha256: ``file`` and ``sha256``, or the entries of ``files``."""
    entries = [*table.get("files", {}).values()] or [table]
    return {HERE / entry["file"]: entry["sha256"] for entry in entries}


def measure(name: str, path: Path, arguments: list[str]) -> None:
    """Run ``models.NAME.evaluate`` on one file."""
    importlib.import_module(f"models.{name}.evaluate").main([str(path), *arguments])


def main() -> int:
    """Print the metric and the figure of each file of one network."""
    manifest = tomllib.loads((HERE / "manifest.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Measure a network of this folder.", epilog=f"names: {', '.join(manifest)}")
    parser.add_argument("name", nargs="?", help="a table of manifest.toml")
    parser.add_argument("--model", type=Path, help="another ONNX file (default: those of the manifest)")
    options, rest = parser.parse_known_args()
    if options.name is None:
        print("\n".join(manifest))
        return 0
    if options.name not in manifest:
        parser.error(f"no '{options.name}' in manifest.toml; there are {', '.join(manifest)}")
    table = manifest[options.name]
    metric = table["metric"]["name"]
    if options.model is not None:
        print(f"{options.model}: {metric}")
        measure(options.name, options.model, rest)
        return 0
    wrong = 0
    for path, digest in files(table).items():
        print(f"{path.relative_to(HERE)}: {metric}; the manifest says {table['metric']['figure']}", flush=True)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            print(f"error: {path.name} is not the file that the manifest describes", file=sys.stderr)
            wrong = 1
        measure(options.name, path, rest)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
