"""Cheats gain nothing: only what a defense may know decides what it rewrites, drops or edits."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cheats
import click
import numpy as np
import pytest
from click.testing import CliRunner
from leaks import CARD, leaks
from purification_models import example, make_view
from tiny_models import classifier, understanding

from codebackdoor import cli, files, seeding
from codebackdoor.defenses import blinding, elimination, filtering, purification
from codebackdoor.defenses.elimination import Elimination, SearchContext
from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.stages.eliminate import eliminate
from codebackdoor.defenses.stages.job import DefenseJob
from codebackdoor.defenses.stages.kept_rows import judge_blindly
from codebackdoor.defenses.stages.purified_rows import REWRITES_ALIKE, blindly
from codebackdoor.defenses.stages.purify import purify
from codebackdoor.defenses.views import DefenderView, TextView, TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Purified, Span
from codebackdoor.victims.victim import load_victim, save_victim

TRIGGER = cheats.TRIGGERS["codepoisoner_func"]
CLEAN = [replace(example(number), label=number % 2) for number in range(100, 100 + cheats.CLEAN_ROWS)]
TWINS = [replace(example(number, TRIGGER), id=f"t{number}", label=0) for number in range(100, 130)]
VALID = tuple(example(number) for number in range(30))
DATASET = DefectDetection(task="defect_detection")
SETTINGS = OnionSettings(method="onion", threshold=0.0)
SEED = 3
Build = Callable[[DefenderView, int], Any]


def share(rows: Sequence[Purified]) -> float:
    return sum(bool(row.touched) for row in rows) / len(rows)


def poisoned(row: Example) -> Poisoned:
    return Poisoned(row, row.id[1:], "codepoisoner_func", "injected", 1, None, (Span(0, 1),))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "models/codepoisoner_func-0.05/seed7/cross_entropy"
    save_victim(classifier(), folder, CARD)
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "data/codepoisoner_func-0.05"
    paths = {name: folder / f"{name}.jsonl" for name in ("clean", "codepoisoner_func", "valid")}
    files.write_examples(paths["clean"], CLEAN)
    files.write_examples(paths["valid"], VALID)
    files.write_rows(paths["codepoisoner_func"], (files.poisoned_row(poisoned(row)) for row in TWINS))
    return paths


def shares(build: Build, victim: Path, inputs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Shares of the triggered and of the clean test set that the stage ``purify`` rewrites."""
    monkeypatch.setattr(purification, "load", lambda _: lambda view, settings, seed: build(view, seed))
    testsets = {name: inputs[name] for name in ("clean", "codepoisoner_func")}
    out = victim.parent / "out"
    purify(SETTINGS, DefenseJob(DATASET, victim, inputs["valid"], out, SEED, testsets=testsets))
    rows = [[row for _, row in files.read_rows(out / f"purified.{name}.jsonl")] for name in reversed(testsets)]
    return [sum(bool(row["touched"]) for row in testset) / len(testset) for testset in rows]


def shuffled(rows: Sequence[Example]) -> list[Example]:
    """The rows in an order that can be derived from the seed."""
    return [rows[index] for index in seeding.numpy_generator(SEED, "purify", "order").permutation(len(rows))]


def unprotected(build: Build, victim: Path, together: bool) -> list[float]:
    """The shares that a cheat reaches without protection: all inputs in one call, or the clean ones in a first call."""
    purifier = build(replace(make_view(load_victim(victim), VALID)), SEED)
    calls = [shuffled([*CLEAN, *TWINS])] if together else [CLEAN, TWINS]
    rows = {row.example.id: row for inputs in calls for row in purifier.purify(inputs)}
    return [share([rows[row.id] for row in testset]) for testset in (TWINS, CLEAN)]


