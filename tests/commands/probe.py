"""Runs a console script, `python probe.py NAME ARGUMENT...`, and says on stderr which heavy libraries it imported.

Ends without taking the interpreter apart, which takes half a second where torch is imported.
"""

import atexit
import importlib
import os
import sys

HEAVY = {"torch", "lightning", "wandb", "albumentations"}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    code: object = 0
    try:
        importlib.import_module(f"atrous.commands.{name}").main()
    except SystemExit as ended:
        code = ended.code
    finally:
        print("heavy:", *sorted(HEAVY & set(sys.modules)), file=sys.stderr)  # noqa: T201
    if code is not None and not isinstance(code, int):
        sys.exit(str(code))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
