"""Re-parametrization blocks as ONNX files, and the operators of the form that their papers deploy, sorted.

``make.py`` wrote the files from the networks in ``nets.py``; both need torch, nothing else here does.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent

DEPLOYED: dict[str, list[str]] = {
    "repvgg": ["Conv", "Conv", "Relu", "Relu"],
    "repvgg_grouped": ["Conv", "Relu"],
    "qarepvgg": ["Conv", "Relu"],
    "mobileone": ["Conv", "Conv", "Relu", "Relu"],
    "mobileone_same_width": ["Conv", "Conv", "Relu", "Relu"],
    "mobileone_stride": ["Conv", "Conv", "Relu", "Relu"],
    "acnet": ["Conv", "Relu"],
    "dbb": ["Conv", "Relu"],
    "dbb_shifted": ["Conv", "Relu"],
    "ecb": ["Conv", "PRelu"],
    "sesr": ["Add", "Add", "Conv", "Conv", "Conv", "Conv", "DepthToSpace", "PRelu", "PRelu", "PRelu"],
    "sesr_long_skip": ["Conv", "DepthToSpace"],
    "unireplk": ["Conv", "Relu"],
    "repvit": ["Conv", "Relu"],
    "repmixer": ["Conv", "Relu"],
    "orepa": ["Conv", "Relu"],
}
