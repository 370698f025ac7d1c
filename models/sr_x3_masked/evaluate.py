"""PSNR on five photographs: the same measurement as for ``sr_x3``.

python -m models.sr_x3_masked.evaluate MODEL.onnx [--data FOLDER]
"""

from models.sr_x3.evaluate import main

if __name__ == "__main__":
    main()
