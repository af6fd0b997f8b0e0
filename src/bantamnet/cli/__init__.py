"""The command `bantamnet`."""

import sys


def main() -> None:
    """Run the command line; a user's mistake ends with its message and exit code 2, never with a traceback."""
    from bantamnet.cli.app import app
    from bantamnet.errors import UserError

    try:
        app(prog_name="bantamnet")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
