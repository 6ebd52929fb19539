"""What a run asks of a device: of any, and of this machine where it is the one that the run starts on."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig

from atrous import hardware
from atrous.errors import ConfigError


def check_machine(config: Mapping[str, Any]) -> None:
    """Refuse a run that a device cannot do; one that is done is read on any machine, and is not asked.

    Raises:
        ConfigError: as `check` of a config.
    """
    problems = list(machine_problems(config))
    if problems:
        raise ConfigError("\n".join(problems))


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
