"""A real SLURM of one node in a temporary folder: munged, slurmctld and slurmd, as root or as any user.

    python tests/cluster/slurm.py sinfo                       a command inside of it; it stops when the command ends
    python tests/cluster/slurm.py bash                        a shell

Debian has everything: apt-get install slurmctld slurmd slurm-client munge. Nothing of a SLURM that the machine may
have is used or changed: configuration, keys, ports and state are all in the folder.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

_CONFIG = """\
ClusterName=atrous
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """The programs of SLURM and munge that this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]


def version() -> str:
    """The version of SLURM, as it names itself."""
    return subprocess.run(
        ["slurmctld", "-V"], env={"PATH": _PATH}, capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def running_slurm(*, cpus: int = 2) -> Iterator[dict[str, str]]:
    """A cluster of this machine alone.

    Args:
        cpus: that it shares out, however many there are.

    Yields:
        The environment for commands in the cluster.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _write_config(folder, cpus=cpus)
        munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "log-file")]
        munge += [f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/munge.seed", "--force", "--foreground"]
        stack.enter_context(_daemon("munged", *munge, environment=environment))
        _wait_for((folder / "munge.socket").exists, "munged")
        stack.enter_context(_daemon("slurmctld", "-D", environment=environment))
        stack.enter_context(_daemon("slurmd", "-D", environment=environment))
        _wait_for(lambda: "idle" in _output("sinfo", "-h", "-o", "%T", environment=environment), "the node")
        stack.callback(_cancel_all, environment)
        yield environment


def _write_config(folder: Path, *, cpus: int) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    facts = {"folder": folder, "user": getpass.getuser(), "host": socket.gethostname().split(".")[0], "cpus": cpus}
    # SLURM refuses a node with fewer CPUs than it is told, unless it may not look.
    text = _CONFIG.format(**facts, ports=_free_ports(2)) + "SlurmdParameters=config_overrides\n"
    (folder / "slurm.conf").write_text(text)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def _daemon(*command: str, environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cancel_all(environment: Mapping[str, str]) -> None:
    jobs = _output("squeue", "-h", "-o", "%A", environment=environment).split()
    if jobs:
        subprocess.run(["scancel", "--full", *jobs], env=environment, check=False)
        _wait_for(lambda: not _output("squeue", "-h", environment=environment).strip(), "the end of the jobs")


def _output(*command: str, environment: Mapping[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _wait_for(condition: object, what: str, *, seconds: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s; see the logs beside slurm.conf")
        time.sleep(0.2)


if __name__ == "__main__":
    if missing_programs():
        sys.exit(f"missing: {', '.join(missing_programs())}; apt-get install slurmctld slurmd slurm-client munge")
    with running_slurm() as variables:
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"], env=variables, check=False).returncode)
