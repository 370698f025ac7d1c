"""``cifar_rep``: a CIFAR-10 classifier that still carries the branches it was trained with.

``net`` is the network (torch), ``data`` fetches and reads the data set (numpy, pillow; npm to fetch), ``train`` trains and exports
(torch, onnx, onnxruntime), ``evaluate`` measures the accuracy of an ONNX file (numpy, pillow, onnxruntime).
"""
