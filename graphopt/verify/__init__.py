"""Is the output still the input? Structure, interface, numbers; and what to leave behind when it is not.

No function here has a default tolerance: it is written where it is used.
"""

from graphopt.verify.compare import Drift, Recording, compare, compare_recorded, within
from graphopt.verify.differences import Difference, first_difference
from graphopt.verify.interface import check_interface
from graphopt.verify.measures import OutputDrift
from graphopt.verify.reproducer import Reproducer, leave_reproducer
from graphopt.verify.structure import check_structure

__all__ = [
    "Difference",
    "Drift",
    "OutputDrift",
    "Recording",
    "Reproducer",
    "check_interface",
    "check_structure",
    "compare",
    "compare_recorded",
    "first_difference",
    "leave_reproducer",
    "within",
]
