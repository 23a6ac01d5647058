"""The originals of a study: what a configuration needs from elsewhere.

The same list is fetched (``make fetch``), checked before a run, and read by the jobs.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from codebackdoor.config.hub import HubId, hub_id
from codebackdoor.config.scenario import NONE
from codebackdoor.config.study import Config
from codebackdoor.corpora.archives import Archive, archive
from codebackdoor.originals import readers
from codebackdoor.originals.base import Original


def checkpoint(hub: HubId) -> Original:
    return Original("checkpoint", str(hub), hub.repository, hub.revision)


def wheel(pinned: Archive) -> Original:
    pins = {pinned.file: pinned.sha256}
    return Original("archive", pinned.name, pinned.package, pinned.version, {pinned.file: pinned.file}, pins)


def needed(config: Config) -> list[Original]:
    """Every original that the experiments of a configuration need, each once: data sets, checkpoints, archives."""
    datasets = [config.datasets[name] for name in sorted({scenario.dataset for scenario in config.scenarios()})]
    models = sorted(set(_models(config)))
    originals = [
        original for settings in datasets if settings.source == "mirror" for original in published(settings.originals)
    ]
    originals += [checkpoint(hub) for model in models if (hub := hub_id(model))]
    mines = any(settings.source == "pypi" for settings in datasets)
    # base models and their tokenizer are made from the corpus as well
    pretrains = any(Path(path).is_relative_to(config.out) for path in (*models, config.tokenizer or ""))
    if config.corpus is not None and (mines or pretrains):
        originals += [wheel(archive(name)) for name in config.corpus.archives]
    return [original for index, original in enumerate(originals) if original not in originals[:index]]


def published(name: str) -> list[Original]:
    """What `make fetch` downloads for a published data set; nothing if people put it into the mirror by hand.

    A reader whose data set also needs files of another origin lists them as ``SHARED``.
    """
    reader = readers.load(name)
    originals = [] if reader.ORIGINAL is None else [reader.ORIGINAL]
    return [*originals, *getattr(reader, "SHARED", ())]


def _models(config: Config) -> Iterator[str]:
    """Base and helper models: folders, or ids of the hub."""
    for scenario in config.scenarios():
        filter_model = config.filter_model(scenario.filtering, scenario.model)
        for model in filter(None, (scenario.model, config.crafting(scenario.attack), filter_model)):
            yield str(config.victim_settings(model, scenario.dataset).base_path(config.out))
        for section, variant in (
            (config.filterings, scenario.filtering),
            (config.eliminations, scenario.elimination),
            (config.purifications, scenario.purification),
        ):
            yield from (config.helpers[name] for name in (section[variant].helpers if variant != NONE else ()))


def command(configs: Iterable[str | Path], mirror: str) -> str:
    """The command that fetches what the configuration files ``configs`` need."""
    overlays = [os.path.relpath(path) for path in configs if Path(path).name != "config.yaml"]
    scales = {(): "SCALE=local", ("configs/paper.yaml",): "SCALE=paper"}
    selection = scales.get(tuple(overlays), f"CONFIG={shlex.quote(' '.join(overlays))}")
    return f"make fetch {selection} MIRROR={shlex.quote(mirror)}"
