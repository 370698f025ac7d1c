"""The operators that multiply activations with weights, where most of the arithmetic is."""

KERNELS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
