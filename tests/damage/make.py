"""Write one damaged model to look at it.

    python -m tests.damage.make KIND BASE SEED [FOLDER]

The survey prints these arguments with each failure.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.damage.corpus import Case
from tests.damage.oracle import keep


def main() -> None:
    kind, base, seed, *folder = sys.argv[1:]
    print(keep(Case(kind, base, int(seed)), Path(folder[0] if folder else "damaged")))


if __name__ == "__main__":
    main()
