"""Who a process is among ranks that SLURM, torchrun or submitit started, from the environment alone."""

import pytest

from atrous.errors import ConfigError
from atrous.studies.ranks import Ranks, check_layout, check_tasks, first_host, ranks_of, refuse_sweep

# What srun of SLURM 22.05 sets for the second task on the second of two machines.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[007-008]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "4",
}
# What torchrun of PyTorch 2.13 sets for the same.
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "gpu007",
    "MASTER_PORT": "40123",
}

SUBMITIT = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}


def ranks(environment: dict[str, str], **changes: str) -> Ranks:
    found = ranks_of({**environment, **changes})
    assert found is not None
    return found


@pytest.mark.parametrize("environment", [SLURM, TORCHRUN])
def test_a_rank_knows_itself_and_where_the_first_one_listens(environment: dict[str, str]) -> None:
    found = ranks(environment)
    assert (found.rank, found.local_rank, found.world_size, found.node, found.nodes) == (3, 1, 4, 1, 2)
    assert found.address == "gpu007"
    assert found.environment() == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "GROUP_RANK": "1",
        "MASTER_ADDR": "gpu007",
        "MASTER_PORT": str(found.port),
    }


def test_all_tasks_of_a_step_agree_and_another_step_or_restart_has_another_token() -> None:
    others = [ranks(SLURM, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank % 2)) for rank in range(4)]
    assert len({(one.token, one.address, one.port) for one in others}) == 1
    token = others[0].token
    assert token != ranks(SLURM, SLURM_STEP_ID="4").token
    assert token != ranks(SLURM, SLURM_RESTART_COUNT="1").token
    assert token != ranks(SLURM, SLURM_JOB_ID="4712").token
    assert others[0].port != ranks(SLURM, SLURM_JOB_ID="4712").port


def test_another_launch_by_torchrun_has_another_token_and_what_each_agent_counts_is_none_of_it() -> None:
    token = ranks(TORCHRUN).token
    assert token == ranks(TORCHRUN, TORCHELASTIC_RESTART_COUNT="1").token
    assert token != ranks(TORCHRUN, TORCHELASTIC_RUN_ID="mine").token
    assert token != ranks(TORCHRUN, MASTER_PORT="40124").token
    assert "/" not in ranks(TORCHRUN, TORCHELASTIC_RUN_ID="a/../b").token


@pytest.mark.parametrize("job", ["0", "1", "4711", "98765432"])
def test_the_port_is_one_that_any_user_may_take_and_no_ephemeral_one(job: str) -> None:
    assert 1024 <= ranks(SLURM, SLURM_JOB_ID=job).port < 32768


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # a batch script, outside of any step
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},
        {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "1"},
        {"RANK": "0", "WORLD_SIZE": "2"},  # left over from something else
    ],
)
def test_a_process_that_was_started_once_runs_alone(environment: dict[str, str]) -> None:
    assert ranks_of(environment) is None


def test_torchrun_inside_of_a_step_comes_before_the_step() -> None:
    assert ranks({**SLURM, **TORCHRUN}).starter == "torchrun"


def test_tasks_of_submitits_local_job_are_ranks_of_one_machine() -> None:
    local = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_JOB_ID": "815"}
    second = ranks({**local, "SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_LOCALID": "1"})
    assert (second.rank, second.local_rank, second.world_size, second.nodes) == (1, 1, 2, 1)
    assert second.address == "127.0.0.1"


def test_a_step_on_one_machine_needs_no_name_service() -> None:
    assert ranks(SLURM, SLURM_STEP_NUM_NODES="1", SLURM_STEP_NODELIST="vm").address == "127.0.0.1"


@pytest.mark.parametrize(
    ("nodelist", "host"),  # as `scontrol show hostnames NODELIST | head -n 1` of SLURM 22.05 says
    [
        ("vm", "vm"),
        ("gpu7,gpu9", "gpu7"),
        ("gpu[003-007,12]", "gpu003"),
        ("gpu[003-007,12]-ib,cpu1", "gpu003-ib"),
        ("rack[1-2]node[05,07]", "rack1node05"),
        ("c-1-2,c-1-[4-5]", "c-1-2"),
    ],
)
def test_the_first_machine_of_a_host_list(nodelist: str, host: str) -> None:
    assert first_host(nodelist) == host


