"""Which channels hang together, and which of them can go: the ``Channels`` analysis.

``labels`` is the union-find, ``propagate`` runs the operators of a graph on labels (once to analyse, again to check a pruned
graph), ``taint`` follows sizes, ``groups`` collects what can go together. What each operator does to labels is in
``graphopt.ops.channels``.
"""

from graphopt.analysis.channels.analysis import ChannelGraph, Channels
from graphopt.analysis.channels.groups import Group, Place, columns_of, rows_of
from graphopt.analysis.channels.labels import LabelTable
from graphopt.analysis.channels.propagate import Flow, Problem, Use, check

__all__ = ["ChannelGraph", "Channels", "Flow", "Group", "LabelTable", "Place", "Problem", "Use", "check", "columns_of", "rows_of"]
