"""Train a model: python scripts/train.py CONFIG [section.key=value ...] [--out RUN_DIR]."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
