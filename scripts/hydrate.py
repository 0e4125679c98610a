"""Rebuild the texts of real passages from local files; same as `relclass data hydrate`."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["data", "hydrate", *sys.argv[1:]])
