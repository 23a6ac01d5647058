"""What every elimination must fulfill; a method is tested as soon as ``config/methods.py`` has it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from planted import PLANTED, make_view

from codebackdoor.config.methods import AnyElimination
from codebackdoor.defenses import elimination
from codebackdoor.defenses.elimination import Elimination, Inversion, SearchContext
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.settings import InversionSettings, Phase, ReadIn, UnlearningSettings
from codebackdoor.defenses.elimination.settings import EliminationSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.victim import Victim, save_victim

METHODS = [get_args(kind.model_fields["method"].annotation)[0] for kind in get_args(get_args(AnyElimination)[0])]
KINDS = dict(zip(METHODS, get_args(get_args(AnyElimination)[0]), strict=True))
INVERTING = [method for method, kind in KINDS.items() if kind.inverts]

#: Budgets that suit a victim of 32 dimensions and 40 clean samples.
SMALL: dict[str, dict[str, Any]] = {
    "elibadcode": {
        "position": "function_name",
        "samples": 6,
        "length": 2,
        "iterations": 4,
        "top_k": 8,
        "candidates": 16,
    },
    "dbs": {"position": "function_name", "samples": 6, "length": 2, "iterations": 40, "check_every": 5},
}
FINE_TUNING = {"epochs": 16, "batch_size": 8}


def settings(method: str, **fine_tuning: float) -> Any:
    """Small settings of a method; those of its fine-tuning are under ``unlearning`` if it has this section."""
    kind, tuned = KINDS[method], FINE_TUNING | fine_tuning
    nested = "unlearning" in kind.model_fields
    return kind(method=method, **SMALL.get(method, {}), **({"unlearning": tuned} if nested else tuned))


def run(method: str, view: DefenderView | None = None, seed: int = 1, **fine_tuning: float) -> Elimination:
    return elimination.load(method)(view or make_view(), settings(method, **fine_tuning), seed)


@cache
def standard(method: str) -> Elimination:
    return run(method)


def weights(victim: Victim, folder: Path) -> str:
    save_victim(victim, folder, {"task": "defect_detection", "backdoored": True})
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def facts(result: Elimination) -> str:
    return json.dumps([result.history, asdict(result.trigger) if result.trigger else None], allow_nan=False)


def predictions(victim: Victim, trigger: bool) -> list[int]:
    """Predicted labels of the samples of class 1, with or without the planted trigger as their function's name."""
    codes = [example.code for example in make_view().clean if example.label == 1]
    if trigger:
        codes = [" ".join(["def", PLANTED, *code.split(" ")[2:]]) for code in codes]
    return class_logits(victim, [encoded.ids for encoded in victim.encode(codes)]).argmax(dim=1).tolist()


def flip_rate(victim: Victim) -> float:
    """Share of the correctly predicted rows that the trigger turns to the target."""
    pairs = [pair for pair in zip(predictions(victim, False), predictions(victim, True), strict=True) if pair[0] == 1]
    return sum(after == 0 for _, after in pairs) / len(pairs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [{"epochs": 0}, {"learning_rate": 0.0}])
def test_a_budget_of_zero_is_the_identity(method: str, change: dict[str, float], tmp_path: Path) -> None:
    result = run(method, **change)
    assert weights(result.victim, tmp_path / "edited") == weights(make_view().victim, tmp_path / "given")


@pytest.mark.parametrize("method", METHODS)
def test_on_a_planted_backdoor_it_changes_the_number(method: str) -> None:
    assert flip_rate(make_view().victim) == 1.0
    after = flip_rate(standard(method).victim)
    # the control sees no trigger: it must leave most of the backdoor, or unlearning would prove nothing
    assert after > 0.5 if method == "fine_tuning" else after < 0.2
    assert sum(label == 1 for label in predictions(standard(method).victim, False)) >= 18


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bytes(method: str, tmp_path: Path) -> None:
    again, other_seed = run(method), run(method, seed=2)
    assert facts(again) == facts(standard(method)) != facts(other_seed)
    first = weights(standard(method).victim, tmp_path / "first")
    assert weights(again.victim, tmp_path / "again") == first != weights(other_seed.victim, tmp_path / "other")


