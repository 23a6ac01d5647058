"""Checks before a run: files that no rule creates must exist and be usable, and the run's folder must be writable.

These files are data sets, base and helper models, and calibrations. All problems are reported together, with the
command that provides missing files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from codebackdoor.config.base import Helper
from codebackdoor.config.hub import HubId, hub_id
from codebackdoor.config.model_settings import PRETRAINED
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.corpora.archives import ARCHIVES
from codebackdoor.dag.calibrations import calibration_problem
from codebackdoor.dag.files import Files
from codebackdoor.dag.fingerprint import PACKAGE, ROOT, module_path
from codebackdoor.dag.parameters import MODULES, Parameters
from codebackdoor.dag.paths import Paths
from codebackdoor.errors import UserError, nearest
from codebackdoor.heads import HEADS
from codebackdoor.originals import catalog
from codebackdoor.originals.lock import Lock
from codebackdoor.victims.declared import adapter_problem, base_problems, helper_problems, recipe_problems

#: Minimum number of free bytes: with fewer, not even the log of a job could be written.
MINIMUM_FREE = 1_000_000


class Preflight:
    """The checks of one configuration. Each one yields a sentence per problem."""

    def __init__(self, config: Config, paths: Paths, parameters: Parameters, files: Files) -> None:
        self.config, self.paths, self.parameters, self.files = config, paths, parameters, files

    def check(self, configs: Iterable[str | Path] = ()) -> None:
        """Raise one UserError that lists every problem of the files that the experiments need.

        ``configs`` are the configuration files, for the command that fills the mirror. Without a mirror, jobs download
        hub checkpoints and archives themselves.
        """
        scenarios = self.config.scenarios()
        checks = (
            *(self._run_folder, self._implementations, self._archives, self._sources, self._models),
            *(self._targets, self._calibrations, self._recorded),
        )
        problems = list(dict.fromkeys(problem for check in checks for problem in check(scenarios)))
        if self.config.mirror:
            datasets = sorted({scenario.dataset for scenario in scenarios})
            problems += self._mirror(Path(self.config.mirror), datasets, configs)
        if problems:
            raise UserError("\n".join(problems))

    def _run_folder(self, _scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Problems of the run's folder, or of the nearest existing folder above it."""
        folder = Path(self.paths.out).absolute()
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            yield f"out: {folder} is a file; write a folder"
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield f"out: {folder} is not writable; write a folder that is, or change its permissions"
        elif (free := shutil.disk_usage(folder).free) < MINIMUM_FREE:
            yield (
                f"out: only {free // 1000} kB are free on the disk of {folder}; free some space (`make plan` estimates "
                "how much the run needs)"
            )

    def _implementations(self, scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Methods that have settings but no code yet."""
        for kind in (kind for kind in MODULES if kind in SECTIONS):
            for name in sorted({getattr(scenario, kind) for scenario in scenarios} - {NONE}):
                method = self.parameters.method(kind, name)
                module = MODULES[kind].format(method)
                if module_path(f"{PACKAGE}.{module}") is None:
                    path = os.path.relpath(ROOT / module.replace(".", "/"))
                    yield f"{SECTIONS[kind]}.{name}: the method {method} has settings, but {path}.py is missing"

    def _recorded(self, scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Files that purifications read and no job makes."""
        for name in sorted({scenario.purification for scenario in scenarios} - {NONE}):
            if (problem := self.parameters.declared("purification", name).missing_file()) is not None:
                yield f"purifications.{name}.{problem}"

    def _archives(self, _scenarios: Iterable[Scenario]) -> Iterator[str]:
        for name in self.config.corpus.archives if self.config.corpus else ():
            if name not in ARCHIVES:
                yield f"corpus.archives: unknown archive {name!r}{nearest(name, ARCHIVES)}"

    def _sources(self, scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Problems of data sets, the corpus that they are mined from, and the tokenizer that measures their length."""
        tokenizer = self.config.tokenizer
        if tokenizer and not self.paths.is_in_run(tokenizer) and not Path(tokenizer).is_file():
            yield f"tokenizer: {tokenizer}: no such file; write null to count words instead of sub-tokens"
        for name in sorted({scenario.dataset for scenario in scenarios}):
            if self.parameters.declared("dataset", name).source == "pypi" and self.config.corpus is None:
                yield f"datasets.{name}: source pypi needs the section `corpus` with archives to mine"
            try:
                self.files.sources(name)
            except UserError as error:
                if not self.files.is_mirrored(name):
                    yield str(error)

    def _mirror(self, mirror: Path, datasets: Iterable[str], configs: Iterable[str | Path]) -> Iterator[str]:
        """Files of the mirror that are missing or have the wrong size; their checksums are left to the jobs."""
        lock, downloadable = Lock(mirror), list[str]()
        for name in filter(self.files.is_mirrored, datasets):
            try:
                faults = list(_faults(map(Path, self.files.sources(name)), lock))
            except UserError as error:
                faults = [str(error)]
            originals = catalog.published(self.config.datasets[name].originals)
            if any(_faults((mirror / place for original in originals for place in original.files), lock)):
                downloadable += faults
            else:
                yield from (f"{fault} (docs/configuration.md names the source)" for fault in faults)
        downloadable += self._originals(mirror, lock)
        yield from downloadable
        if downloadable:
            command = catalog.command(configs, str(mirror))
            yield f"`{command}` downloads what is missing; if you have the files in another folder, set MIRROR=FOLDER"

    def _originals(self, mirror: Path, lock: Lock) -> Iterator[str]:
        """Hub checkpoints and archives that are missing in the mirror or have the wrong size."""
        files: list[Path] = []
        for original in catalog.needed(self.config):
            if original.kind == "checkpoint":
                hub = HubId(original.source, original.revision)
                yield from (f"{mirror}/{hub.place}: {fault}" for fault in lock.faults(hub, checksum=False))
            # an archive that the run already contains is not read again
            elif original.kind == "archive" and not Path(self.paths.archive.format(archive=original.name)).is_file():
                files += [mirror / place for place in original.files]
        yield from _faults(files, lock)

    def _models(self, scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Base and helper models that are missing, or that a job could not use."""
        victims: set[tuple[str, str]] = set()
        trained: set[tuple[str, str, str]] = set()
        helpers: set[Helper] = set()
        for scenario in scenarios:
            looked_at = self.config.filter_model(scenario.filtering, scenario.model)
            for name in filter(None, (scenario.model, self.config.crafting(scenario.attack), looked_at)):
                victims.add((name, scenario.dataset))
            trained.add((scenario.objective, scenario.model, scenario.dataset))
            for kind in ("filtering", "elimination", "purification"):
                variant = getattr(scenario, kind)
                helpers.update(self.parameters.declared(kind, variant).helpers if variant != NONE else ())
        for model, dataset in sorted(victims):
            yield from self._base(model, dataset)
        for objective, model, dataset in sorted(trained):
            yield from self._adapters(objective, model, dataset)
        for helper in sorted(helpers):
            yield from self._helper(helper)

    def _base(self, name: str, dataset: str) -> Iterator[str]:
        model, folder = self.parameters.declared_victim(name, dataset), self.files.base(name, dataset)
        head = self.parameters.declared("dataset", dataset).head
        overrides = self.parameters.declared("model", name).on.get(head, {})

        def key(setting: str) -> str:
            return f"models.{name}.on.{head}.{setting}" if setting in overrides else f"models.{name}.{setting}"

        if (recipe := self._recipe(folder)) is not None:
            for setting, problem in recipe_problems(recipe, model, [head]):
                yield f"{key(setting)}: {folder}: {problem}"
        elif (path := self._local_copy(folder)) is not None:
            yield from _missing_model(
                path,
                key("base"),
                "write `base: shipped`, or `base: pretrained` with a recipe under `pretraining`",
            )
            try:
                for setting, problem in base_problems(path, model, [head]) if _is_model(path) else ():
                    yield f"{key(setting)}: {problem}"
            except UserError as error:
                yield f"{key('base')}: {error}"

    def _adapters(self, objective: str, model: str, dataset: str) -> Iterator[str]:
        """Adapters of an objective that fit no layer of a base model."""
        adapters, folder = (
            self.parameters.declared("objective", objective).recipe.adapters,
            self.files.base(model, dataset),
        )
        path = None if adapters is None or self._recipe(folder) is not None else self._local_copy(folder)
        if path is not None and adapters is not None and _is_model(path):
            try:
                problem = adapter_problem(path, adapters)
            except UserError as error:
                problem = str(error)
            if problem is not None:
                yield f"objectives.{objective}.adapters.modules: {problem}"

    def _targets(self, scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Predicates that attacks add to SQL although they do not always hold."""
        for attack in sorted(
            {s.attack for s in scenarios if HEADS[self.config.datasets[s.dataset].head].generates} - {NONE}
        ):
            settings = self.parameters.declared("attack", attack)
            if settings.target_place == "where_clause":
                from codebackdoor.attacks.target import predicate_problem

                if (problem := predicate_problem(settings.target_predicate)) is not None:
                    yield f"attacks.{attack}.{problem}"

    def _helper(self, helper: Helper) -> Iterator[str]:
        folder = self.config.helpers[helper]
        if self._recipe(folder) is None and (path := self._local_copy(folder)) is not None:
            yield from _missing_model(
                path,
                f"helpers.{helper}",
                f"write a folder below {self.paths.out}/{PRETRAINED} with a recipe under `pretraining`",
            )
            try:
                for problem in helper_problems(path, helper) if _is_model(path) else ():
                    yield f"helpers.{helper}: {problem}"
            except UserError as error:
                yield f"helpers.{helper}: {error}"

    def _recipe(self, folder: str) -> Pretraining | None:
        """The recipe of a base model that this run pretrains."""
        for name, recipe in self.config.pretraining.items():
            if folder == self.paths.pretrained.format(base_model=name):
                return recipe
        return None

    def _local_copy(self, folder: str) -> Path | None:
        """The folder of a model; None for a checkpoint of the hub that the mirror lacks: a job downloads it."""
        hub = hub_id(folder)
        if hub is None:
            return Path(folder)
        mirror = Path(self.config.mirror or "")
        return mirror / hub.place if self.config.mirror and not Lock(mirror).faults(hub, checksum=False) else None

    def _calibrations(self, scenarios: Iterable[Scenario]) -> Iterator[str]:
        """Calibrations that are missing, or were made with other settings of the search, the data set or the model."""
        used = {(scenario.elimination, self.config.home(scenario.dataset), scenario.model) for scenario in scenarios}
        for elimination, dataset, model in sorted(used):
            if elimination == NONE:
                continue
            try:
                path = self.files.calibration(elimination, dataset, model)
                # the run remakes its own calibrations when settings change
                if path is None or not Path(path).is_file() or self.paths.is_in_run(path):
                    continue
                problem = calibration_problem(Path(path), self.parameters, self.paths, elimination, dataset, model)
                if problem is not None:
                    yield problem
            except UserError as error:
                yield str(error)


def _missing_model(path: Path, key: str, alternative: str) -> Iterator[str]:
    if not _is_model(path):
        yield (
            f"{key}: {path} is not a model folder with config.json and safetensors; put a model there, or {alternative}"
        )


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def _faults(files: Iterable[Path], lock: Lock) -> Iterator[str]:
    for path in files:
        if fault := "is missing" if not path.is_file() else lock.changed(path, checksum=False):
            yield f"{path} {fault}"
