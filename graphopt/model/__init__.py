"""The only door to ONNX files and protos: reading, editing and writing models without losing anything.

``Model`` holds an ``onnx_graphsurgeon.Graph`` to edit and a ledger of all that graphsurgeon cannot carry. Nothing outside this
package builds a graph from a proto, serialises one, or reads the values of a ``gs.Constant`` by itself.
"""

from graphopt.model.model import Model, node_key, node_label

__all__ = ["Model", "node_key", "node_label"]
