"""What a person, or another program, reads of a run: ``to_text`` for terminals, ``to_json`` for everything else."""

from graphopt.report.json import to_json
from graphopt.report.text import to_text

__all__ = ["to_json", "to_text"]
