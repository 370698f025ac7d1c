"""``sr_x3`` and ``sr_x3_masked``: super-resolution by three, with the linear blocks it was trained in.

``net`` is the network (torch), ``data`` fetches the photographs and cuts patches (numpy, Pillow), ``train`` trains and
exports (torch, onnx, onnxscript, onnxruntime), ``evaluate`` measures an ONNX file on five photographs (numpy, Pillow,
onnxruntime).
"""
