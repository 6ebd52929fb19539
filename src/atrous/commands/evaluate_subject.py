"""What atrous-evaluate evaluates: weights and data, opened only when there is something to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.errors import ConfigError, DataError
from atrous.files import at_home
from atrous.run_store import RunFolder

if TYPE_CHECKING:
    from atrous.data.dataset import SegmentationDataset
    from atrous.networks.segmenter import Segmenter

RELEASED, PUBLISHED = "released", "published"


@dataclass(kw_only=True)
class Subject:
    """One set of weights and the data that it is scored on; both are opened when they are first asked for.

    Attributes:
        name: for people.
        folder: where results go.
        config: the run's config, or what stands for it: data, recipe, trainer.
        checkpoint: last, best or released.
        suffix: of the entries in results.json, for what differs from the run's own evaluation.
        source: file of released weights, or None.
        is_as_trained: whether a run is scored on the images that its own config names.
        trained_on: constructor call of the data set that a run was scored on while it was trained.
        other_classes: whether classes of other names are allowed.
    """

    name: str
    folder: RunFolder
    config: dict[str, Any]
    checkpoint: str
    suffix: str = ""
    source: str | None = None
    is_as_trained: bool = False
    trained_on: Mapping[str, Any] | None = None
    other_classes: bool = False

    def entry(self, protocol: str) -> str:
        """Name of a protocol's entry in results.json."""
        return f"{protocol}{self.suffix}"

    def page(self, protocol: str) -> Path:
        """Where the page of an evaluation is."""
        return self.folder.path / "evaluation" / self.entry(protocol) / "index.html"

    def published(self, protocol: str) -> float | None:
        """The mIoU in percent that released weights were published with under a protocol that has an entry.

        None where none was, and where the images of the entry are not the whole split.
        """
        if self.checkpoint != RELEASED or self.suffix or self.weights_facts["weights"] != PUBLISHED:
            return None
        from atrous.evaluation.protocol import load_protocol
        from atrous.weights.zoo import preset

        settings, split = load_protocol(protocol), self.config["data"]["val"].get("split")
        for expected in preset(self.name).expected:
            found = (expected.output_stride, tuple(expected.scales), expected.flip, expected.split)
            if found == (settings.output_stride, tuple(settings.scales), settings.flip, split):
                return expected.miou if settings.is_whole_image and self._is_whole_split(protocol) else None
        return None

    def _is_whole_split(self, protocol: str) -> bool:
        entry = self.folder.results()["evaluations"][self.entry(protocol)]
        return bool((entry.get("scored") or self.scored)["official_images"] == entry["images"])

    @cached_property
    def scored(self) -> dict[str, Any]:
        """What is scored, as an entry of results.json tells it."""
        from atrous.training.scored import scored_on

        return {**scored_on(self.config, self.dataset), **self.weights_facts}

    @cached_property
    def weights_facts(self) -> dict[str, str]:
        """Which released weights, as an entry of results.json tells it: what was published, or a digest of a file.

        Raises:
            ConfigError: the file cannot be read.
        """
        if self.checkpoint != RELEASED:
            return {}
        if self.source is None:
            return {"weights": PUBLISHED}
        from atrous.weights.download import sha256_of
        from atrous.weights.zoo import preset

        path = at_home(self.source)
        index = Path(f"{path}.index")  # of a TensorFlow checkpoint; it holds the checksums of the weights
        try:
            digest = sha256_of(index if index.is_file() else path)
        except OSError as error:
            raise ConfigError(f"source={self.source!r} cannot be read ({error.strerror})") from None
        known = preset(self.name).sha256
        return {"weights": PUBLISHED if known is not None and digest.startswith(known.lower()) else digest[:16]}

    @cached_property
    def dataset(self) -> SegmentationDataset:
        """The images."""
        from atrous.building import build

        dataset: SegmentationDataset = build(self.config["data"]["val"], where="data.val")
        return dataset

    @cached_property
    def model(self) -> Segmenter:
        """The network with its weights.

        Raises:
            ConfigError: the data set has another number of classes, or classes of other names.
            CheckpointError: the weights cannot be had or read.
        """
        if self.checkpoint == RELEASED:
            from atrous.weights import load_preset, preset

            self._require_classes(preset(self.name).classes, what=f"weights={self.name}")
            return load_preset(self.name, source=self.source)
        from atrous.training.run import build_model
        from atrous.weights.matching import load_by_name
        from atrous.weights.own import tensors_of_checkpoint

        path = self.folder.best_checkpoint if self.checkpoint == "best" else self.folder.last_checkpoint
        weights = tensors_of_checkpoint(path)
        classifier = weights.get("classifier.weight")
        if classifier is not None and classifier.ndim:  # otherwise loading says what is wrong
            self._require_classes(len(classifier), what=str(self.folder.path))
        model = build_model(self.config, num_classes=self.dataset.spec.num_classes, pretrained=False)
        load_by_name(model, targets=model.state_dict(keep_vars=True), values=weights, source=str(path))
        return model

    def _require_classes(self, number: int, *, what: str) -> None:
        spec = self.dataset.spec
        if number != spec.num_classes:
            raise ConfigError(
                f"{what} tells {number} classes apart, but the data set {spec.name!r} has {spec.num_classes}: evaluate "
                "it on the kind of data that it was trained on"
            )
        if self.other_classes:
            return
        for label, (known, scored) in enumerate(zip(self._class_names() or spec.classes, spec.classes, strict=True)):
            if known != scored:
                raise ConfigError(
                    f"{what} calls class {label} {known!r}, but the data set {spec.name!r} calls it {scored!r}: "
                    "evaluate it on the classes that it was trained on, or say other_classes=true if they mean the same"
                )

    def _class_names(self) -> Sequence[str] | None:
        """The names of the classes that the network tells apart; None where they are not known."""
        from atrous.prediction.label_spaces import classes_of_release, spec_of_data
        from atrous.weights.zoo import preset

        if self.checkpoint == RELEASED:
            return classes_of_release(preset(self.name).dataset)
        try:
            return None if self.trained_on is None else spec_of_data(self.trained_on).classes
        except DataError:  # its class list is gone: what it was scored on at the end of the training tells
            entries = self.folder.results().get("evaluations", {})
            return next((list(entry["iou"]) for name, entry in entries.items() if "@" not in name), None)
