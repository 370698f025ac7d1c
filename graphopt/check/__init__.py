"""Rules for continuous integration: is this model fit to be shipped?

- ``rule`` and ``finding``: what a rule is and what it finds; ``codes`` is the one map from code to rule, ``rules`` has them, one
  file each; ``registry`` finds and selects them.
- ``subject`` is what a rule may ask; ``dryrun`` asks the passes, so that a check and a pass never disagree.
- ``runner`` checks one model, ``session`` many, with ``config``, ``baseline`` and ``suppress``.
"""

from graphopt.check.finding import Checked, Finding, Level, State
from graphopt.check.rule import Rule, Stage

__all__ = ["Checked", "Finding", "Level", "Rule", "Stage", "State"]
