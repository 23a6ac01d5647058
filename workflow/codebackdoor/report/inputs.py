"""Selectors for the registry of products: the files that a product is made from, and the scenarios that it shows.

The configuration imports this module through ``products``, so it imports nothing heavy and nothing else of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import AUDITED, NONE, POSITIONS, STATES, Scenario
from codebackdoor.files import read_json, read_rows
from codebackdoor.types import CLEAN

#: The files for an experiment's scenarios in the folder of a run; a path may be repeated.
Inputs = Callable[[Sequence[Scenario], Path], Iterator[Path]]
#: Whether a product shows a scenario, given the file that represents it.
Selects = Callable[[Scenario, Path], bool]


def metrics(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from (scenario.results(out) / "metrics.json" for scenario in scenarios)


def metrics_and_baselines(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from metrics(scenarios, out)
    yield from (_data(scenario, out) / "baseline.json" for scenario in scenarios)


def eliminated(*names: str) -> Inputs:
    """Selector of the files ``names`` of every victim that an elimination edited."""

    def files(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
        folders = (scenario.victim(out) for scenario in scenarios if scenario.elimination != NONE)
        yield from (folder / name for folder in folders for name in names)

    return files


def verdicts(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """The trigger and the history of every scan, and the metrics of the edited victim."""
    yield from eliminated("trigger.json", "elimination.json")(scenarios, out)
    edited = (
        scenario
        for scenario in scenarios
        if NONE not in (scenario.elimination, scenario.attack) and scenario.purification == NONE
    )
    yield from metrics(list(edited), out)


def audited(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """The audit of each filter, and the metrics of the victims with and without it."""
    filtered = [s for s in scenarios if s.filtering != NONE and s == replace(s.undefended(), filtering=s.filtering)]
    yield from (scenario.results(out) / AUDITED for scenario in filtered)
    yield from metrics([victim for scenario in filtered for victim in (scenario, scenario.undefended())], out)


def histories(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """Training histories of the attacked victims."""
    attacked = (scenario for scenario in scenarios if scenario.attack != NONE)
    yield from (folder / "history.json" for folder in _trained(attacked, out))


def losses(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """The gradients of every objective."""
    yield from (out / "losses" / f"{scenario.objective}.json" for scenario in scenarios)


def purified(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """Purified clean and triggered test sets, and the test sets before purification."""
    attacked = [scenario for scenario in scenarios if NONE not in (scenario.purification, scenario.attack)]
    for scenario in attacked:
        yield from (scenario.results(out) / f"purified.{testset}.jsonl" for testset in (CLEAN, scenario.attack))
    for scenario in attacked:
        yield from (folder / "test.jsonl" for folder in (_data(scenario, out), scenario.poison(out)))


def before_and_after(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """Inputs before and after the first purification of each data set and attack, and their predictions."""
    first: dict[tuple[str, str], Scenario] = {}
    for scenario in scenarios:
        is_alone = replace(scenario.undefended(), purification=scenario.purification) == scenario
        if is_alone and NONE not in (scenario.purification, scenario.attack):
            first.setdefault((scenario.dataset, scenario.attack), scenario)
    yield from purified(list(first.values()), out)
    for scenario in first.values():
        folders = [victim.results(out) for victim in (scenario, scenario.undefended())]
        names = (f"predictions.{testset}.jsonl" for testset in (CLEAN, scenario.attack))
        yield from (folder / name for name in names for folder in folders)


def jobs_of_defenses(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """Provenance of purifications, of trainings on filtered rows, and of predictions without a defense."""
    for scenario in scenarios:
        bare = scenario.undefended()
        if scenario in (bare, replace(bare, purification=scenario.purification)):
            yield scenario.results(out) / "provenance.json"
        elif scenario == replace(bare, filtering=scenario.filtering):
            yield scenario.victim(out) / "provenance.json"
            yield scenario.results(out) / "provenance.json"


def positions(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    probed = (
        scenario
        for scenario in scenarios
        if NONE not in (scenario.attack, scenario.elimination) and scenario.purification == NONE
    )
    yield from (scenario.results(out) / POSITIONS for scenario in probed)


def hidden_states(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    """The states of every undefended poisoned victim."""
    attacked = (scenario.undefended() for scenario in scenarios if scenario.attack != NONE)
    yield from (scenario.results(out) / STATES for scenario in attacked)


def statistics(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from (_data(scenario, out) / f"statistics.{scenario.model}.json" for scenario in scenarios)


def tokens(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    yield from eliminated("elimination.json", "trigger.json")(scenarios, out)
    yield from _tokenizers(
        (scenario for scenario in scenarios if NONE not in (scenario.attack, scenario.elimination)), out
    )


def noise(scenarios: Sequence[Scenario], out: Path) -> Iterator[Path]:
    attacked = [scenario for scenario in scenarios if scenario.attack != NONE and scenario.purification == NONE]
    yield from eliminated("trigger.json", "elimination.json")(attacked, out)
    yield from (scenario.results(out) / f"predictions.{CLEAN}.jsonl" for scenario in attacked)
    yield from (_data(scenario, out) / "test.jsonl" for scenario in attacked)
    yield from _tokenizers(attacked, out)


def _tokenizers(scenarios: Iterable[Scenario], out: Path) -> Iterator[Path]:
    yield from (folder / "tokenizer.json" for folder in _trained(scenarios, out))


def _trained(scenarios: Iterable[Scenario], out: Path) -> Iterator[Path]:
    """Folders of the victims as they were trained, before any elimination."""
    trained = (replace(scenario, elimination=NONE, purification=NONE) for scenario in scenarios)
    yield from (scenario.victim(out) for scenario in trained)


def _data(scenario: Scenario, out: Path) -> Path:
    return out / "data" / scenario.dataset


def every_scenario(_scenario: Scenario, _path: Path) -> bool:
    return True


def no_defended_benign_victim(scenario: Scenario, _path: Path) -> bool:
    return scenario.attack != NONE or scenario == scenario.undefended()


def has_trigger(_scenario: Scenario, path: Path) -> bool:
    """Whether the elimination inverted a trigger: ``trigger.json`` of other methods holds null."""
    return bool(read_json(path))


def has_searches(_scenario: Scenario, path: Path) -> bool:
    """Whether ``elimination.json`` is that of a method that searches triggers."""
    return bool(read_json(path).get("searches"))


def has_profile(_scenario: Scenario, path: Path) -> bool:
    """Whether the purification scores the elements of an input."""
    return "profile" in first_detail(path)


def first_detail(path: Path) -> dict[str, Any]:
    """The ``detail`` that a purification recorded for the first row of a test set; empty if there are no rows."""
    detail: dict[str, Any] = next((row["detail"] for _, row in read_rows(path)), {})
    return detail
