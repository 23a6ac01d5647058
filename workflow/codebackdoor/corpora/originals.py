"""The originals of a study: what a configuration needs from elsewhere, where it comes from and where a mirror keeps it.

The same list is fetched (``make fetch``), looked for before a run, and read by the jobs. Every revision is a full
commit: what comes is determined before anything is asked.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codebackdoor.config.hub import HubId, hub_id
from codebackdoor.config.scenario import NONE
from codebackdoor.config.study import Config
from codebackdoor.corpora.archives import Archive, archive
from codebackdoor.corpora.mirror import SPLITS

Kind = Literal["checkpoint", "parquet", "github", "archive"]


@dataclass(frozen=True, slots=True)
class Original:
    """Files of one origin.

    ``files`` maps a path below the mirror to the origin's own path; of a checkpoint it is empty, for only the hub
    knows its files. ``pins`` has the SHA-256 of an origin's files, where it is known beforehand.
    """

    kind: Kind
    name: str
    source: str
    revision: str
    files: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)


_SMALL = "Code-Code/code-refinement/data/small"

_PAIRS = "Code-Code/Clone-detection-BigCloneBench/dataset"

#: The papers' own data by task; the paths are those that ``corpora/mirror.py`` reads. That of a task that is not here
#: (code_search) is put into the mirror by hand (docs/hpc.md).
DATA: Mapping[str, Original] = {
    # CodeXGLUE's splits in the hub's format: 21854, 2732 and 2732 rows
    "defect_detection": Original(
        "parquet",
        "Devign",
        "google/code_x_glue_cc_defect_detection",
        "69bd48c03223c2104342acd9a807caf61ac3efb8",
        {
            f"devign/{split}.jsonl": f"data/{name}-00000-of-00001.parquet"
            for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True)
        },
    ),
    "clone_detection": Original(
        "github",
        "BigCloneBench",
        "microsoft/CodeXGLUE",
        "ac74a62802a0dd159b3258c78a2df8ad36cdf2b9",
        {f"bigclonebench/{name}": f"{_PAIRS}/{name}" for name in ("data.jsonl", *(f"{split}.txt" for split in SPLITS))},
    ),
    "code_repair": Original(
        "github",
        "Bugs2Fix small",
        "microsoft/CodeXGLUE",
        "ac74a62802a0dd159b3258c78a2df8ad36cdf2b9",
        {
            f"bugs2fix_small/{split}.buggy-fixed.{side}": f"{_SMALL}/{split}.buggy-fixed.{side}"
            for split in SPLITS
            for side in ("buggy", "fixed")
        },
        {
            f"{_SMALL}/valid.buggy-fixed.buggy": "e83a0c524cdce5a4492dfe0c9bc7d642aa5ed267ddbae5ffd1e563fe54cae6b8",
            f"{_SMALL}/valid.buggy-fixed.fixed": "dc9c23594350988dcdaf456a1e8eea1dc86c81d1c0ff9985ff6d63d15196ffd2",
            f"{_SMALL}/test.buggy-fixed.buggy": "d2e675094f471b3bfbb9419eb7cf14dca11f8d41185319d3310cbc3f517df323",
            f"{_SMALL}/test.buggy-fixed.fixed": "e7ec462d00d253ddec3d1cef7a06cfc99db1cfe94039a6607ed14afeef6be04a",
        },
    ),
}


def checkpoint(hub: HubId) -> Original:
    return Original("checkpoint", str(hub), hub.repository, hub.revision)


def wheel(wanted: Archive) -> Original:
    pins = {wanted.file: wanted.sha256}
    return Original("archive", wanted.name, wanted.package, wanted.version, {wanted.file: wanted.file}, pins)


def needed(config: Config) -> list[Original]:
    """Every original that the experiments of a configuration need, each once: data sets, checkpoints, archives."""
    used = config.scenarios()
    datasets = [config.datasets[name] for name in sorted({one.dataset for one in used})]
    models = sorted(set(_models(config)))
    found = [DATA[one.task] for one in datasets if one.source == "mirror" and one.task in DATA]
    found += [checkpoint(hub) for model in models if (hub := hub_id(model))]
    mines = any(one.source == "pypi" for one in datasets)
    # base models and their tokenizer, too, are made from the corpus
    made = any(Path(path).is_relative_to(config.out) for path in (*models, config.tokenizer or ""))
    if config.corpus is not None and (mines or made):
        found += [wheel(archive(name)) for name in config.corpus.archives]
    return [one for index, one in enumerate(found) if one not in found[:index]]


def _models(config: Config) -> Iterator[str]:
    """Base and helper models: folders, or ids of the hub."""
    for scenario in config.scenarios():
        for model in filter(None, (scenario.model, config.crafting(scenario.attack))):
            yield str(config.models[model].base_path(config.out))
        for section, variant in (
            (config.filterings, scenario.filtering),
            (config.eliminations, scenario.elimination),
            (config.purifications, scenario.purification),
        ):
            yield from (config.helpers[name] for name in (section[variant].helpers if variant != NONE else ()))


def command(configs: Iterable[str | Path], mirror: str) -> str:
    """The command that fetches what the configuration files ``configs`` need."""
    over = [os.path.relpath(path) for path in configs if Path(path).name != "config.yaml"]
    scales = {(): "SCALE=local", ("configs/paper.yaml",): "SCALE=paper"}
    what = scales.get(tuple(over), f"CONFIG={shlex.quote(' '.join(over))}")
    return f"make fetch {what} MIRROR={shlex.quote(mirror)}"
