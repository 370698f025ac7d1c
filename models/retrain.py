"""Train the networks of this folder again, from nothing but the package registries: the commands of ``manifest.toml``.

It takes hours on one core, and overwrites the committed files. Another processor or another version of torch gives other
weights, hence other digests; ``python -m models.evaluate NAME`` says how good they are.

    python -m models.retrain [NAME ...]
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

MANIFEST = Path(__file__).with_name("manifest.toml")


def main() -> None:
    """Run the command of each network, one that several share only once; a failure ends it."""
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Train the networks of this folder again. It takes hours.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(manifest)}")
    names = parser.parse_args().names or [*manifest]
    if unknown := [name for name in names if name not in manifest]:
        parser.error(f"not in manifest.toml: {', '.join(unknown)}")
    for command in dict.fromkeys(str(manifest[name]["command"]) for name in names):
        print(command, flush=True)
        words = shlex.split(command)
        subprocess.run([sys.executable if w == "python" else w for w in words], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
