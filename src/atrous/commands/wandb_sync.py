"""`python -m atrous.commands.wandb_sync [STORE] [--dry-run]`, behind `make wandb-sync`: send offline W&B runs."""

import argparse
import os
import sys
from pathlib import Path

from atrous.errors import AtrousError
from atrous.exit_codes import after_signal
from atrous.processes import Interrupted, Interrupts
from atrous.studies.wandb_sync import sync
from atrous.terminal import lasting_output


def main() -> int:
    """Entry point.

    Returns:
        The exit code: 0 when everything is on the server, 1 when something is not, 2 for a store that is none, 128 + n
        when signal n has ended it.
    """
    parser = argparse.ArgumentParser(prog="make wandb-sync", description="Send the offline W&B runs of a store, once.")
    parser.add_argument("store", nargs="?", type=Path, default=Path("outputs"), help="the run store (outputs)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    arguments = parser.parse_args()
    if not os.path.isdir(arguments.store):  # noqa: PTH112  pathlib's raises where a name is too long
        print(f"error: {arguments.store} is no folder: give a run store, e.g. outputs", file=sys.stderr)  # noqa: T201
        return AtrousError.exit_code
    try:
        with lasting_output(), Interrupts():
            sync(arguments.store, dry_run=arguments.dry_run)
    except AtrousError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except Interrupted as error:
        print("error: interrupted; the same command sends what is left", file=sys.stderr)  # noqa: T201
        return after_signal(error.number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
