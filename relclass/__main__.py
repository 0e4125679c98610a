"""``python -m relclass`` is the command line."""

from relclass.cli import main

if __name__ == "__main__":
    main()
