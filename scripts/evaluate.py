"""Score models against labelled passages: `relclass evaluate`, as a script."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
