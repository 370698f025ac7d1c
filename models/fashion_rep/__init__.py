"""``fashion_rep``: a Fashion-MNIST classifier that still carries the branches it was trained with.

``net`` is the network (torch), ``data`` reads the data set and writes the calibration and test arrays (numpy),
``train`` trains and exports (torch, onnx, onnxruntime), ``evaluate`` measures the accuracy of an ONNX file (numpy,
onnxruntime).
"""
