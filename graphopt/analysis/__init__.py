"""Facts about a graph, computed on demand and cached until the graph is edited.

An analysis is a frozen dataclass (its fields are its parameters) with ``compute``. ``Analyses(model).get(Shapes())`` runs it once
for each version of the model. Analyses compute facts; passes decide.
"""

from graphopt.analysis.cost import Cost, CostTable, NodeCost
from graphopt.analysis.manager import Analyses, Analysis
from graphopt.analysis.shapes import Shapes, ShapeTable

__all__ = ["Analyses", "Analysis", "Cost", "CostTable", "NodeCost", "ShapeTable", "Shapes"]
