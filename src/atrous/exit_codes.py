"""What an exit code says: of a command, and of the process that trains a run.

    0            done, or stopped where `trainer.stop_at_step` said
    1            failed; the run's status.json and the last line say why
    2            refused: a key, a file or a combination is wrong, and nothing was started
    75           failed by the machine: a rank, or a worker of its loader, was killed or a rank hung; another try may do
    128 + n      ended by signal n after it saved: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP; the same command goes on
    -n           (as Python sees a child) killed by signal n without a chance to save

A job's process ends with 0, also after it saved on request, 1, 75 or -n; a command with 0, 1, 2 or 128 + n.
"""

import signal

DONE = 0
FAILED = 1
REFUSED = 2
TEMPORARY = 75
_SIGNALS = 128


def after_signal(number: int) -> int:
    """The exit code of a command that a signal has ended, as shells, SLURM and Kubernetes count."""
    return _SIGNALS + number


def is_of_the_machine(code: int) -> bool:
    """Whether a job's process ended by no fault of its run, so that the same may go well another time."""
    return code < 0 or code == TEMPORARY


def killed_by(number: int) -> str:
    """What has killed a process, in words."""
    name = signal.Signals(number).name
    hung = " (nothing of Python ran for twice trainer.timeout_seconds; the log holds the stacks)"
    return f"{name}{hung}" if number == signal.SIGALRM else name
