"""The type of every key of a run: Hydra checks names and types against these before anything else happens.

The values live in conf/; a file there names its schema first in its defaults list.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from atrous.studies.schema_networks import (
    CascadeConfig,
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    MobileNetV2Config,
    ResNetConfig,
    TimmConfig,
    XceptionConfig,
)
from atrous.studies.schema_recipe import DataConfig, RecipeConfig


@dataclass
class TrainerConfig:
    """The machines: nothing here changes what a run is, only where and how fast it happens.

    A run takes `devices` processes on each of `nodes` machines. `activation_checkpointing` says what of the
    network is computed twice to hold less in memory: `none`, `maps` (all but the outputs of convolutions) or `units`
    (also what is inside of residual units). `cpu_allocator` is `auto`, which packs tensors more densely where there is
    a C++ compiler, or `pytorch`; so is `cpu_kernels`, whose `auto` takes batch norm and ReLU in fewer passes there.
    `compile` has torch.compile make the training's passes; `tf32` and `cudnn_benchmark` matter on CUDA alone: float32
    products in TensorFloat-32, and cuDNN's choice by trial. There `deterministic` gives a run the same bits each time,
    which a CPU does anyway.
    `on_nonfinite` says what becomes of a step whose loss or gradient is not finite: `stop` the run, or `skip` the step
    (counted in results.json; ten in a row stop it too). `timeout_seconds` without a sign of life end a rank, with its
    stack (0: never). A run whose process was killed or hung is started again `restarts` times, where it saved last.
    """

    accelerator: str = "auto"
    nodes: int = 1
    devices: int = 1
    accumulate: int = 1
    batch_per_device: int | None = None
    threads: int = 0
    channels_last: bool = True
    activation_checkpointing: str = "maps"
    cpu_allocator: str = "auto"
    cpu_kernels: str = "auto"
    compile: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = True
    deterministic: bool = False
    val_every: int = 0
    checkpoint_every: int = 100
    log_every: int = 10
    progress: bool = True
    stop_at_step: int | None = None
    on_nonfinite: str = "stop"
    timeout_seconds: float = 600.0
    restarts: int = 1


@dataclass
class WandbConfig:
    """Weights & Biases; `mode: auto` is online when there is a login and offline otherwise.

    `patience` is how many seconds a run waits for the server at its beginning, and again at its end.
    """

    project: str = "atrous"
    entity: str | None = None
    mode: str = "auto"
    images: int = 4
    patience: float = 30.0


@dataclass
class LoggerConfig:
    """metrics.csv is always written; W&B when its section is there."""

    wandb: WandbConfig | None = None


@dataclass
class RowConfig:
    """One row of a table: what it overrides, what the paper reports, and why it cannot be trained here, if so.

    With `against`, the name of another row, the row's number is what it has more than that one.
    """

    name: str = MISSING
    overrides: list[str] = MISSING
    columns: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    protocol: str = "single"
    against: str = ""
    note: str = ""
    unreachable: str = ""


@dataclass
class ExperimentConfig:
    """A table or figure of a paper: its rows drive the sweep, the tests and the report.

    `metric` is what a row is compared by (see atrous.studies.metrics), `picture` the figure that its report draws.
    """

    table: str = MISSING
    paper: str = MISSING
    title: str = MISSING
    trend: str = ""
    metric: str = "miou"
    picture: str = ""
    overrides: list[str] = field(default_factory=list)
    rows: list[RowConfig] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)


@dataclass
class ScaleConfig:
    """A size at which tables are run; only `paper` is a reproduction."""

    name: str = MISSING
    label: str = MISSING
    is_reproduction: bool = False
    overrides: list[str] = field(default_factory=list)
    substitute: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunConfig:
    """One training and the protocols it is evaluated with."""

    model: Any = MISSING
    backbone: Any = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    output_stride: int = 16
    seed: int = 0
    parent: list[str] | None = None
    parent_root: str | None = None
    protocols: list[str] = field(default_factory=lambda: ["single"])
    boundary: bool = False
    submission: str | None = None
    store: str = "outputs"
    table: str | None = None
    row: str | None = None
    scale: ScaleConfig | None = None
    experiment: ExperimentConfig | None = None
    rows: list[str] | None = None
    fail_fast: bool = False


@dataclass
class EvaluateConfig:
    """Which run, or which released weights, are evaluated how."""

    run: str = MISSING
    weights: str | None = None
    source: str | None = None
    protocols: list[str] = field(default_factory=lambda: ["single"])
    checkpoint: str = "last"
    compare: str | None = None
    boundary: bool = False
    page: bool = True
    submission: str | None = None
    data: Any = None  # a DataConfig where data=NAME chose one; OmegaConf falls over keys of an optional section
    data_root: str | None = None
    split: str | None = None
    tag: str | None = None
    other_classes: bool = False
    store: str = "outputs"
    batch_size: int | None = None
    precision: str | None = None
    threads: int = 0
    accelerator: str = "auto"
    overwrite: bool = False


@dataclass
class ReportConfig(RunConfig):
    """A table's report; takes the same overrides as the table's sweep."""

    output: str | None = None
    sweep: str | None = None
    subject: str = "table"
    runs: Any = None
    tflops: float = 40.0


def register() -> None:
    """Put every schema where the files in conf/ refer to it: beside the groups, so that none is offered as a choice."""
    schemas: dict[str, Any] = {
        "run": RunConfig,
        "evaluate": EvaluateConfig,
        # Composed after train.yaml, whose values stay as they are.
        "report": ReportConfig(**{entry.name: MISSING for entry in fields(RunConfig)}),
        "resnet": ResNetConfig,
        "xception": XceptionConfig,
        "mobilenetv2": MobileNetV2Config,
        "timm": TimmConfig,
        "cascade": CascadeConfig,
        "deeplabv3": DeepLabV3Config,
        "deeplabv3plus": DeepLabV3PlusConfig,
        "data": DataConfig,
        "recipe": RecipeConfig,
        "trainer": TrainerConfig,
        "scale": ScaleConfig,
        "experiment": ExperimentConfig,
    }
    for name, node in schemas.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=node)
