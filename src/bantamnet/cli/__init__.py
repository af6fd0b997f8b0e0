"""The command `bantamnet`."""

import sys


def main() -> None:
    """Run the command line; a user's mistake ends with its message and exit code 2, never with a traceback."""
    from bantamnet.cli.app import app
    from bantamnet.errors import LostRankError, NonFiniteError, UserError

    try:
        app(prog_name="bantamnet")
    except (UserError, NonFiniteError, LostRankError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 3 if isinstance(error, NonFiniteError) else 4)
