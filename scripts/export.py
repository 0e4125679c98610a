"""Export a trained model to int8 ONNX: python scripts/export.py MODEL_DIR --out FOLDER."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
