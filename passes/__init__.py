"""The built-in passes: one file or folder each. Installed, and always imported, as ``graphopt.passes``.

Nothing is imported here; ``graphopt.pipeline.registry`` finds a pass by its name.
"""

if __name__ != "graphopt.passes":
    # A second copy under another name would give every pass two classes that are not equal.
    raise ImportError(f"import this package as graphopt.passes, not as {__name__}")
