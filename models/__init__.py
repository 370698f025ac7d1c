"""Example networks: how they are built and trained, and their trained ONNX files.

Nothing here is part of the compiler. Each model has a folder of its own with its network, its data reader, its
training script and what they wrote; ``manifest.toml`` lists the files with their figures and digests, ``README.md`` is
the same for people. What they share is beside the folders: ``branches`` (pieces of networks), ``training``, ``export``
(torch), ``fetch`` (packages that ship data), ``session`` (onnxruntime); ``evaluate`` and ``retrain`` are commands.
"""
