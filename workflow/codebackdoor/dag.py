"""What the rules ask of the configuration: which files each stage reads and makes.

The Snakefile makes one ``Dag``; its methods are the input and parameter functions of ``rules/*.smk``, which therefore
hold no logic of their own. A method takes Snakemake's wildcards, of which it reads attributes only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from codebackdoor.config import experiments, products
from codebackdoor.config.models import PRETRAINED, SHIPPED
from codebackdoor.config.scenario import CONSTRAINTS, CRAFTING, FILTERED, NONE, POISON, RESULTS, REWRITTEN, VICTIM
from codebackdoor.config.study import Config
from codebackdoor.corpora.archives import ARCHIVES
from codebackdoor.corpora.lock import Lock
from codebackdoor.defenses.elimination.elibadcode.settings import calibration_of
from codebackdoor.defenses.elimination.inversion.settings import searched_before
from codebackdoor.errors import UserError, nearest
from codebackdoor.parameters import as_json, options
from codebackdoor.provided import MODEL_FILES, Provided
from codebackdoor.types import CLEAN

#: A value of a wildcard that is a method's variant, not ``none``.
SOME = rf"(?!none\b){CONSTRAINTS['attack']}"


#: Megabytes and minutes of a job without and with an accelerator.
_MEM_MB, _RUNTIME = (2500, 24000), (60, 480)
#: Minutes that no attempt of a job goes beyond: many partitions end there, and take no job that asks for more.
LONGEST = 1440


@dataclass(frozen=True, slots=True)
class VictimKind:
    """Victims that are asked on the same test sets, as constraints on two wildcards; names a variant of a rule."""

    suffix: str
    dataset: str
    attack: str
    testsets: tuple[str, ...]

    def files(self, *stems: str) -> list[str]:
        return [f"{stem}.{testset}.jsonl" for stem in stems for testset in self.testsets]


class Dag(Provided):
    """The files of one study and how they are made. Attributes are patterns of paths for the rules."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.poison, self.filtered, self.rewritten, self.crafting, self.victim, self.results = (
            pattern.replace("{out}", config.out) for pattern in (POISON, FILTERED, REWRITTEN, CRAFTING, VICTIM, RESULTS)
        )
        self.trained = self.victim.replace("{elimination}", NONE)
        self.predicted = self.results.replace("{purification}", NONE)
        self.logs, self.benchmarks = f"{config.out}/logs", f"{config.out}/benchmarks"
        self.poison_path, self.filtered_path, self.rewritten_path = (
            self._path(pattern) for pattern in (self.poison, self.filtered, self.rewritten)
        )
        self.trained_path, self.victim_path, self.results_path = (
            self._path(pattern) for pattern in (self.trained, self.victim, self.results)
        )
        for name in self.archives:
            if name not in ARCHIVES:
                raise UserError(f"corpus.archives: unknown archive {name!r}{nearest(name, ARCHIVES)}")

    def _path(self, pattern: str) -> str:
        """A folder as it is below logs/ and benchmarks/: without the run's, and the first one of its own."""
        return pattern.removeprefix(f"{self.out}/").partition("/")[2]

    def folder(self, files: Iterable[Any]) -> str:
        """The folder that all the given files lie in."""
        return os.path.commonpath({str(file).rpartition("/")[0] for file in files})

    # data

    @property
    def archives(self) -> tuple[str, ...]:
        return self.config.corpus.archives if self.config.corpus else ()

    @property
    def corpus(self) -> str:
        return f"{self.out}/corpus/corpus.jsonl"

    def mined(self) -> list[str]:
        return [f"{self.out}/corpus/functions/{name}.jsonl" for name in self.archives]

    def dataset_inputs(self, wildcards: Any) -> dict[str, Any]:
        settings = self._declared("dataset", wildcards.dataset)
        found: dict[str, Any] = {"tokenizer": self.config.tokenizer} if self.config.tokenizer else {}
        if settings.source == "pypi":
            found["corpus"] = self.corpus
        # files of a mirror count by their checksums (dataset_originals)
        given = self._source_files(wildcards.dataset) if settings.source == "jsonl" else []
        return found | ({"rows": given} if given else {})

    def dataset_originals(self, wildcards: Any) -> list[str]:
        """Checksums of the files that a data set reads from the mirror, wherever that lies."""
        if not self._is_mirrored(wildcards.dataset):
            return []
        lock, files = Lock(Path(str(self.config.mirror))), self._source_files(wildcards.dataset)
        return [f"{Path(file).name}={lock.digest(Path(file))}" for file in files]

    def dataset_sources(self, wildcards: Any) -> list[str]:
        """Options that say where a data set comes from; of the mirror, jobs know by themselves."""
        settings = self._declared("dataset", wildcards.dataset)
        found = ["--tokenizer", self.config.tokenizer] if self.config.tokenizer else []
        if settings.source == "pypi":
            found += ["--corpus", self.corpus]
        return found

    def statistics_inputs(self, wildcards: Any) -> dict[str, Any]:
        base = self._model(self.base(wildcards))
        return {"clean": self.data(wildcards.dataset, "clean")} | ({"base": base} if base else {})

    def data(self, dataset: str, split: str) -> str:
        return f"{self.out}/data/{dataset}/{split}.jsonl"

    def poisoned(self, wildcards: Any, split: str) -> str:
        return f"{self.poison}/{split}.jsonl".format_map(_values(wildcards))

    def poison_inputs(self, wildcards: Any) -> dict[str, Any]:
        found = {"rows": [self.data(wildcards.dataset, split) for split in ("train", "valid", "test")]}
        folder = self._crafting(wildcards)
        return found | ({"crafting": self._model(folder)} if folder else {})

    def poison_options(self, wildcards: Any) -> list[str]:
        """The crafting model, for an attack that asks one."""
        folder = self._crafting(wildcards)
        return ["--crafting", folder] if folder else []

    def poison_mem_mb(self, wildcards: Any, attempt: int) -> int:
        return attempt * (_MEM_MB[self.poison_gpu(wildcards)] if self._crafting(wildcards) else 1500)

    def poison_runtime(self, wildcards: Any, attempt: int) -> int:
        return min(attempt * (_RUNTIME[self.poison_gpu(wildcards)] if self._crafting(wildcards) else 30), LONGEST)

    def poison_gpu(self, wildcards: Any) -> int:
        """An attack asks a model or works on the processor; a model of paper scale wants an accelerator."""
        model = self.config.crafting(wildcards.attack)
        return int(model is not None and self._declared("model", model).is_hub)

    def _crafting(self, wildcards: Any) -> str | None:
        """Folder of the model that the attack asks, of the data set that is poisoned."""
        model = self.config.crafting(wildcards.attack)
        return None if model is None else self.crafting.format_map({"dataset": wildcards.dataset, "model": model})

    # training sets

    def filter_inputs(self, wildcards: Any) -> dict[str, Any]:
        return {
            "rows": self._training_rows(wildcards),
            "clean": self.data(wildcards.dataset, "clean"),
            **self._helper_files("filtering", wildcards.filtering),
        }

    def _training_rows(self, wildcards: Any) -> str:
        """All of them, before a filtering."""
        clean = wildcards.attack == NONE
        return self.data(wildcards.dataset, "train") if clean else self.poisoned(wildcards, "train")

    def filter_mem_mb(self, wildcards: Any, attempt: int) -> int:
        return attempt * _MEM_MB[self.filter_gpu(wildcards)]

    def filter_runtime(self, wildcards: Any, attempt: int) -> int:
        return min(attempt * _RUNTIME[self.filter_gpu(wildcards)], LONGEST)

    def filter_gpu(self, wildcards: Any) -> int:
        return self._foreign_helpers("filtering", wildcards.filtering)

    # victims

    def craft_inputs(self, wildcards: Any) -> dict[str, Any]:
        found: dict[str, Any] = {split: self.data(wildcards.dataset, split) for split in ("train", "valid")}
        base = self._model(self.base(wildcards))
        return found | ({"base": base} if base else {})

    def base_models(self) -> list[str]:
        folder = f"{self.out}/{PRETRAINED}"
        return [file for family in self.config.pretraining for file in self._model(f"{folder}/{family}")]

    def pretrain_inputs(self, wildcards: Any) -> dict[str, Any]:
        """The discriminator learns to tell samples of the encoder that the run itself has pretrained."""
        if wildcards.family != "discriminator":
            return {}
        if "encoder" not in self.config.pretraining:
            raise UserError("pretraining.encoder is missing: the discriminator learns from its samples")
        return {"generator": self._model(f"{self.out}/{PRETRAINED}/encoder")}

    def generator_options(self, wildcards: Any) -> list[str]:
        found = self.pretrain_inputs(wildcards).values()
        return [part for files in found for part in ("--generator", self.folder(files))]

    def base(self, wildcards: Any) -> str:
        return str(self._declared("model", wildcards.model).base_path(self.out))

    def train_inputs(self, wildcards: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"valid": self.data(wildcards.dataset, "valid")}
        found["train"] = self._training_rows(wildcards)
        if wildcards.filtering != NONE:
            found["train"] = f"{self.filtered}/train.jsonl".format_map(_values(wildcards))
        if wildcards.attack != NONE:
            found["triggered"] = self.poisoned(wildcards, "valid")
        # a hub id has no files: its commit says what it is
        if base := self._model(self.base(wildcards)):
            found["base"] = base
        other = getattr(self._declared("objective", wildcards.objective), "stop_like", None)
        if other is not None:
            found["history"] = f"{self.trained}/history.json".format_map({**_values(wildcards), "objective": other})
        return found

    def train_options(self, wildcards: Any) -> list[str]:
        """Options for inputs that not every training has."""
        found = self.train_inputs(wildcards)
        options = {"--triggered-valid": "triggered", "--stop-like": "history"}
        return [part for option, name in options.items() if name in found for part in (option, found[name])]

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Megabytes that a scheduler reserves; each further attempt asks for as many again."""
        return attempt * _MEM_MB[self.gpu(wildcards)]

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Minutes after which a scheduler ends the job, growing alike up to ``LONGEST``."""
        return min(attempt * _RUNTIME[self.gpu(wildcards)], LONGEST)

    def gpu(self, wildcards: Any) -> int:
        """Hub checkpoints are of paper scale and want an accelerator; the small local models do not."""
        return int(self._declared("model", wildcards.model).is_hub)

    def helper_mem_mb(self, wildcards: Any, attempt: int) -> int:
        return attempt * _MEM_MB[self.helper_gpu(wildcards)]

    def helper_runtime(self, wildcards: Any, attempt: int) -> int:
        return min(attempt * _RUNTIME[self.helper_gpu(wildcards)], LONGEST)

    def helper_gpu(self, wildcards: Any) -> int:
        return self._foreign_helpers("purification", wildcards.purification)

    def _foreign_helpers(self, kind: str, variant: str) -> int:
        """The same for a job that runs nothing but helper models: those from elsewhere are of paper scale."""
        folders = [self.config.helpers[name] for name in self._declared(kind, variant).helpers]
        return int(any(not (self._made(folder) or Path(folder).is_relative_to(SHIPPED)) for folder in folders))

    # defenses and predictions

    def shadows(self, wildcards: Any) -> dict[str, str]:
        """Folders of the benign victims of a calibration, by their seeds."""
        benign = {"attack": NONE, "rate": "0", "filtering": NONE, "objective": "cross_entropy"}
        values = {**_values(wildcards), **benign}
        return {str(seed): self.trained.format_map({**values, "seed": seed}) for seed in self.config.shadows}

    def calibrate_settings(self, wildcards: Any) -> str:
        """Settings of the search alone: what a method reads of a calibration, and then does, has no part in it."""
        settings = self._declared("elimination", wildcards.elimination)
        search = {"method", "position", "ratio", *settings.fields_read("searched")}
        return json.dumps(settings.model_dump(mode="json", include=search), sort_keys=True)

    def calibrate_inputs(self, wildcards: Any) -> dict[str, Any]:
        return {
            "victims": [file for folder in self.shadows(wildcards).values() for file in self._model(folder)],
            "clean": self.data(wildcards.dataset, "clean"),
        }

    def eliminate_settings(self, wildcards: Any) -> str:
        """Settings of an elimination for the victims of one data set and model."""
        settings = self._declared("elimination", wildcards.elimination)
        name = calibration_of(getattr(settings, "calibration", None), wildcards.dataset, wildcards.model)
        if name is None:
            return self.settings("elimination", wildcards.elimination)
        return as_json(settings.model_copy(update={"calibration": name}))

    def eliminate_inputs(self, wildcards: Any) -> dict[str, Any]:
        return {
            **self._calibration_files(wildcards.elimination, wildcards.dataset, wildcards.model),
            "victim": self._model(self.trained.format_map(_values(wildcards))),
            "clean": self.data(wildcards.dataset, "clean"),
            **self._inverted_files(wildcards),
            **self._helper_files("elimination", wildcards.elimination),
        }

    def _inverted_files(self, wildcards: Any) -> dict[str, list[str]]:
        """What the first elimination that searched the same way has found in the same victim: none searches twice.

        What the study does not do anyway is not done for this, and a calibration that the run makes for another is not
        waited for.
        """
        values, own = _values(wildcards), self._made_calibration(wildcards.elimination, wildcards)
        for name in self._searched_before.get(wildcards.elimination, ()):
            folder = self.victim.format_map(values | {"elimination": name})
            if folder in self._eliminated and self._made_calibration(name, wildcards) in (None, own):
                return {"inverted": [f"{folder}/{file}.json" for file in ("trigger", "elimination", "provenance")]}
        return {}

    def _made_calibration(self, elimination: str, wildcards: Any) -> str | None:
        path = self._calibration_files(elimination, wildcards.dataset, wildcards.model).get("calibration")
        return path if path is not None and self._made(path) else None

    @cached_property
    def _searched_before(self) -> Mapping[str, tuple[str, ...]]:
        return searched_before(self.config.eliminations)

    @cached_property
    def _eliminated(self) -> frozenset[str]:
        """Folders of all edited victims of the study."""
        return frozenset(str(one.victim(self.out)) for one in self.config.scenarios() if one.elimination != NONE)

    def inverted_options(self, wildcards: Any) -> list[str]:
        return [f"--inverted={self.folder(files)}" for files in self._inverted_files(wildcards).values()]

    def probe_inputs(self, wildcards: Any) -> dict[str, Any]:
        return {
            "victim": self._model(self.trained.format_map(_values(wildcards))),
            "triggered": self.poisoned(wildcards, "test"),
            "clean": self.data(wildcards.dataset, "test"),
        }

    def predict_inputs(self, wildcards: Any) -> dict[str, Any]:
        victim = self._model(self.victim.format_map(_values(wildcards)))
        return {"victim": victim, "testsets": list(self.testsets(wildcards).values())}

    def purify_inputs(self, wildcards: Any) -> dict[str, Any]:
        return {
            **self.predict_inputs(wildcards),
            "valid": self.data(wildcards.dataset, "valid"),
            **self._trigger_file(wildcards),
            **self._helper_files("purification", wildcards.purification),
        }

    def _trigger_file(self, wildcards: Any) -> dict[str, str]:
        """What the elimination before a purification has inverted, for one that reads it."""
        if not self._declared("purification", wildcards.purification).reads_trigger:
            return {}
        return {"trigger": f"{self.victim}/trigger.json".format_map(_values(wildcards))}

    def trigger_options(self, wildcards: Any) -> list[str]:
        return [part for file in self._trigger_file(wildcards).values() for part in ("--trigger", file)]

    def rewrite_inputs(self, wildcards: Any) -> dict[str, Any]:
        clean = wildcards.attack == NONE
        return {
            "rows": self.data(wildcards.dataset, "test") if clean else self.poisoned(wildcards, "test"),
            "valid": self.data(wildcards.dataset, "valid"),
            **self._helper_files("purification", wildcards.purification),
        }

    def replacements(self, wildcards: Any) -> dict[str, str]:
        """Rewritten test sets of a scenario whose purification looks at no victim."""
        found = {}
        for testset in self.testsets(wildcards):
            values = _values(wildcards) | ({"attack": NONE, "rate": "0"} if testset == CLEAN else {})
            found[testset] = f"{self.rewritten}/purified.jsonl".format_map(values)
        return found

    def predict_rewritten_inputs(self, wildcards: Any) -> dict[str, Any]:
        return {**self.predict_inputs(wildcards), "replacements": list(self.replacements(wildcards).values())}

    def replacement_options(self, wildcards: Any) -> list[str]:
        return options("--replacement", self.replacements(wildcards))

    def purifications(self, reads_victim: bool) -> str:
        """Constraint on the wildcard: the declared variants that look at the victim, or those that do not."""
        names = [name for name, one in self.config.purifications.items() if one.reads_victim == reads_victim]
        # without one, what matches nothing
        return "|".join(names) if names else "(?!)"

    @cached_property
    def triggered(self) -> Mapping[str, Mapping[str, str]]:
        return experiments.triggered(self.config.scenarios())

    def testsets(self, wildcards: Any) -> dict[str, str]:
        """Test sets of a scenario and their files: the clean one, and the triggered ones of its kind of victim."""
        values = _values(wildcards)
        dataset, attack = values["dataset"], values["attack"]
        found = {}
        for name in experiments.testsets(dataset, attack, values.get("purification", NONE), self.triggered):
            rate = values["rate"] if name == attack else self.triggered.get(dataset, {}).get(name, "0")
            poison = f"{self.poison}/test.jsonl".format_map({**values, "attack": name, "rate": rate})
            found[name] = self.data(dataset, "test") if name == CLEAN else poison
        return found

    def kinds_of_victims(self, purified: bool) -> Iterator[VictimKind]:
        """Poisoned victims, and the benign ones: of each data set, or of all where inputs are purified."""
        yield VictimKind("", CONSTRAINTS["dataset"], SOME, (CLEAN, "{attack}"))
        if purified:
            yield VictimKind("_benign", CONSTRAINTS["dataset"], NONE, (CLEAN,))
            return
        for dataset in self.config.datasets:
            testsets = experiments.testsets(dataset, NONE, NONE, self.triggered)
            yield VictimKind(f"_benign_{dataset}", re.escape(dataset), NONE, testsets)

    def testset_options(self, wildcards: Any) -> list[str]:
        return options("--input", self.testsets(wildcards))

    def predict_options(self, wildcards: Any) -> list[str]:
        """The test sets and, for a dual encoder, how many functions it ranks for a query."""
        dataset = self._declared("dataset", wildcards.dataset)
        pool = ["--pool", str(dataset.ranking.pool)] if dataset.head == "retrieval" else []
        return [*self.testset_options(wildcards), *pool]

    # products

    @property
    def tables(self) -> str:
        return f"{self.out}/results/tables"

    @property
    def figures(self) -> str:
        return f"{self.out}/results/figures"

    def metrics(self) -> list[str]:
        return [str(scenario.results(self.out) / "metrics.json") for scenario in self.config.scenarios()]

    def targets(self) -> list[str]:
        """Every table and figure of every experiment, and the metrics of all scenarios in one file."""
        found = [f"{self.out}/results/metrics.{suffix}" for suffix in ("csv", "json")]
        for name, experiment in self.config.experiments.items():
            found += [f"{self.tables}/{name}.csv"] if experiment.table else []
            found += [f"{self.tables}/{name}.{listing}.csv" for listing in experiment.tables]
            found += [f"{self.figures}/{name}_{figure}.png" for figure in experiment.figures]
        return found

    def product_inputs(self, experiment: str, product: Any) -> list[str]:
        """What a table or figure of an experiment is made from."""
        return [str(path) for path in products.inputs(self._experiment(experiment), product, self.out)]

    def size_inputs(self, experiment: str) -> list[str]:
        """What tells how large the victims of an experiment are: its tables and figures say so."""
        folders = products.victims(self._experiment(experiment), self.out).values()
        return [str(folder / file) for folder in folders for file in ("config.json", "model.safetensors")]

    # scores

    def score_inputs(self, wildcards: Any) -> dict[str, Any]:
        folder = self.results.format_map(_values(wildcards))
        stems = ["predictions"] if wildcards.purification == NONE else ["predictions", "purified"]
        testsets = self.testsets(wildcards)
        return {
            "references": list(testsets.values()),
            "answers": [f"{folder}/{stem}.{testset}.jsonl" for stem in stems for testset in testsets],
        }

    def reference_options(self, wildcards: Any) -> list[str]:
        return options("--reference", self.testsets(wildcards))


def growing(amount: int) -> Callable[[Any, int], int]:
    """A resource of which each further attempt of a job asks for as much again."""
    return lambda _wildcards, attempt: attempt * amount


def model_files(*more: str) -> list[str]:
    return [*MODEL_FILES, *more]


def _values(wildcards: Any) -> dict[str, str]:
    return {name: str(value) for name, value in wildcards.items()}