@pytest.mark.parametrize(("name", "value"), [("SLURM_PROCID", None), ("SLURM_JOB_ID", "x"), ("SLURM_STEP_ID", "")])
def test_a_variable_that_is_missing_or_no_number_is_named(name: str, value: str | None) -> None:
    environment = {key: text for key, text in SLURM.items() if key != name}
    if value is not None:
        environment[name] = value
    with pytest.raises(ConfigError, match=name):
        ranks_of(environment)


def test_ranks_that_are_as_many_as_the_run_asks_for_are_taken() -> None:
    check_layout(ranks(SLURM), nodes=2, devices=2)
    check_layout(None, nodes=1, devices=8)


@pytest.mark.parametrize(("nodes", "devices"), [(1, 1), (1, 4), (2, 1), (4, 1)])
def test_other_ranks_than_the_run_asks_for_are_refused_with_every_key(nodes: int, devices: int) -> None:
    with pytest.raises(ConfigError) as caught:
        check_layout(ranks(SLURM), nodes=nodes, devices=devices)
    for text in (
        f"trainer.nodes={nodes} x trainer.devices={devices}",
        "set trainer.nodes=2 trainer.devices=2",
        f"hydra.launcher.nodes={nodes}",
        f"hydra.launcher.tasks_per_node={devices}",
    ):
        assert text in str(caught.value)


def test_several_machines_without_ranks_are_refused_with_both_ways_to_start_them() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.nodes=3") as caught:
        check_layout(None, nodes=3, devices=8)
    assert "srun --nodes=3 --ntasks-per-node=8 atrous-train" in str(caught.value)
    assert "torchrun --nnodes=3 --nproc-per-node=8" in str(caught.value)


@pytest.mark.parametrize(("environment", "starter"), [(SLURM, "srun"), (TORCHRUN, "torchrun")])
def test_a_sweep_that_was_started_once_per_rank_is_refused(environment: dict[str, str], starter: str) -> None:
    with pytest.raises(ConfigError, match=f"-m was started 4 times by {starter}"):
        refuse_sweep(environment)
    refuse_sweep({})


@pytest.mark.parametrize(
    ("settings", "nodes", "devices"),
    [
        ({"nodes": 1, "tasks_per_node": 1}, 1, 8),  # the one task starts its processes
        ({"nodes": 1, "tasks_per_node": 8}, 1, 8),
        ({"nodes": 4, "tasks_per_node": 8}, 4, 8),
        ({}, 1, 8),
    ],
)
def test_tasks_that_are_the_ranks_of_a_run_are_taken(settings: dict[str, int], nodes: int, devices: int) -> None:
    check_tasks({**SUBMITIT, **settings}, nodes=nodes, devices=devices)


@pytest.mark.parametrize(
    ("settings", "nodes", "devices"),
    [
        ({"nodes": 1, "tasks_per_node": 2}, 1, 1),
        ({"nodes": 2, "tasks_per_node": 1}, 1, 2),
        ({"nodes": 1, "tasks_per_node": 1}, 2, 1),
        ({"nodes": 2, "tasks_per_node": 1}, 2, 8),
    ],
)
def test_tasks_that_are_not_the_ranks_of_a_run_are_refused_with_every_key(
    settings: dict[str, int], nodes: int, devices: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_tasks({**SUBMITIT, **settings}, nodes=nodes, devices=devices)
    for key in ("hydra.launcher.nodes", "hydra.launcher.tasks_per_node", "trainer.nodes", "trainer.devices"):
        assert key in str(caught.value)


def test_several_machines_need_a_launcher_that_has_them() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.nodes=2.*BasicLauncher.*hydra/launcher=submitit_slurm"):
        check_tasks(BASIC, nodes=2, devices=1)
