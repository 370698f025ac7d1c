"""Running graphs: sessions of onnxruntime, data to run them on, streaming statistics, timing.

- ``Session`` runs a model, ``optimized_graph`` shows what onnxruntime makes of it.
- ``feeds_from`` (values), ``open_data`` (files) and ``generated`` (nothing) make ``Feeds``, the inputs to run on.
- ``stream`` and ``collect`` hand inner tensors to a consumer or an accumulator (``MinMax``, ``Moments``, ``Gram``) in
  bounded memory.
- ``compare_time`` tells which of two models is faster.
"""

from graphopt.runtime.feeds import Feeds, feeds_from
from graphopt.runtime.files import open_data
from graphopt.runtime.generated import generated
from graphopt.runtime.inputs import InputSpec, input_specs
from graphopt.runtime.optimized import kernel_counts, optimized_graph
from graphopt.runtime.preprocess import Preprocess, parse_preprocess
from graphopt.runtime.session import Feed, Runnable, Session
from graphopt.runtime.statistics import Gram, MinMax, Moments
from graphopt.runtime.stream import collect, stream
from graphopt.runtime.timing import Timing, compare_time, measure_time

__all__ = [
    "Feed",
    "Feeds",
    "Gram",
    "InputSpec",
    "MinMax",
    "Moments",
    "Preprocess",
    "Runnable",
    "Session",
    "Timing",
    "collect",
    "compare_time",
    "feeds_from",
    "generated",
    "input_specs",
    "kernel_counts",
    "measure_time",
    "open_data",
    "optimized_graph",
    "parse_preprocess",
    "stream",
]
