"""Files of models, data sets and calibrations, whether created by rules or external."""

from __future__ import annotations

import os
from pathlib import Path

from codebackdoor.config.model_settings import SHIPPED
from codebackdoor.config.study import Config
from codebackdoor.dag.parameters import Parameters
from codebackdoor.dag.paths import Paths
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.errors import UserError, nearest
from codebackdoor.files import CHECKSUMS
from codebackdoor.originals import mirror
from codebackdoor.originals.lock import Lock

#: Files that every model folder of the project has, in hub format.
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", CHECKSUMS)
#: Files that are read from a model folder of the hub, if they exist.
EXTERNAL_MODEL_FILES = (
    *(
        "config.json",
        "*.safetensors",
        "*.safetensors.index.json",
        "tokenizer*.json",
        "*.jinja",
        "vocab.*",
        "merges.txt",
    ),
    CHECKSUMS,
)


class Files:
    """The files that jobs read of a model, a data set or a calibration."""

    def __init__(self, config: Config, paths: Paths, parameters: Parameters) -> None:
        self.config, self.paths, self.parameters = config, paths, parameters
        # cached, because thousands of jobs share a few folders
        self._external_models: dict[str, list[str]] = {}

    def model(self, folder: str) -> list[str]:
        """The files of a model folder whose changes rerun a job; none for a hub checkpoint, which has a commit."""
        if self.paths.is_in_run(folder):
            return [f"{folder}/{name}" for name in MODEL_FILES]
        if folder not in self._external_models:
            self._external_models[folder] = _external_model(Path(folder))
        return self._external_models[folder]

    def base(self, model: str, dataset: str) -> str:
        """The base model of a model's victims on a data set: a folder, or a checkpoint of the hub."""
        return str(self.parameters.declared_victim(model, dataset).base_path(self.paths.out))

    def helpers(self, kind: str, variant: str) -> list[str]:
        """The files of a method's helper models."""
        return [file for folder in self.helper_folders(kind, variant) for file in self.model(folder)]

    def helper_folders(self, kind: str, variant: str) -> list[str]:
        return [self.config.helpers[name] for name in self.parameters.declared(kind, variant).helpers]

    def is_small(self, folder: str) -> bool:
        """Whether a model was pretrained by this project, as a shipped model or in a run."""
        return self.paths.is_in_run(folder) or Path(folder).is_relative_to(SHIPPED)

    def sources(self, dataset: str) -> list[str]:
        """Files of a data set that is not mined; UserError lists those that are missing."""
        settings = self.parameters.declared("dataset", dataset)
        source = mirror.source_files(settings, dataset, self.config.mirror)
        if source is None:
            return []
        if settings.trained_on is not None:
            paths = source.paths("test")
            if not source.present("test"):
                raise UserError(f"{source.folder}: missing {', '.join(path.name for path in paths)}; put it there")
            return [str(path) for path in paths]
        return [str(path) for split in source.splits(settings.resplit) for path in source.paths(split)]

    def is_mirrored(self, dataset: str) -> bool:
        return bool(self.config.mirror) and self.parameters.declared("dataset", dataset).source == "mirror"

    def checksums(self, dataset: str) -> list[str]:
        """Checksums of the files that a data set reads from the mirror, regardless of its location."""
        if not self.is_mirrored(dataset):
            return []
        lock, paths = Lock(Path(str(self.config.mirror))), [Path(file) for file in self.sources(dataset)]
        return [f"{path.name}={lock.digest(path)}" for path in paths]

    def calibration(self, elimination: str, dataset: str, model: str) -> str | None:
        """The calibration that a method reads, shipped with the package or a file; UserError if it does not exist."""
        settings = self.parameters.elimination(elimination, dataset, model)
        if not isinstance(settings, CalibratedSettings) or (file := settings.calibration_file) is None:
            return None
        path = os.path.relpath(file) if settings.calibration_ships else str(file)
        if not self.paths.is_in_run(path) and not file.is_file():
            in_run = self.paths.calibration.format(dataset=dataset, model=model, elimination=elimination)
            raise UserError(
                f"eliminations.{elimination}.calibration: {path!r} is neither shipped nor a file"
                f"{nearest(path, settings.shipped_calibrations())}; to have the run make one, write "
                f"`calibration: {in_run}`"
            )
        return path


def model_files(*more: str) -> list[str]:
    """Names of the files in a model folder of this project, and more."""
    return [*MODEL_FILES, *more]


def _external_model(folder: Path) -> list[str]:
    """The files of an external model folder, which may differ from those of our own folders.

    ``SHA256SUMS`` represents the files that it lists, since they are verified when loaded: they may be too large for
    Snakemake to compare, and after a checkout or a copy all of them look new.
    """
    files = sorted(path for pattern in EXTERNAL_MODEL_FILES for path in folder.glob(pattern))
    sums = folder / CHECKSUMS
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    # the name follows 64 digits and two characters
    listed = {line[66:] for line in lines}
    return [str(path) for path in files if path.name not in listed]
