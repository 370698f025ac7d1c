"""``cifar_bottleneck``: a residual classifier of CIFAR-10 with bottlenecks, of the kind of ResNet-50, exported as trained.

``net`` is the network (torch), ``train`` trains and exports (torch, onnx, onnxruntime), ``evaluate`` measures the accuracy of an
ONNX file (numpy, pillow, onnxruntime). The data set is that of ``models.cifar_rep.data``.
"""
