"""What a training starts from: transforms that can be built and initial weights that fit, known before it begins."""

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from atrous.building import build_network, build_transforms
from atrous.data.spec import DatasetSpec
from atrous.errors import CheckpointError, ConfigError, MisfitError
from atrous.studies.machine_checks import is_of_timm

if TYPE_CHECKING:
    from atrous.networks.segmenter import Segmenter

_CLASSES = 2  # of the networks that are compared: a classifier of other classes never matters here
_TRANSFORMS = "recipe.augmentation.transforms"


def check_start(config: Mapping[str, Any], *, parent: Mapping[str, Any] | None) -> None:
    """Refuse a training that would fail when it starts; PyTorch is loaded only where there are initial weights.

    Nothing is fetched: published weights are compared by the networks that they are for. Networks of timm are left to
    the run, since timm may fetch what it builds.

    Args:
        config: of the run.
        parent: of the run whose weights it starts from.

    Raises:
        ConfigError: names the key and what does not fit.
    """
    build_transforms(
        config["recipe"]["augmentation"]["transforms"], where=_TRANSFORMS, ignore_label=DatasetSpec.ignore_label
    )
    source = config["recipe"]["pretrained"]
    if is_of_timm(config) or (parent is not None and is_of_timm(parent)):
        if source == "imagenet":
            raise ConfigError(
                f"recipe.pretrained={source!r} holds no weights for networks of timm, which has its own: "
                "backbone.pretrained=true recipe.pretrained=null"
            )
        return
    if source is not None:
        _check_pretrained(_network_of(config), source)
    if parent is not None:
        _check_parent(_network_of(config), _network_of(parent))


def _network_of(config: Mapping[str, Any]) -> str:
    """What gives a network its weights, as a text; rates give none, so that rows that differ in them share a check."""
    model = dict(config["model"])
    if "multi_grid" in model:
        model["multi_grid"] = None
    if "aspp_rates" in model:
        model["aspp_rates"] = list(range(1, len(model["aspp_rates"]) + 1))
    parts = {"model": model, "backbone": config["backbone"], "output_stride": config["output_stride"]}
    return json.dumps(parts, sort_keys=True)


@cache
def _check_pretrained(network: str, source: str) -> None:
    from atrous.weights.released import check_pretrained

    try:
        check_pretrained(_build(network), source)
    except MisfitError as error:
        raise ConfigError(
            f"recipe.pretrained={source!r}: {error}. The backbone that it was trained with would fit, and for a whole "
            "network the same model"
        ) from None
    except CheckpointError as error:
        raise ConfigError(f"recipe.pretrained={source!r}: {error}") from None


@cache
def _check_parent(network: str, parent: str) -> None:
    from atrous.weights.own import check_same_network

    if network == parent:
        return
    try:
        check_same_network(_build(network), _build(parent), source="the network of parent=[...]")
    except MisfitError as error:
        raise ConfigError(
            f"parent: {error}. A run starts from the whole network of its parent, so the same model and backbone would "
            "be right"
        ) from None


def _build(network: str) -> "Segmenter":
    from atrous.networks.dry_run import without_weights

    with without_weights():
        built: Segmenter = build_network(json.loads(network), num_classes=_CLASSES, pretrained=False)
    return built