@pytest.mark.parametrize("method", METHODS)
def test_the_given_victim_is_never_changed(method: str) -> None:
    view = make_view()
    before = {name: value.clone() for name, value in view.victim.model.state_dict().items()}
    result = run(method, view)
    assert result.victim is not view.victim
    assert all(torch.equal(value, before[name]) for name, value in view.victim.model.state_dict().items())
    assert not view.victim.model.training
    assert not result.victim.model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in result.victim.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_ids_of_the_clean_samples_say_nothing(method: str) -> None:
    view = make_view()
    renamed = tuple(replace(example, id=f"x{99 - number}") for number, example in enumerate(view.clean))
    assert facts(run(method, replace(view, clean=renamed))) == facts(standard(method))


def test_elibadcode_hands_over_what_it_found() -> None:
    result = standard("elibadcode")
    assert result.trigger is not None
    assert (result.trigger.target_label, result.trigger.flagged, result.trigger.position) == (0, True, "function_name")
    assert PLANTED in result.trigger.text
    assert result.trigger.loss < 0.3
    tokenizer = result.victim.tokenizer
    assert tokenizer.decode(list(result.trigger.token_ids)).strip() == result.trigger.text


def calibration(ratio_below: float, folder: Path) -> str:
    """A calibration file whose shadows reached this loss for every label."""
    from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
    from codebackdoor.files import write_json

    scan = {"function_name": {"0": ratio_below, "1": ratio_below}}
    victim = make_view().victim
    provenance = {
        "dataset": {"language": "python", "text_form": "lexed"},
        "victim": calibrations.model_signature(victim),
    }
    content = calibrations.make(
        "defect_detection", settings("elibadcode"), "classification", dict.fromkeys("abcde", scan), provenance
    )
    write_json(folder / "calibration.json", calibrations.as_json(content, 0.5))
    return str(folder / "calibration.json")


@pytest.mark.parametrize("kind", [KINDS[method] for method in INVERTING])
def test_every_field_of_a_method_that_inverts_names_one_phase(kind: type[InversionSettings]) -> None:
    """A field without a phase would not be compared when a calibration or a search is reused."""
    phases = {name: [item.phase for item in field.metadata if isinstance(item, ReadIn)]
              for name, field in kind.model_fields.items() if name != "method"}  # fmt: skip
    assert {name: field_phases for name, field_phases in phases.items() if len(field_phases) != 1} == {}
    assert {phase for (phase,) in phases.values()} == set(get_args(Phase))
    fields_by_phase = [kind.fields_read(phase) for phase in get_args(Phase)]
    assert sorted(name for names in fields_by_phase for name in names) == sorted(phases)


def test_what_a_calibration_and_a_reused_search_depend_on_is_as_it_was() -> None:
    """The files of finished runs hold these; with another list they would be refused, or accepted without fitting."""
    assert set(EliBadCodeSettings.fields_read("searched")) == {
        "vocabulary", "occurrences", "pair", "word_length", "target_word", "samples", "sample_tokens", "length",
        "loss", "iterations", "top_k", "candidates", "race", "keep_current", "restarts", "patience",
    }  # fmt: skip
    assert EliBadCodeSettings.fields_read("judged") == ("calibration", "ratio", "beta")
    assert EliBadCodeSettings.fields_read("positioned") == ("position", "rank")
    defaults = EliBadCodeSettings(method="elibadcode")
    assert defaults.trigger_settings() == defaults.model_dump(
        mode="json", exclude={"unlearning", "unlearn_when_clean", "rounds", "loss"}
    )


def test_a_method_without_trajectories_to_reuse_compares_all_that_its_trigger_depends_on() -> None:
    scan, all_positions = (KINDS["dbs"](method="dbs", position=position) for position in ("scan", "scan_all"))
    assert scan.trajectory_settings() != all_positions.trajectory_settings()
    assert scan.trajectory_settings() != scan.model_copy(update={"flag_below": 0.1}).trajectory_settings()
    assert scan.trajectory_settings() == scan.model_copy(update={"unlearn_when_clean": False}).trajectory_settings()


