"""What each table and figure of an experiment is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from codebackdoor.config.experiments import Experiment, Figure, Listing, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.types import CLEAN

Product = Literal["table"] | Listing | Figure

#: What a rule of its own measures for the figure of positions, below a scenario's results.
POSITIONS = "positions.json"
#: Folder in which that rule leaves its ``provenance.json``.
PROBE = "probe"


def inputs(experiment: Experiment, product: Product, out: str | Path) -> list[Path]:
    """The files that the experiment's table, or one of its further tables and figures, is made from."""
    return list(dict.fromkeys(_FILES[product](scenarios(experiment), Path(out))))


def victims(experiment: Experiment, out: str | Path) -> dict[str, Path]:
    """By model variant, the folder of one victim as it was trained: all of a variant have the same size."""
    folders: dict[str, Path] = {}
    for scenario in scenarios(experiment):
        folders.setdefault(scenario.model, replace(scenario, elimination=NONE, purification=NONE).victim(out))
    return folders


Files = Callable[[Sequence[Scenario], Path], Iterator[Path]]


def _metrics(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from (scenario.results(out) / "metrics.json" for scenario in held)


def _metrics_and_baselines(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from _metrics(held, out)
    yield from (_data(scenario, out) / "baseline.json" for scenario in held)


def _eliminated(*names: str) -> Files:
    def files(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
        folders = (scenario.victim(out) for scenario in held if scenario.elimination != NONE)
        yield from (folder / name for folder in folders for name in names)

    return files


def _verdicts(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """What a scan said and did, and what the edited victim is like afterwards."""
    yield from _eliminated("trigger.json", "elimination.json")(held, out)
    edited = (one for one in held if NONE not in (one.elimination, one.attack) and one.purification == NONE)
    yield from _metrics(list(edited), out)


def _epochs(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    trained = (replace(scenario, elimination=NONE, purification=NONE) for scenario in held)
    yield from (scenario.victim(out) / "history.json" for scenario in trained if scenario.attack != NONE)


def _purified(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    purified = [scenario for scenario in held if NONE not in (scenario.purification, scenario.attack)]
    for scenario in purified:
        yield from (scenario.results(out) / f"purified.{testset}.jsonl" for testset in (CLEAN, scenario.attack))
    for scenario in purified:
        yield from (folder / "test.jsonl" for folder in (_data(scenario, out), scenario.poison(out)))


def _positions(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    probed = (one for one in held if NONE not in (one.attack, one.elimination) and one.purification == NONE)
    yield from (scenario.results(out) / POSITIONS for scenario in probed)


def _statistics(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from (_data(scenario, out) / f"statistics.{scenario.model}.json" for scenario in held)


def _tokens(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from _eliminated("elimination.json", "trigger.json")(held, out)
    attacked = (scenario for scenario in held if NONE not in (scenario.attack, scenario.elimination))
    yield from _tokenizers(attacked, out)


def _noise(held: Sequence[Scenario], out: Path) -> Iterator[Path]:
    attacked = [scenario for scenario in held if scenario.attack != NONE and scenario.purification == NONE]
    yield from _eliminated("trigger.json", "elimination.json")(attacked, out)
    yield from (scenario.results(out) / f"predictions.{CLEAN}.jsonl" for scenario in attacked)
    yield from (_data(scenario, out) / "test.jsonl" for scenario in attacked)
    yield from _tokenizers(attacked, out)


def _tokenizers(held: Iterable[Scenario], out: Path) -> Iterator[Path]:
    """Of the victims as they were trained."""
    trained = (replace(scenario, elimination=NONE, purification=NONE) for scenario in held)
    yield from (scenario.victim(out) / "tokenizer.json" for scenario in trained)


def _data(scenario: Scenario, out: Path) -> Path:
    return out / "data" / scenario.dataset


_FILES: Mapping[Product, Files] = {
    "table": _metrics_and_baselines,
    "overview": _metrics,
    "ordering": _metrics,
    "detection": _verdicts,
    "inverted_triggers": _eliminated("trigger.json"),
    "times": _eliminated("provenance.json"),
    "significance": _metrics,
    "seeds": _metrics,
    "defenses": _metrics_and_baselines,
    "inversion": _eliminated("elimination.json"),
    "epochs": _epochs,
    "suspicion": _purified,
    "position": _positions,
    "identifiers": _statistics,
    "sensitivity": _eliminated("elimination.json"),
    "tokens": _tokens,
    "sweep": _metrics,
    "layers": _metrics,
    "convergence": _eliminated("elimination.json"),
    "noise": _noise,
}
