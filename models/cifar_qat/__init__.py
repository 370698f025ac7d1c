"""``cifar_qat``: ``cifar_rep`` fine-tuned with fake quantizers on some layers, exported with QuantizeLinear and DequantizeLinear.

``net`` puts the quantizers in (torch), ``train`` fine-tunes and exports (torch, onnx, onnxruntime), ``evaluate`` measures the
accuracy of an ONNX file (numpy, pillow, onnxruntime). The data set is that of ``models.cifar_rep.data``.
"""
