"""Ranks that somebody else started: tasks of a SLURM step, workers of torchrun, tasks of a local job of submitit.

Every rank runs the same command. Who it is, where the first rank listens and what all ranks of one launch have in
common is a pure function of the environment; what they do together is in `atrous.studies.together`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atrous.errors import ConfigError

_PORTS = range(12000, 28384)  # below Linux's ephemeral ports, which any process may hold


@dataclass(frozen=True)
class Ranks:
    """One of the processes that train a run together.

    Attributes:
        rank: of this process, 0 to world_size - 1; the first one decides.
        local_rank: among those on this machine.
        world_size: how many there are.
        node: index of this machine.
        nodes: how many machines there are.
        address: of the first rank's machine.
        port: where the first rank listens there.
        token: the same for all ranks of one launch, another one for the next; `[A-Za-z0-9._-]`.
        starter: who started them, for messages.
    """

    rank: int
    local_rank: int
    world_size: int
    node: int
    nodes: int
    address: str
    port: int
    token: str
    starter: str

    def environment(self) -> dict[str, str]:
        """The variables by which torch.distributed and Lightning know a rank."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "GROUP_RANK": str(self.node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def ranks_of(environment: Mapping[str, str]) -> Ranks | None:
    """The rank of a process by its environment variables; None where it runs alone.

    torchrun comes first: it is often started inside of a SLURM step, one per machine. A step of one task is a process
    that runs alone, whatever the allocation around it holds.

    Args:
        environment: of the process.

    Raises:
        ConfigError: a variable that belongs to the others is missing or no number.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return _of_torchrun(environment)
    if environment.get("SUBMITIT_EXECUTOR") == "local":
        return _of_submitit(environment) if _number(environment, "SUBMITIT_LOCAL_NTASKS") > 1 else None
    if _number(environment, "SLURM_STEP_NUM_TASKS", default=1) > 1:
        return _of_slurm(environment)
    return None


def check_layout(ranks: Ranks | None, *, nodes: int, devices: int) -> None:
    """Refuse ranks that are not those which a run asks for.

    Args:
        ranks: of this process, None where it runs alone.
        nodes: the run's trainer.nodes.
        devices: its trainer.devices.

    Raises:
        ConfigError: says what was started, what the run asks for and the keys of both.
    """
    if ranks is None and nodes > 1:
        raise ConfigError(
            f"trainer.nodes={nodes}, but this command runs on one machine alone. Start it on each of them:\n"
            f"  srun --nodes={nodes} --ntasks-per-node={devices} atrous-train ...    or "
            f"-m hydra/launcher=submitit_slurm hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}\n"
            f"  torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT "
            f"--rdzv-id=NAME -m atrous.commands.train ..."
        )
    if ranks is not None and (ranks.nodes, ranks.world_size) != (nodes, nodes * devices):
        raise ConfigError(
            f"{ranks.starter} started {ranks.world_size} processes on {ranks.nodes} machines, but "
            f"trainer.nodes={nodes} x trainer.devices={devices} needs {nodes * devices} on {nodes}: "
            f"set trainer.nodes={ranks.nodes} trainer.devices={max(1, ranks.world_size // ranks.nodes)}, or start as "
            "many as the run asks for "
            f"(hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}, or srun's and torchrun's options)"
        )


def check_tasks(settings: Mapping[str, Any], *, nodes: int, devices: int) -> None:
    """Refuse a launcher's tasks that are not a run's ranks: one task that starts them all, or one for each.

    Raises:
        ConfigError: names the keys of both.
    """
    tasks = (int(settings.get("nodes") or 1), int(settings.get("tasks_per_node") or 1))
    if tasks == (nodes, devices) or (tasks == (1, 1) and nodes == 1):
        return
    if "tasks_per_node" not in settings:
        raise ConfigError(
            f"trainer.nodes={nodes}: hydra/launcher={settings['_target_']} gives a run one machine; use "
            f"hydra/launcher=submitit_slurm hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}"
        )
    right = f"hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}"
    alone = " (or hydra.launcher.tasks_per_node=1, whose task starts the processes itself)" if nodes == 1 else ""
    raise ConfigError(
        f"hydra.launcher.nodes={tasks[0]} x hydra.launcher.tasks_per_node={tasks[1]} are not the ranks of "
        f"trainer.nodes={nodes} x trainer.devices={devices}: {right}{alone}"
    )


def refuse_sweep(environment: Mapping[str, str]) -> None:
    """Refuse a sweep whose command was itself started once per rank: each of them would run all of it.

    Raises:
        ConfigError: says who started it, and what to do instead.
    """
    ranks = ranks_of(environment)
    if ranks is not None:
        raise ConfigError(
            f"-m was started {ranks.world_size} times by {ranks.starter}, and each would run the whole sweep: start it "
            "once, without torchrun or srun; every run of it gets trainer.devices processes of its own, and with "
            "hydra/launcher=submitit_slurm as many tasks as hydra.launcher.nodes and hydra.launcher.tasks_per_node say"
        )


def first_host(nodelist: str) -> str:
    """The first machine of a SLURM hostlist: `gpu[003-007,12]-ib,cpu1` is `gpu003-ib`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodelist.strip())
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0] if first else "")


