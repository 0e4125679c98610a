"""Give every labelled passage a split; same as `relclass data split`."""

import sys

from relclass.cli import main

if __name__ == "__main__":
    main(["data", "split", *sys.argv[1:]])
