"""The command line: parses, calls the package, prints. Errors are one message, no traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from relclass.errors import ConfigError, DataError, MissingExtraError, ModelError

_GROUPS = ("predict", "train", "ensemble", "evaluate", "report", "data")
"""Files of relclass/commands, in the order of the help page."""


def build_app() -> typer.Typer:
    """Build the command line with every subcommand."""
    app = typer.Typer(
        name="relclass",
        help="Topics of news passages on Iran–Azerbaijan relations.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # markup would swallow "[default: …]"
    )
    for group in _GROUPS:
        import_module(f"relclass.commands.{group}").register(app)

    @app.callback()
    def common(
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    ) -> None:
        logging.basicConfig(
            level=logging.INFO if verbose else logging.WARNING,
            format="%(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Parameters
    ----------
    arguments : those after the program's name; None takes the process's own.

    Raises
    ------
    SystemExit
        0 all done; 1 a wrong argument, config, model or input; 2 some inputs were refused.
    """
    try:
        code = build_app()(
            list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False
        )
    except (ConfigError, DataError, ModelError, MissingExtraError) as error:
        print(f"relclass: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except typer.Abort as error:
        raise SystemExit(130) from error
    except typer.Exit as error:
        raise SystemExit(error.exit_code) from error
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's usage errors carry their own text
            raise
        print(f"relclass: {error.format_message()}", file=sys.stderr)
        raise SystemExit(1) from error
    raise SystemExit(code if isinstance(code, int) else 0)
