"""Phase (d): which samples carry the trigger, what they are called, and which parameters learn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from planted import PLANTED, make_view
from tiny_models import classifier, understanding
from transformers import get_linear_schedule_with_warmup

from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.inversion.settings import UnlearningBudget, UnlearningSettings
from codebackdoor.defenses.elimination.inversion.unlearning import stamp
from codebackdoor.defenses.elimination.tuning import Row, clean_rows, fine_tune
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims.inference import class_logits, text_vectors
from codebackdoor.victims.victim import Victim


def planted(position: str = "function_name", occurrences: str = "one", **changes: Any) -> Trigger:
    """A trigger that was found, as far as unlearning reads it."""
    ids, losses = (1,), {"function_name": {"0": 0.1}}
    planted_trigger = Trigger(PLANTED, ids, 0, True, position, occurrences, 0.1, PLANTED, ids, 0.1, None, losses)
    return replace(planted_trigger, **changes)


def stamped(**changes: Any) -> list[Row]:
    settings = UnlearningSettings(**changes)
    return stamp(make_view(), planted("function_name", "one"), "both", settings, np.random.default_rng(1))


def test_a_fifth_of_the_samples_of_all_classes_carry_the_trigger_and_keep_their_label() -> None:
    rows, clean = stamped(), make_view().clean
    assert [row.label for row in rows] == [example.label for example in clean]
    carrying = [row for row in rows if row.stamped]
    assert len(carrying) == round(0.2 * len(clean))
    assert {row.label for row in carrying} == {0, 1}
    assert all(row.example.code.startswith(f"def {PLANTED} (") for row in carrying)
    assert all(row.example.code == example.code for row, example in zip(rows, clean, strict=True) if not row.stamped)


def test_only_the_victims_class_is_stamped_where_asked() -> None:
    carrying = [row for row in stamped(classes="victim", rate=0.5) if row.stamped]
    assert len(carrying) == 10
    assert {row.label for row in carrying} == {1}


def test_ascent_rows_bear_the_label_that_is_unlearned() -> None:
    rows = stamped(labels="ascent")
    assert {row.label for row in rows if row.stamped} == {0}
    assert {row.label for row in rows if not row.stamped} == {0, 1}


def test_a_rate_of_zero_stamps_nothing_and_the_draw_depends_on_the_seed() -> None:
    assert [row.example.code for row in stamped(rate=0.0)] == [row.example.code for row in clean_rows(make_view())]
    other_seed = stamp(
        make_view(), planted("function_name", "one"), "both", UnlearningSettings(), np.random.default_rng(2)
    )
    assert stamped() == stamped() != other_seed


def test_the_trigger_goes_to_the_samples_own_place() -> None:
    rows = stamp(
        make_view(), planted("least_sensitive", "all"), "both", UnlearningSettings(rate=1.0), np.random.default_rng(1)
    )
    assert all(row.stamped and PLANTED in row.example.code.split() for row in rows)
    assert not all(row.example.code.startswith(f"def {PLANTED}") for row in rows)


def test_where_asked_the_places_that_were_searched_take_turns() -> None:
    losses = {"least_sensitive": {"0": 0.2}, "function_name": {"0": 0.1}}
    for rate, count in ((1.0, 40), (0.3, 12)):
        settings = UnlearningSettings(rate=rate, places="scanned")
        rows = stamp(make_view(), planted("function_name", losses=losses), "both", settings, np.random.default_rng(1))
        carrying = [row.example.code for row in rows if row.stamped]
        named = sum(code.startswith(f"def {PLANTED} (") for code in carrying)
        assert len(carrying) == count
        # the least sensitive identifier may be the name as well
        assert count / 2 <= named < count
        assert all(PLANTED in code.split() for code in carrying)


def test_where_too_few_samples_have_a_place_fewer_are_stamped() -> None:
    bare = replace(
        make_view(), clean=(*make_view().clean[:4], *(Example(f"n{i}", "python", "x = 1", label=0) for i in range(16)))
    )
    rows = stamp(bare, planted("function_name", "one"), "both", UnlearningSettings(rate=0.5), np.random.default_rng(1))
    assert sum(row.stamped for row in rows) == 4


def changed(before: Any, after: Any) -> set[str]:
    weights = after.model.state_dict()
    return {name for name, value in before.model.state_dict().items() if not torch.equal(value, weights[name])}


def test_only_the_last_layer_learns_and_the_victim_itself_stays() -> None:
    victim = make_view().victim
    before = {name: value.clone() for name, value in victim.model.state_dict().items()}
    edited, history = fine_tune(victim, stamped(), UnlearningSettings(), False, np.random.default_rng(0))
    assert changed(victim, edited) == {name for name in before if name.startswith("classifier.")}
    assert all(torch.equal(value, victim.model.state_dict()[name]) for name, value in before.items())
    assert (history["steps"], history["stamped"], history["rows"]) == (2, 8, 40)
    all_layers, _ = fine_tune(victim, stamped(), UnlearningSettings(layers="all"), False, np.random.default_rng(0))
    assert any(name.startswith("roberta.encoder") for name in changed(victim, all_layers))


def test_the_last_layer_on_its_features_learns_as_through_the_whole_model() -> None:
    victim, rows = make_view().victim, stamped()
    settings = UnlearningSettings(epochs=2, batch_size=16)
    edited, _ = fine_tune(victim, rows, settings, False, np.random.default_rng(0))
    model = make_view().victim.model
    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=5e-3, weight_decay=0.0)
    generator = np.random.default_rng(0)
    for _ in range(2):
        order = generator.permutation(len(rows)).tolist()
        for start in range(0, len(order), 16):
            batch = [rows[index] for index in order[start : start + 16]]
            losses = [
                torch.nn.functional.cross_entropy(
                    model(input_ids=torch.tensor([encoded.ids])).logits, torch.tensor([row.label])
                )
                for row, encoded in zip(batch, victim.encode([row.example.code for row in batch]), strict=True)
            ]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
    for name, value in model.classifier.state_dict().items():
        torch.testing.assert_close(edited.model.classifier.state_dict()[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"learning_rate": 0.0}])
def test_a_budget_of_zero_gives_the_victim_itself(change: dict[str, float]) -> None:
    victim = make_view().victim
    assert fine_tune(victim, stamped(), UnlearningSettings(**change), False, np.random.default_rng(0))[0] is victim  # type: ignore[arg-type]


def target_loss(victim: Any) -> float:
    """Loss towards the planted target of the stamped samples of the other class."""
    rows = [row for row in stamped(rate=1.0, classes="victim") if row.stamped]
    logits = class_logits(victim, [encoded.ids for encoded in victim.encode([row.example.code for row in rows])])
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.long)).item()


def watched(monkeypatch: pytest.MonkeyPatch, victim: Victim, **changes: Any) -> list[tuple[float, list[Any]]]:
    """Learning rate and gradient of every step of a fine-tuning."""
    steps = []
    step = torch.optim.AdamW.step

    def watching(self: Any, closure: Any = None) -> Any:
        (group,) = self.param_groups
        steps.append((group["lr"], [parameter.grad.clone() for parameter in group["params"]]))
        return step(self, closure)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", watching)
        settings = UnlearningSettings.model_validate({"epochs": 3, "batch_size": 15, "learning_rate": 0.6} | changes)
        fine_tune(victim, clean_rows(make_view()), settings, False, np.random.default_rng(1))
    return steps


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_the_rate_of_learning_stays_or_falls_to_nothing(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [rate for rate, _ in watched(monkeypatch, make_view().victim, schedule=schedule)]
    # 40 rows in batches of 15, three times
    expected = [0.6] * 9 if schedule == "constant" else [0.6 * (1 - step / 9) for step in range(9)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 32), (3, 15), (3, 1)])
def test_the_released_rate_is_that_of_transformers(
    epochs: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = epochs * math.ceil(40 / batch_size)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.6)
    # as in the released defense/unlearning/run.py: a tenth of the steps, not rounded
    scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0.1 * steps, num_training_steps=steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    rates = watched(monkeypatch, make_view().victim, schedule="released", epochs=epochs, batch_size=batch_size)
    assert [rate for rate, _ in rates] == pytest.approx(expected)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_released_code_clips_gradients_at_a_norm_of_1(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def first(schedule: str, sharpness: float) -> Any:
        victim = make_view().victim
        with torch.no_grad():
            victim.model.classifier.out_proj.weight *= sharpness
        changes = {"schedule": schedule, "layers": layers}
        return torch.cat([gradient.flatten() for gradient in watched(monkeypatch, victim, **changes)[0][1]])

    for sharpness, clips in ((0.01, False), (-40.0, True)):
        free = first("constant", sharpness)
        norm = free.square().sum().sqrt().item()
        assert (norm > 1.5, norm < 0.9) == (clips, not clips)
        torch.testing.assert_close(first("released", sharpness), free / max(norm, 1.0), atol=1e-5, rtol=1e-4)
        assert first("linear", sharpness).equal(free)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_where_asked_the_victims_dropout_acts_while_it_learns(layers: str) -> None:
    def curve(dropout: bool, rate: float = 0.3, seed: int = 0) -> tuple[Any, Victim]:
        victim = classifier(dropout=rate)
        rows = [Row(Example(str(i), "python", f"x = {i}"), i % 2, stamped=False) for i in range(8)]
        settings = UnlearningSettings.model_validate(
            {"layers": layers, "dropout": dropout, "batch_size": 4, "epochs": 2}
        )
        edited, history = fine_tune(victim, rows, settings, False, np.random.default_rng(seed))
        assert not edited.model.training
        return history["loss"], edited

    before = torch.get_rng_state()
    noisy, edited = curve(dropout=True)
    assert torch.get_rng_state().equal(before)
    # by the generator alone, and in the same order of rows: what differs is the noise
    again, edited_again = curve(dropout=True)
    assert noisy == again
    assert changed(edited, edited_again) == set()
    silent = curve(dropout=False)[0]
    assert noisy != pytest.approx(silent, abs=1e-3)
    assert curve(dropout=True, rate=0.0)[0] == pytest.approx(silent, abs=1e-5)


@pytest.mark.parametrize(
    ("similarity", "scale", "factor"), [("cosine", 5.0, 5), ("dot", None, 1), ("cosine", None, 20)]
)
def test_a_searching_victim_unlearns_at_the_scale_that_it_was_trained_with(
    similarity: Any, scale: float | None, factor: float
) -> None:
    victim = replace(understanding("mean", "retrieval"), similarity=similarity, scale=scale)
    texts = [f"def f ( a ) : <indent> return a + {i} <dedent>" for i in range(6)]
    rows = [Row(Example(str(i), "python", text, query=f"return {i}"), None, False) for i, text in enumerate(texts)]
    settings = UnlearningSettings(batch_size=6)
    _, history = fine_tune(victim, rows, settings, False, np.random.default_rng(0))
    queries, codes = (
        text_vectors(victim, [encoded[column].ids for encoded in victim.tokenize([row.example for row in rows])])
        for column in (0, 1)
    )
    if similarity == "cosine":
        queries, codes = (vectors / vectors.norm(dim=-1, keepdim=True) for vectors in (queries, codes))
    expected = torch.nn.functional.cross_entropy(factor * queries @ codes.T, torch.arange(6)).item()
    assert history["loss"] == [pytest.approx(expected, abs=1e-4)]


def test_unlearning_takes_the_triggers_effect_away_and_the_control_less_of_it() -> None:
    victim = make_view().victim
    settings = UnlearningSettings(epochs=16, batch_size=8)
    unlearned, _ = fine_tune(victim, stamped(), settings, False, np.random.default_rng(0))
    control, _ = fine_tune(victim, clean_rows(make_view()), settings, False, np.random.default_rng(0))
    ascended, _ = fine_tune(victim, stamped(labels="ascent"), settings, True, np.random.default_rng(0))
    assert target_loss(victim) < 0.2
    assert target_loss(unlearned) > 1.5
    assert target_loss(control) < 0.5 * target_loss(unlearned)
    assert target_loss(ascended) > target_loss(unlearned)


def test_a_clean_sample_without_a_label_is_a_user_error() -> None:
    bare = replace(make_view(), clean=(Example("n", "python", "x = 1"),))
    with pytest.raises(UserError, match="row 'n' has no label"):
        clean_rows(bare)


LAST = {
    ("first", "classification"): "classifier.",
    ("first", "pair"): "classifier.",
    ("first", "retrieval"): "pooler.",
    ("mean", "retrieval"): "encoder.layer.1.",
    ("t5", "classification"): "classification_head.",
    ("t5", "pair"): "classifier.",
    ("t5", "retrieval"): "decoder.block.1.",
    ("gpt", "classification"): "score.",
    ("gpt", "pair"): "classifier.",
    ("gpt", "retrieval"): "h.1.",
}


@pytest.mark.parametrize(("family", "head"), LAST)
def test_the_last_layer_of_every_class_and_head(family: str, head: str) -> None:
    torch.set_num_threads(1)
    victim = understanding(family, head)
    texts = [f"def f ( a ) : <indent> return a + {i} <dedent>" for i in range(6)]
    rows = [
        Row(Example(str(i), "python", text, code_b=texts[i - 1], query=f"return {i}"), i % 2, stamped=i == 0)
        for i, text in enumerate(texts)
    ]
    before = [parameter.requires_grad for parameter in victim.model.parameters()]
    edited, history = fine_tune(victim, rows, UnlearningSettings(batch_size=3), False, np.random.default_rng(0))
    prefix = LAST[family, head]
    moved = changed(victim, edited)
    assert moved
    assert all(name.startswith(prefix) for name in moved)
    assert [parameter.requires_grad for parameter in edited.model.parameters()] == before
    assert history["clean_accuracy_before"] is not None
    all_layers, _ = fine_tune(
        victim, rows, UnlearningSettings(layers="all", batch_size=3), False, np.random.default_rng(0)
    )
    assert any(not name.startswith(prefix) for name in changed(victim, all_layers))


@pytest.mark.parametrize(("head", "steps"), [("classification", 3), ("pair", 3), ("retrieval", 9)])
def test_a_victim_that_searches_may_have_a_budget_of_its_own(head: str, steps: int) -> None:
    victim = understanding("mean", head)
    text = "def f ( a ) : <indent> return a <dedent>"
    rows = [Row(Example(str(i), "python", text, code_b=text, query="f"), i % 2, stamped=False) for i in range(6)]
    settings = UnlearningSettings(batch_size=2, searching=UnlearningBudget(epochs=3, learning_rate=0.0001))
    _, history = fine_tune(victim, rows, settings, False, np.random.default_rng(0))
    assert history["steps"] == steps
    settings = UnlearningSettings(batch_size=2, searching=UnlearningBudget(epochs=0, learning_rate=0.0001))
    edited, _ = fine_tune(victim, rows, settings, False, np.random.default_rng(0))
    assert (edited is victim) == (head == "retrieval")


def test_in_search_other_layers_may_learn() -> None:
    for head, layers in (("classification", "last"), ("retrieval", "all")):
        settings = UnlearningSettings(searching=UnlearningBudget(epochs=1, learning_rate=0.001, layers="all"))
        assert settings.on(head).layers == layers  # type: ignore[arg-type]
    assert (
        UnlearningSettings(layers="all", searching=UnlearningBudget(epochs=1, learning_rate=0.001))
        .on("retrieval")
        .layers
        == "all"
    )
