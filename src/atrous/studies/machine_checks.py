"""What a run asks of the machine that it starts on: a device that can do it, and images."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from hydra.core.hydra_config import HydraConfig

from atrous import hardware
from atrous.building import build_datasets, build_test_set
from atrous.errors import ConfigError


def check_machine(config: Mapping[str, Any], *, starts_here: bool = False) -> None:
    """Refuse a run that cannot be made here; one that is done is read on any machine, and is not asked.

    Args:
        config: of the run.
        starts_here: see `machine_problems`.

    Raises:
        ConfigError: what a device cannot do, a line per problem, data that cannot be built, or fewer validation images
            than devices.
        DataError: folders, lists or files that are not there, also of the test set of a submission.
    """
    problems = [*machine_problems(config, starts_here=starts_here), *_missing_packages(config)]
    if problems:
        raise ConfigError("\n".join(problems))
    _, val = build_datasets(config["data"])
    trainer = config["trainer"]
    if trainer["val_every"] <= config["recipe"]["max_steps"]:
        from atrous.data.leakage import require_image_per_rank

        require_image_per_rank(len(val), ranks=trainer["nodes"] * trainer["devices"])
    if config["submission"] is not None:
        from atrous.evaluation.submission import SERVERS, check_submission

        check_submission(build_test_set(config["data"]), SERVERS[config["submission"]])


def is_of_timm(config: Mapping[str, Any]) -> bool:
    """Whether timm builds the backbone."""
    return str(config["backbone"]["_target_"]).endswith("TimmBackbone")


def _missing_packages(config: Mapping[str, Any]) -> Iterator[str]:
    if is_of_timm(config) and find_spec("timm") is None:
        yield "backbone=timm needs the package timm: pip install 'atrous[timm]'"


def accelerator_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Whether the device is one on any machine."""
    accelerator = config["trainer"]["accelerator"]
    if accelerator not in hardware.ACCELERATORS:
        yield f"trainer.accelerator={accelerator!r}: one of {', '.join(hardware.ACCELERATORS)}"


def _missing_gpus(trainer: Mapping[str, Any]) -> Iterator[str]:
    """More devices than this machine has; one is there, and processes on a CPU may be any number."""
    accelerator, devices = trainer["accelerator"], trainer["devices"]
    if devices == 1 or accelerator not in ("auto", *hardware.GPUS) or not hardware.has_cuda():
        return
    count = hardware.gpu_count()
    if devices > count:
        yield (
            f"trainer.devices={devices}, but PyTorch finds {count} GPUs here: trainer.devices={count}, or a machine "
            "with more (CUDA_VISIBLE_DEVICES may hide some)"
        )


def machine_problems(config: Mapping[str, Any], *, starts_here: bool = False) -> Iterator[str]:
    """What the devices cannot do, a line each: the key, its value and what would be right.

    PyTorch is loaded only if there is no other way to tell.

    Args:
        config: of the run.
        starts_here: whether it is known that the run will be made on this machine, as it is anyway where a run's own
            command runs, on a cluster's node as well. A cluster's launcher has jobs checked for other machines.
    """
    accelerator, precision = config["trainer"]["accelerator"], config["recipe"]["precision"]
    starts_here, asks_gpu = starts_here or HydraConfig.initialized(), accelerator in hardware.GPUS
    if starts_here or not asks_gpu:
        try:
            hardware.require_device(accelerator, key="trainer.accelerator")
        except ConfigError as error:
            yield str(error)
    if starts_here:
        yield from _missing_gpus(config["trainer"])
    if precision != "16-mixed" or asks_gpu:
        return
    if accelerator == "cpu" or (accelerator == "auto" and starts_here and not hardware.has_cuda()):
        yield (
            f"recipe.precision={precision!r} needs a GPU, and on a CPU Lightning would take bfloat16 in its place: "
            "bf16-mixed says so, 32-true is exact"
        )
