"""What a run asks of the machine that it starts on: a device that can do it, and images."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig

from atrous import hardware
from atrous.building import build_datasets, build_test_set
from atrous.errors import ConfigError


def check_machine(config: Mapping[str, Any]) -> None:
    """Refuse a run that cannot be made here; one that is done is read on any machine, and is not asked.

    Raises:
        ConfigError: what a device cannot do, a line per problem, or data that cannot be built.
        DataError: folders, lists or files that are not there, also of the test set of a submission.
    """
    problems = list(machine_problems(config))
    if problems:
        raise ConfigError("\n".join(problems))
    build_datasets(config["data"])
    if config["submission"] is not None:
        from atrous.evaluation.submission import SERVERS, check_submission

        check_submission(build_test_set(config["data"]), SERVERS[config["submission"]])


def accelerator_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Whether the device is one on any machine."""
    accelerator = config["trainer"]["accelerator"]
    if accelerator not in hardware.ACCELERATORS:
        yield f"trainer.accelerator={accelerator!r}: one of {', '.join(hardware.ACCELERATORS)}"


def machine_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What the devices cannot do, a line each: the key, its value and what would be right.

    This machine is asked where a run's own command runs, on a cluster's node as well. A sweep's launcher has jobs
    checked before there is one, maybe for other machines. PyTorch is loaded only if there is no other way to tell.
    """
    accelerator, precision = config["trainer"]["accelerator"], config["recipe"]["precision"]
    starts_here, asks_gpu = HydraConfig.initialized(), accelerator in hardware.GPUS
    if starts_here or not asks_gpu:
        try:
            hardware.require_device(accelerator, key="trainer.accelerator")
        except ConfigError as error:
            yield str(error)
    if precision != "16-mixed" or asks_gpu:
        return
    if accelerator == "cpu" or (accelerator == "auto" and starts_here and not hardware.has_cuda()):
        yield (
            f"recipe.precision={precision!r} needs a GPU, and on a CPU Lightning would take bfloat16 in its place: "
            "bf16-mixed says so, 32-true is exact"
        )
