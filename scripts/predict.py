"""Label articles by topic: the same as ``relclass predict``."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
