"""The files that no rule makes: data sets, base and helper models, calibrations; and whether they are there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codebackdoor.config.base import Head, Helper
from codebackdoor.config.hub import MIRROR, HubId, hub_id
from codebackdoor.config.models import PRETRAINED
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.study import Config
from codebackdoor.corpora import mirror, originals
from codebackdoor.corpora.lock import Lock
from codebackdoor.defenses.elimination.elibadcode.settings import CALIBRATIONS, calibration_of
from codebackdoor.errors import UserError, nearest, shown
from codebackdoor.files import read_object
from codebackdoor.parameters import Parameters
from codebackdoor.victims.declared import base_problems, helper_problems, length_problems

#: Files of a model folder in hub format, as far as every model of the project has them; the last holds checksums.
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "SHA256SUMS")
#: Files of a model folder of the hub that are read, as far as they are there.
FOREIGN_FILES = (
    *("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "vocab.*", "merges.txt"),
    "SHA256SUMS",
)

#: Bytes without which not even a job's message finds room in its log.
ROOM = 1_000_000

#: Settings of which a calibration is independent: other rows of the same data set, and what a victim's history counts.
_OTHER_DRAWS = frozenset({"seed", "valid", "test", "path", "history_rows"})


class Provided(Parameters):
    """Names the files that a configuration takes from elsewhere, beside those of the same kind that rules make."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.out = config.out

    def check_files(self, configs: Iterable[str | Path] = ()) -> None:
        """Raise one UserError for everything that the experiments need, that no rule makes and that is not there.

        ``configs`` are the configuration's files, for the command that brings what a mirror misses. Without a mirror,
        jobs fetch hub checkpoints and archives themselves.
        """
        used = self.config.scenarios()
        checks = (self._place, self._sources, self._folders, self._calibrations)
        problems = list(dict.fromkeys(problem for check in checks for problem in check(used)))
        if self.config.mirror and (missing := list(self._originals(Path(self.config.mirror)))):
            command = originals.command(configs, self.config.mirror)
            problems += [*missing, f"`{command}` brings what is missing, with a network. Elsewhere? MIRROR=FOLDER"]
        if problems:
            raise UserError("\n".join(problems))

    def tell_jobs(self) -> None:
        """Name the mirror to the jobs of this process, or none, whatever the environment said before."""
        os.environ[MIRROR] = self.config.mirror or ""

    def _place(self, _used: Iterable[Scenario]) -> Iterator[str]:
        """The folder of the run, or the nearest above it that is there."""
        place = Path(self.out).absolute()
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            yield f"out: {place} is a file; write a folder"
        elif not os.access(place, os.W_OK | os.X_OK):
            yield f"out: {place} cannot be written; write a folder that can, or change its permissions"
        elif (free := shutil.disk_usage(place).free) < ROOM:
            yield f"out: {free // 1000} kB are free on the disk of {place}; free some (`make plan`: how much)"

    def _sources(self, used: Iterable[Scenario]) -> Iterator[str]:
        """Data sets, what they are mined from, and the tokenizer that measures them."""
        tokenizer = self.config.tokenizer
        if tokenizer and not self._made(tokenizer) and not Path(tokenizer).is_file():
            yield f"tokenizer: {tokenizer}: no such file; write null to count words instead of its sub-tokens"
        for name in sorted({scenario.dataset for scenario in used}):
            if self._declared("dataset", name).source == "pypi" and self.config.corpus is None:
                yield f"datasets.{name}: source pypi needs the section `corpus` with archives to mine"
            try:
                self._source_files(name)
            except UserError as error:
                if not self._is_mirrored(name):
                    yield str(error)

    def _originals(self, mirror: Path) -> Iterator[str]:
        """What of the mirror is not there, or not whole by its size; checksums are left to the jobs that read it."""
        lock, files = Lock(mirror), []
        for name in sorted({scenario.dataset for scenario in self.config.scenarios()}):
            try:
                files += [Path(path) for path in self._source_files(name)] if self._is_mirrored(name) else []
            except UserError as error:
                yield str(error)
        for original in originals.needed(self.config):
            if original.kind == "checkpoint":
                hub = HubId(original.source, original.revision)
                yield from (f"{mirror}/{hub.place}: {fault}" for fault in lock.faults(hub, checksum=False))
            # what this run has already is not read again
            elif original.kind == "archive" and not Path(f"{self.out}/corpus/archives/{original.name}.whl").is_file():
                files += [mirror / place for place in original.files]
        for path in files:
            if fault := "is missing" if not path.is_file() else lock.changed(path, checksum=False):
                yield f"{path} {fault}"

    def _is_mirrored(self, dataset: str) -> bool:
        return bool(self.config.mirror) and self._declared("dataset", dataset).source == "mirror"

    def _folders(self, used: Iterable[Scenario]) -> Iterator[str]:
        """Base models and helper models: that they are there, and that a job can use them."""
        heads: dict[str, set[Head]] = {}
        helpers: set[Helper] = set()
        for scenario in used:
            for name in filter(None, (scenario.model, self.config.crafting(scenario.attack))):
                heads.setdefault(name, set()).add(self._declared("dataset", scenario.dataset).head)
            for kind in ("filtering", "elimination", "purification"):
                variant = getattr(scenario, kind)
                helpers.update(self._declared(kind, variant).helpers if variant != NONE else ())
        for name in heads:
            yield from self._base(name, heads[name])
        for helper in sorted(helpers):
            yield from self._helper(helper)

    def _base(self, name: str, heads: set[Head]) -> Iterator[str]:
        model = self._declared("model", name)
        folder = str(model.base_path(self.out))
        if (recipe := self._recipe(folder)) is not None:
            longest = None if recipe.family == "seq2seq" else recipe.max_length
            for setting, sentence in length_problems(longest, model, heads):
                yield f"models.{name}.{setting}: {folder}: {sentence}"
        elif (path := self._local(folder)) is not None:
            yield from self._absent(path, f"models.{name}.base")
            try:
                for setting, sentence in base_problems(path, model, heads) if _is_model(path) else ():
                    yield f"models.{name}.{setting}: {sentence}"
            except UserError as error:
                yield f"models.{name}.base: {error}"

    def _helper(self, helper: Helper) -> Iterator[str]:
        folder = self.config.helpers[helper]
        if self._recipe(folder) is None and (path := self._local(folder)) is not None:
            yield from self._absent(path, f"helpers.{helper}")
            try:
                for sentence in helper_problems(path, helper) if _is_model(path) else ():
                    yield f"helpers.{helper}: {sentence}"
            except UserError as error:
                yield f"helpers.{helper}: {error}"

    def _recipe(self, folder: str) -> Pretraining | None:
        """The recipe of a base model that this run pretrains."""
        recipes = {f"{self.out}/{PRETRAINED}/{family}": recipe for family, recipe in self.config.pretraining.items()}
        return recipes.get(folder)

    def _local(self, folder: str) -> Path | None:
        """Where a model lies; None for one of the hub that no mirror has, which a job fetches."""
        hub = hub_id(folder)
        if hub is None:
            return Path(folder)
        mirror = Path(self.config.mirror or "")
        return mirror / hub.place if self.config.mirror and not Lock(mirror).faults(hub, checksum=False) else None

    def _absent(self, path: Path, key: str) -> Iterator[str]:
        if not _is_model(path):
            yield (
                f"{key}: {path} is not a model folder with config.json and safetensors; put one there, or name one "
                f"below {self.out}/{PRETRAINED}, which this run pretrains by a recipe under `pretraining` (for a base: "
                "`pretrained`)"
            )

    def _calibrations(self, used: Iterable[Scenario]) -> Iterator[str]:
        for name, dataset, model in sorted({(one.elimination, one.dataset, one.model) for one in used}):
            if name == NONE:
                continue
            try:
                path = Path(self._calibration_files(name, dataset, model).get("calibration", ""))
                # what the run makes itself is made again
                if path.is_file() and not self._made(str(path)):
                    self._check_calibration(name, dataset, model, path)
            except UserError as error:
                yield str(error)

    def _check_calibration(self, elimination: str, dataset: str, model: str, path: Path) -> None:
        """Refuse one of another search, data set or recipe now, and not in a job that waits for its victim."""
        content = read_object(path)
        budget, provenance = (_section(content, name) for name in ("budget", "provenance"))
        read = self._read("elimination", elimination, dataset)
        search = {
            key: read[key] for key in self._declared("elimination", elimination).fields_read("searched") if key in read
        }
        data, recipe = (self._read(kind, name, dataset) for kind, name in (("dataset", dataset), ("model", model)))
        for section, own, then in (
            (f"eliminations.{elimination}", search, budget),
            (f"datasets.{dataset}", data, _section(provenance, "dataset")),
            (f"models.{model}", recipe, _section(provenance, "recipe")),
        ):
            for key in sorted(own.keys() - _OTHER_DRAWS):
                if own[key] != then.get(key):
                    ours = self.calibration.format(dataset=dataset, model=model, elimination=elimination)
                    raise UserError(
                        f"{section}: {key} is {own[key]}, but {path} was made with {shown(then.get(key))}; use the "
                        f"same value, or write `eliminations.{elimination}.calibration: {ours}` to have one made"
                    )

    def _read(self, kind: str, name: str, dataset: str) -> dict[str, Any]:
        """Settings of a variant, without those that only victims of another head read."""
        settings = self._declared(kind, name)
        others = {
            key
            for key, (other, values) in settings.read_where.items()
            if other == "head" and self._declared("dataset", dataset).head not in values
        }
        found: dict[str, Any] = settings.model_dump(mode="json", exclude=others)
        return found

    def _made(self, path: str) -> bool:
        """Whether a path lies below the run's folder, where rules make what is missing."""
        return Path(path).is_relative_to(self.out)

    def _model(self, folder: str) -> list[str]:
        """The files of a model folder that a job is run again for; a folder from elsewhere may hold others than ours.

        Files that the ``SHA256SUMS`` of such a folder lists are verified by whoever loads them, and it stands for
        them: they may be too large for Snakemake to compare, and after a checkout or a copy all of them look new.
        """
        if self._made(folder):
            return [f"{folder}/{name}" for name in MODEL_FILES]
        found = sorted(path for pattern in FOREIGN_FILES for path in Path(folder).glob(pattern))
        sums = Path(folder) / MODEL_FILES[-1]
        lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
        # behind 64 digits and two characters
        listed = {line[66:] for line in lines}
        return [str(path) for path in found if path.name not in listed]

    def _source_files(self, dataset: str) -> list[str]:
        """Files of a data set that is not mined; UserError lists those that are missing."""
        settings = self._declared("dataset", dataset)
        there = mirror.source_files(settings, dataset, self.config.mirror)
        if there is None:
            return []
        return [str(path) for split in there.splits(settings.resplit) for path in there.paths(split)]

    @property
    def calibration(self) -> str:
        return f"{self.out}/calibration/{{dataset}}/{{model}}/{{elimination}}.json"

    def _calibration_files(self, elimination: str, dataset: str, model: str) -> dict[str, str]:
        """The calibration that a method reads: one that ships with the package, or a file."""
        name = calibration_of(getattr(self._declared("elimination", elimination), "calibration", None), dataset, model)
        if name is None:
            return {}
        shipped = {path.stem: os.path.relpath(path) for path in CALIBRATIONS.glob("*.json")}
        path = shipped.get(name, name)
        if not self._made(path) and not Path(path).is_file():
            own = self.calibration.format(dataset=dataset, model=model, elimination=elimination)
            raise UserError(
                f"eliminations.{elimination}.calibration: {name!r} is neither shipped nor a file"
                f"{nearest(name, shipped)}; write `calibration: {own}` to have it made"
            )
        return {"calibration": path}

    def _helper_files(self, kind: str, variant: str) -> dict[str, list[str]]:
        folders = [self.config.helpers[name] for name in self._declared(kind, variant).helpers]
        return {"helpers": [file for folder in folders for file in self._model(folder)]}


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within a file's content; empty where there is none."""
    section = content.get(name)
    return section if isinstance(section, dict) else {}
