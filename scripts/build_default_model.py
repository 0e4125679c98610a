"""Make the shipped model: python scripts/build_default_model.py RUN_DIR [RUN_DIR ...]."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["build-default", *sys.argv[1:]])
