"""``depth``: the depth of a scene from one image, trained and measured on synthetic scenes only.

``scene`` draws scenes from seeds, ``texture`` colours their surfaces, ``render`` casts the rays (numpy), ``net`` is the
network (torch), ``train`` trains and exports (torch, onnx, onnxruntime), ``evaluate`` renders the held-out scenes and
measures an ONNX file on them (numpy, onnxruntime).
"""
