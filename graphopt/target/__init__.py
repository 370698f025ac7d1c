"""Devices as data: one TOML file a device, loaded into a frozen ``Target``.

Every field says how well it is known and from where.
"""

from graphopt.target.costs import Cost, CostTable
from graphopt.target.target import Evidence, Int8Scheme, Shield, Target

__all__ = ["Cost", "CostTable", "Evidence", "Int8Scheme", "Shield", "Target"]