def _of_torchrun(environment: Mapping[str, str]) -> Ranks:
    address, port = _text(environment, "MASTER_ADDR"), _number(environment, "MASTER_PORT")
    return Ranks(
        rank=_number(environment, "RANK"),
        local_rank=_number(environment, "LOCAL_RANK"),
        world_size=_number(environment, "WORLD_SIZE"),
        node=_number(environment, "GROUP_RANK", default=0),
        nodes=_number(environment, "GROUP_WORLD_SIZE", default=1),
        address=address,
        port=port,
        # Without --rdzv-id every launch has the same one, "none": the port tells them apart. Each agent counts its own
        # restarts, which may differ: the ranks of the next one meet where those of the last did.
        token=_token("torchrun", environment["TORCHELASTIC_RUN_ID"], address, port),
        starter="torchrun",
    )


def _of_slurm(environment: Mapping[str, str]) -> Ranks:
    job, step = _number(environment, "SLURM_JOB_ID"), _number(environment, "SLURM_STEP_ID")
    nodes = _number(environment, "SLURM_STEP_NUM_NODES")
    return Ranks(
        rank=_number(environment, "SLURM_PROCID"),
        local_rank=_number(environment, "SLURM_LOCALID"),
        world_size=_number(environment, "SLURM_STEP_NUM_TASKS"),
        node=_number(environment, "SLURM_NODEID"),
        nodes=nodes,
        address="127.0.0.1" if nodes == 1 else first_host(_text(environment, "SLURM_STEP_NODELIST")),
        port=_port(job + step),
        token=_token("slurm", f"{job}.{step}", environment.get("SLURM_RESTART_COUNT", "0")),
        starter="srun",
    )


def _of_submitit(environment: Mapping[str, str]) -> Ranks:
    """The local executor of submitit stands in for SLURM on one machine."""
    job = _number(environment, "SUBMITIT_LOCAL_JOB_ID")
    return Ranks(
        rank=_number(environment, "SUBMITIT_LOCAL_GLOBALID"),
        local_rank=_number(environment, "SUBMITIT_LOCAL_LOCALID"),
        world_size=_number(environment, "SUBMITIT_LOCAL_NTASKS"),
        node=0,
        nodes=1,
        address="127.0.0.1",
        port=_port(job),
        token=_token("submitit", job),
        starter="submitit",
    )


def _port(number: int) -> int:
    return _PORTS[number % len(_PORTS)]


def _token(*parts: object) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(map(str, parts)))


def _text(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise ConfigError(f"the environment has no {name}, which belongs to the other variables of srun or torchrun")
    return environment[name]


def _number(environment: Mapping[str, str], name: str, *, default: int | None = None) -> int:
    text = str(default) if default is not None and name not in environment else _text(environment, name)
    if not text.isdigit():
        raise ConfigError(f"the environment says {name}={text!r}: a number was expected")
    return int(text)