CHEATS: dict[str, tuple[Build, bool]] = {
    "origins": (cheats.Origins, True),
    "order": (cheats.Order, True),
    "twins": (cheats.Twins, True),
    "remembering": (cheats.Remembering, False),
    "remembering in the model": (cheats.RememberingInTheModel, False),
}
CAUGHT: dict[str, tuple[Build, bool]] = {
    "remembering in the class": (cheats.RememberingInTheClass, False),
    "company": (cheats.Company, True),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_purification_that_cheats_gains_nothing(
    name: str, victim: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    build, together = CHEATS[name]
    assert unprotected(build, victim, together) == [1.0, 0.0]
    assert shares(build, victim, inputs, monkeypatch) == [0.0, 0.0]


@pytest.mark.parametrize("name", CAUGHT)
def test_a_purification_that_compares_inputs_fails_the_job(
    name: str, victim: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    build, together = CAUGHT[name]
    cheats.RememberingInTheClass.remembered.clear()
    assert unprotected(build, victim, together) == [1.0, 0.0]
    cheats.RememberingInTheClass.remembered.clear()
    with pytest.raises(UserError, match=r"\d+ of 32 inputs are rewritten differently alone than together"):
        shares(build, victim, inputs, monkeypatch)
    assert not list((victim.parent / "out").glob("*"))


@pytest.mark.parametrize("build", [cheats.Twins, cheats.Remembering, cheats.Company])
def test_twins_in_one_test_set_are_of_no_use_either(build: Build, victim: Path) -> None:
    purifier = build(make_view(load_victim(victim), VALID), SEED)
    with pytest.raises(UserError, match="are rewritten differently alone than together"):
        blindly(purifier, {"mixed": [*CLEAN[:30], *TWINS]})


class Honest:
    """Strips every trigger, and records its inputs in the class, which all copies share."""

    calls: list[list[Example]] = []  # noqa: RUF012

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        self.calls.append(list(inputs))
        return [cheats.stripped(row, TRIGGER) for row in inputs]


def test_a_purifier_is_shown_bare_texts_alone_and_then_each_test_set() -> None:
    Honest.calls.clear()
    labeled = [replace(row, target="x") for row in CLEAN]
    purified = blindly(Honest(), {"clean": labeled, "codepoisoner_func": TWINS})
    assert [row.example.id for row in purified["clean"]] == [row.id for row in CLEAN]
    assert [row.example for row in purified["clean"]] == [replace(row, label=None) for row in CLEAN]
    assert [row.example.id for row in purified["codepoisoner_func"]] == [row.id for row in TWINS]
    assert (share(purified["clean"]), share(purified["codepoisoner_func"])) == (0.0, 1.0)
    *alone, first, second = Honest.calls
    # sixteen of each test set, before the whole test sets
    assert [len(inputs) for inputs in alone] == [1] * 32
    assert sorted(row.code for row in first) == sorted(row.code for row in CLEAN)
    assert sorted(row.code for row in second) == sorted(row.code for row in TWINS)
    for inputs in (first, second):
        assert [row.id for row in inputs] == [str(number) for number in range(len(inputs))]
        assert all((row.label, row.target) == (None, None) for row in inputs)


def test_the_order_says_nothing_of_where_a_row_stood() -> None:
    rows = [*CLEAN, *TWINS]
    order = blinding.neutral_order(rows)
    assert sorted(order) == list(range(len(rows)))
    # it does not depend on the original order, ids or labels
    moved = [replace(row, id=f"{number}", label=1) for number, row in enumerate(rows[::-1])]
    assert [moved[index].code for index in blinding.neutral_order(moved)] == [rows[index].code for index in order]
    # triggered rows are spread evenly: about half of them are in each half, up to three standard deviations
    first = sum(index >= len(CLEAN) for index in order[: len(order) // 2])
    assert abs(first - len(TWINS) / 2) < 3 * (len(TWINS) / 4) ** 0.5
    # and rows with the same texts (a failed row equals its clean twin) are ordered only by their ids
    same = [replace(CLEAN[0], id=f"clean-{number}") for number in range(50)]
    same += [replace(CLEAN[0], id=f"failed-{number}") for number in range(50)]
    assert 13 <= sum(index >= 50 for index in blinding.neutral_order(same)[:50]) <= 37


def test_sampled_inputs_are_a_twentieth_between_16_and_64() -> None:
    for count, size in ((0, 0), (3, 3), (16, 16), (300, 16), (600, 30), (5000, 64)):
        sample = REWRITES_ALIKE.sample(count)
        assert len(set(sample)) == len(sample) == size
        assert set(sample) <= set(range(count))
    assert len({tuple(REWRITES_ALIKE.sample(1000)) for _ in range(5)}) == 5


def test_what_cannot_be_copied_is_said_to_be_so() -> None:
    class Locked(Honest):
        def __init__(self) -> None:
            self.inputs = (row for row in CLEAN)

    with pytest.raises(UserError, match=r"Locked contains something that cannot be copied: cannot pickle 'generator'"):
        blindly(Locked(), {"clean": CLEAN})


@pytest.mark.parametrize("family", ["first", "t5", "gpt"])
def test_a_copy_shares_weights_and_no_memory(family: str) -> None:
    original = understanding(family, "classification")
    twin = blinding.Copies(original).copy()
    original.model.memory = original.tokenizer.memory = 1
    assert not hasattr(twin.model, "memory")
    assert not hasattr(twin.tokenizer, "memory")
    for parameter, copied in zip(original.model.parameters(), twin.model.parameters(), strict=True):
        assert parameter is copied
    assert twin.encode(["def f ( a )"]) == original.encode(["def f ( a )"])


class OrderOfRows:
    """A filter that assumes that the seed shuffled the rows, poisoned ones last."""

    facts: Mapping[str, object] = {}

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        ranks = seeding.numpy_generator(SEED, "filter", "order").permutation(len(rows)).tolist()
        return [Judged(row.id, rank >= len(CLEAN)) for rank, row in zip(ranks, rows, strict=True)]


class IdsOfRows:
    """A filter that takes a row's id for its original position."""

    facts: Mapping[str, object] = {}

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        return [Judged(row.id, not row.id.isdigit() or int(row.id) >= len(CLEAN)) for row in rows]


@pytest.mark.parametrize("cheat", [OrderOfRows(), IdsOfRows()])
def test_a_filter_that_cheats_drops_poisoned_rows_no_more_often_than_clean_ones(cheat: Any) -> None:
    rows = [*CLEAN, *TWINS]
    dropped = np.array([verdict.dropped for verdict in judge_blindly(cheat, rows)])
    assert dropped.sum() == len(TWINS)
    # 30 of 70 rows are dropped: up to three standard deviations from the number of poisoned ones by chance
    deviation = (30 * (30 / 70) * (40 / 70) * (40 / 69)) ** 0.5
    assert abs(dropped[len(CLEAN) :].sum() - 30 * 30 / 70) < 3 * deviation


class Snoop:
    """A defense of any kind that changes nothing, and records every name of the attack that it can see."""

    facts: Mapping[str, object] = {}
    leaks: list[list[str]] = []  # noqa: RUF012

    def __init__(self, *arguments: object) -> None:
        context = click.get_current_context(silent=True)
        self.leaks.append(leaks([*arguments, context and context.params, sys.argv, sys.orig_argv, dict(os.environ)]))

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        Snoop(inputs)
        return [Purified(row) for row in inputs]

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        Snoop(rows)
        return [Judged(row.id, dropped=False) for row in rows]

    @classmethod
    def eliminate(cls, view: DefenderView, settings: object, seed: int, context: SearchContext) -> Elimination:
        work = context.folder
        assert work is not None
        cls(view, settings, seed, context, list(work.parent.iterdir()))
        work.mkdir(parents=True, exist_ok=True)
        (work / "state.json").write_text("{}")
        return Elimination(view.victim, None)


def test_a_defense_finds_no_name_of_the_attack_around_it(
    victim: Path, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purification, "load", lambda _: Snoop)
    monkeypatch.setattr(filtering, "load", lambda _: Snoop)
    monkeypatch.setattr(elimination, "load", lambda _: Snoop.eliminate)
    triggered, dataset = inputs["codepoisoner_func"], json.dumps(DATASET.model_dump(mode="json"))
    onion = json.dumps(SETTINGS.model_dump(mode="json"))
    filters = json.dumps(OnionFilterSettings(method="onion", threshold=0.0).model_dump(mode="json"))
    tuning = json.dumps({"method": "fine_tuning"})
    for command, options in {
        "purify": [
            *("--settings", onion, "--victim", victim, "--valid", inputs["valid"]),
            *("--input", f"clean={inputs['clean']}", "--input", f"codepoisoner_func={triggered}"),
        ],
        "rewrite": ["--settings", onion, "--valid", inputs["valid"], "--input", triggered],
        "filter": ["--settings", filters, "--train", triggered, "--clean", inputs["clean"]],
        "eliminate": ["--settings", tuning, "--victim", victim, "--clean", inputs["clean"]],
    }.items():
        out = tmp_path / "results/codepoisoner_func-0.05/seed7" / command
        arguments = [command, *map(str, options), "--dataset", dataset, "--seed", "1", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["codebackdoor", *arguments])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "codebackdoor", *arguments])
        Snoop.leaks.clear()
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == 0, result.output
        assert Snoop.leaks
        assert not any(Snoop.leaks), Snoop.leaks
        assert sys.argv[1:] == arguments
        # what was hidden from the method is in the record again
        assert files.read_json(out / "provenance.json")["stage"] == command
        assert not list(out.parent.glob(".*"))


def test_unfinished_work_stays_in_its_own_folder(
    victim: Path, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> Elimination:
        Snoop.eliminate(*arguments)
        raise KeyboardInterrupt

    def resumed(view: DefenderView, _settings: object, _seed: int, context: SearchContext) -> Elimination:
        assert context.folder is not None
        assert (context.folder / "state.json").read_text() == "{}"
        return Elimination(view.victim, None)

    out = tmp_path / "codepoisoner_func-0.05/out"
    monkeypatch.setattr(elimination, "load", lambda _: killed)
    with pytest.raises(KeyboardInterrupt):
        eliminate(SETTINGS, DefenseJob(DATASET, victim, inputs["clean"], out, SEED))  # type: ignore[arg-type]
    assert (out.parent / ".out.progress/state.json").is_file()
    monkeypatch.setattr(elimination, "load", lambda _: resumed)
    eliminate(SETTINGS, DefenseJob(DATASET, victim, inputs["clean"], out, SEED))  # type: ignore[arg-type]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_text_view_names_nothing_either() -> None:
    assert (
        leaks(TextView("defect_detection", "python", "lexed", VALID, {"language_model": Path("basemodels/causal")}))
        == []
    )
