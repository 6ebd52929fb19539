"""What the console scripts share: Hydra on our folders, and errors that are one line for people."""

import errno
import io
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from atrous.commands.explain import explain
from atrous.commands.words import with_home
from atrous.errors import AtrousError, RowError
from atrous.exit_codes import FAILED, after_signal
from atrous.processes import Interrupted
from atrous.resources import conf_folder
from atrous.studies.composing import raised_by_hydra
from atrous.studies.schema import register
from atrous.terminal import lasting_output

_OF_A_PATH = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG)  # that somebody gave

Task = Callable[[DictConfig], Any]


def run_app(task: Task, *, config_name: str, interrupted: str = "the same command goes on where it stopped") -> None:
    """Run `task` as a Hydra application on conf/ and experiments/; exit with a line, not a traceback, on user errors.

    Args:
        task: gets the composed config; what it returns goes to Hydra's sweepers.
        config_name: the primary config in conf/.
        interrupted: what is true where someone has interrupted it.

    Raises:
        SystemExit: with a code of `atrous.exit_codes`.
    """
    register()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("OC_CAUSE", "0")  # OmegaConf names no key where a tracer runs, as coverage and debuggers do
    wants_trace = "HYDRA_FULL_ERROR" in os.environ
    # argparse takes overrides in one piece only: `a=1 -m b=2` would be refused.
    sys.argv[1:] = sorted(map(with_home, sys.argv[1:]), key=_is_override)
    errors: list[Exception] = []
    try:
        with lasting_output(), _errors_raised(), _help_wrapped():
            run = _keeping_errors(task, errors)
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(run)()
        if errors:
            raise errors[0]
    except AtrousError as error:
        _stop(str(error), code=error.exit_code)
    except (HydraException, OmegaConfBaseException, RowError, YAMLError) as error:
        if wants_trace:
            raise
        _stop(explain(error, config_name=config_name))
    except Exception as error:
        if not wants_trace and isinstance(error, OSError) and error.errno in _OF_A_PATH and error.filename is not None:
            _stop(f"{error.filename}: {error.strerror}", code=FAILED)
        if wants_trace or not raised_by_hydra(error):
            raise
        given = " ".join(argument for argument in sys.argv[1:] if _is_override(argument))
        absent = "logger.wandb." in given and "logger=wandb" not in given
        hint = "; there is no logger.wandb until logger=wandb adds it" if absent else ""
        _stop(f"Hydra cannot read {given} ({error}){hint}")
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        _stop(f"interrupted; {interrupted}", code=after_signal(number))


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def _keeping_errors(task: Task, errors: list[Exception]) -> Task:
    """`task`, which hands a single run's error over here: Hydra would print a line of its own first."""

    @wraps(task)
    def run(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return task(config)
        try:
            return task(config)
        except Exception as error:
            errors.append(error)
            return None

    return run


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Let Hydra raise what it would print with a traceback."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _help_wrapped() -> Iterator[None]:
    """Fold the long lists of choices that Hydra prints on --help, one line per group, to lines that people can read."""
    if not {"--help", "-h"} & set(sys.argv):
        yield
        return
    terminal = sys.stdout
    with redirect_stdout(io.StringIO()) as text:
        try:
            yield
        finally:
            for line in text.getvalue().splitlines():
                folded = textwrap.wrap(line, width=100, subsequent_indent="    ", break_on_hyphens=False)
                terminal.write("\n".join(folded if len(line) > 120 else [line]) + "\n")


def _stop(message: str, *, code: int = AtrousError.exit_code) -> None:
    with lasting_output():
        for line in message.splitlines():
            print(f"error: {line}" if not line.startswith("  ") else line, file=sys.stderr)  # noqa: T201
    sys.exit(code)