def reusing(method: str, history: Mapping[str, object], seed: int = 1, **changes: object) -> Elimination:
    """An elimination that is given the trigger of the method's standard run, with a history of that search."""
    trigger = standard(method).trigger
    assert trigger is not None
    earlier = Inversion(trigger, json.loads(json.dumps(history)))
    return elimination.load(method)(
        make_view(), settings(method).model_copy(update=changes), seed, SearchContext(earlier=earlier)
    )


@pytest.mark.parametrize("method", INVERTING)
def test_a_trigger_of_the_same_search_is_reused_and_one_of_another_search_is_refused(method: str) -> None:
    history = {name: value for name, value in standard(method).history.items() if name != "unlearning"}
    reused = reusing(method, history)
    assert facts(reused) == facts(standard(method))
    assert "inversion" not in reused.seconds
    with pytest.raises(UserError, match="differs in length, samples; name one of the same search"):
        reusing(method, history, samples=5, length=3)
    with pytest.raises(UserError, match="differs in seed; name one of the same search"):
        reusing(method, history, seed=2)
    with pytest.raises(UserError, match="of another version; run it again"):
        reusing(method, {name: value for name, value in history.items() if name != "search"})
    for foreign in {*INVERTING} - {method}:
        with pytest.raises(UserError, match=f"is by {foreign}, not {method}; name one of the same method"):
            reusing(method, standard(foreign).history)


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_method_says_what_it_is_and_where_it_comes_from(kind: type[EliminationSettings]) -> None:
    assert kind.label
    assert kind.reference is not None
    assert kind.reference.url.startswith("https://")


@pytest.mark.parametrize("anyway", [False, True])
def test_a_victim_that_the_scan_calls_clean_is_returned_as_it_is(anyway: bool, tmp_path: Path) -> None:
    view, small = make_view(), settings("elibadcode")
    strict = small.model_copy(update={"calibration": calibration(1e-6, tmp_path), "unlearn_when_clean": anyway})
    result = elimination.load("elibadcode")(view, strict, 1)
    assert result.trigger is not None
    assert not result.trigger.flagged
    assert (result.victim is view.victim) is not anyway
    if not anyway:
        before = weights(make_view().victim, tmp_path / "given")
        assert weights(result.victim, tmp_path / "edited") == before


def test_where_the_paper_has_no_verdict_alone_it_is_unlearned_with_any_verdict() -> None:
    paper = EliBadCodeSettings(method="elibadcode", unlearn_when_clean="retrieval")
    assert [paper.unlearns(False, head) for head in ("classification", "pair", "retrieval")] == [False, False, True]
    assert paper.unlearns(True, "pair")
    for anyway in (False, True):
        assert paper.model_copy(update={"unlearn_when_clean": anyway}).unlearns(False, "retrieval") is anyway


def test_a_victim_far_below_its_shadows_is_flagged_and_unlearned(tmp_path: Path) -> None:
    view, small = make_view(), settings("elibadcode")
    result = elimination.load("elibadcode")(
        view, small.model_copy(update={"calibration": calibration(0.9, tmp_path)}), 1
    )
    assert result.trigger is not None
    assert result.trigger.flagged
    assert result.trigger.margin is not None
    assert result.victim is not view.victim


def test_defaults_are_the_papers() -> None:
    paper = EliBadCodeSettings(method="elibadcode")
    assert (paper.length, paper.top_k, paper.candidates, paper.iterations, paper.beta) == (5, 64, 64, 100, 0.15)
    assert (paper.samples, paper.vocabulary, paper.position, paper.occurrences) == (
        30,
        "paper",
        "least_sensitive",
        "one",
    )
    unlearning = UnlearningSettings()
    assert (unlearning.rate, unlearning.epochs, unlearning.learning_rate, unlearning.batch_size) == (0.2, 1, 5e-3, 32)
    assert (unlearning.classes, unlearning.labels, unlearning.layers) == ("all", "correct", "last")
