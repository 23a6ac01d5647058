"""What each step of EliBadCode hands to the next, and the lines without which its number would be another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from planted import CALLED, PLANTED, make_view, searches
from tiny_models import understanding

from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.elibadcode import anchoring, method, retrieval, scan
from codebackdoor.defenses.elimination.elibadcode.method import eliminate
from codebackdoor.defenses.elimination.elibadcode.retrieval_scan import with_query
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.elibadcode.words import target_words
from codebackdoor.defenses.elimination.inversion import candidates, classifier, samples, search, unlearning
from codebackdoor.defenses.elimination.inversion.loss import CosineGap, CrossEntropyLoss, InversionLoss
from codebackdoor.defenses.elimination.inversion.position import carriers, trigger_spans
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.elimination.inversion.spans import insert
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build, pieces
from codebackdoor.defenses.views import DefenderView
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example

SMALL = EliBadCodeSettings(
    method="elibadcode", position="scan", samples=6, length=3, iterations=4, top_k=16, candidates=16,
    unlearning=UnlearningSettings(epochs=0),
)  # fmt: skip


def anchored(
    monkeypatch: pytest.MonkeyPatch, full: float, without: tuple[float, float], kept: float, beta: float
) -> anchoring.Anchored:
    """Anchor a trigger of the pieces ``load`` and ``size`` whose losses are these."""
    answers = iter([torch.tensor([full, *without]), torch.tensor([kept])])
    monkeypatch.setattr(anchoring, "losses", lambda *_: next(answers))
    vocabulary = build(make_view().victim.tokenizer, "paper", "python", [True])
    trigger = [vocabulary.pieces.index(piece) for piece in ("load", "size")]
    return anchoring.anchor(make_view().victim, [], vocabulary, trigger, CrossEntropyLoss(0), beta)


def test_a_piece_counts_in_either_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """|l - l_i| > beta: a piece without which the loss is far lower is anchored as well (ledger E6)."""
    lower = anchored(monkeypatch, full=1.0, without=(0.2, 0.95), kept=1.02, beta=0.1)
    assert (lower.text, lower.is_whole) == ("load", False)
    higher = anchored(monkeypatch, full=0.2, without=(1.0, 0.25), kept=0.22, beta=0.1)
    assert (higher.text, higher.is_whole) == ("load", False)


def test_pieces_that_do_not_hold_the_loss_together_are_not_anchored(monkeypatch: pytest.MonkeyPatch) -> None:
    result = anchored(monkeypatch, full=0.2, without=(1.0, 0.25), kept=0.9, beta=0.1)
    assert (result.text, result.is_whole, result.loss) == ("loadsize", True, pytest.approx(0.2))


def test_anchoring_is_on_the_samples_of_the_flagged_label(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, InversionLoss]] = []

    def spy(
        victim: Any, carriers: Any, vocabulary: Any, trigger: Any, loss_function: InversionLoss, beta: float
    ) -> Any:
        calls.append((carriers, loss_function))
        return anchoring.anchor(victim, carriers, vocabulary, trigger, loss_function, beta)

    monkeypatch.setattr(scan, "anchor", spy)
    trigger = method.find(make_view(), SMALL, 1).trigger
    findings = method.scan_of(make_view(), SMALL, 1).run()
    flagged = min(findings, key=lambda finding: finding.best.loss)
    # not those of the last label and place that were scanned (the paper's line 45)
    assert flagged.carriers != findings[-1].carriers
    assert calls == [(flagged.carriers, CrossEntropyLoss(trigger.target_label))]


def test_the_anchored_trigger_is_unlearned_and_not_the_inverted_one() -> None:
    trigger = Trigger("anchored_x", (), 0, True, "function_name", "one", 0.1, "inverted_y", (), 0.1, None, {})
    rows = unlearning.stamp(make_view(), trigger, "both", UnlearningSettings(rate=0.5), np.random.default_rng(1))
    codes = [row.example.code for row in rows if row.stamped]
    assert len(codes) == 20
    assert all("anchored_x" in code and "inverted_y" not in code for code in codes)


@pytest.mark.parametrize("pair", ["both", "code", "code_b"])
def test_the_functions_of_a_pair_that_are_named_carry_the_trigger(pair: Any) -> None:
    rows = [
        Example(f"p{n}", "python", f"def load ( a ) : <indent> return a + {n} <dedent>",
                code_b=f"def save ( b ) : <indent> return b - {n} <dedent>", label=n % 2)
        for n in range(8)
    ]  # fmt: skip
    view = DefenderView("clone_detection", "python", "lexed", tuple(rows), victim=understanding("first", "pair"))
    fields = {"both": {"code", "code_b"}}.get(pair, {pair})
    for position in ("function_name", "least_sensitive", "statement"):
        for carrier, spots in zip(
            carriers(view, rows, position, "one", pair),
            trigger_spans(view, rows, position, "one", pair),
            strict=True,
        ):
            assert carrier is not None
            assert spots is not None
            assert {spans.field for spans in spots} == fields
            assert [isinstance(part, tuple) for part in carrier.parts] == ["code" not in fields, "code_b" not in fields]
    spots = trigger_spans(view, rows[:1], "function_name", "one", pair)[0]
    assert spots is not None
    stamped = insert(rows[0], spots, "testo_init")
    assert {name for name in ("code", "code_b") if "testo_init" in str(getattr(stamped, name))} == fields


def test_every_restart_is_a_search_of_its_own() -> None:
    settings = SMALL.model_copy(update={"restarts": 3, "position": "function_name"})
    for finding in scan.LabelScan.draw(make_view(), settings, 1).run():
        assert len({trajectory.history[0] for trajectory in finding.trajectories}) == 3
        for restart, trajectory in enumerate(finding.trajectories):
            generator = numpy_generator(1, "elibadcode", "search", finding.position, str(finding.label), str(restart))
            loss = CrossEntropyLoss(finding.label)
            objective = classifier.ClassifierObjective(
                make_view().victim, finding.carriers, finding.vocabulary, loss, settings
            )
            assert trajectory == search.search(objective, generator, "alone")


def test_first_triggers_begin_with_any_piece() -> None:
    vocabulary = build(make_view().victim.tokenizer, "paper", "python", [True])
    firsts = {
        candidates.first_trigger(vocabulary, 2, [True], np.random.default_rng(seed))[0]
        for seed in range(len(vocabulary))
    }
    assert len(firsts) > len(vocabulary.first) / 2


@pytest.mark.parametrize(
    ("module", "view"), [(classifier, make_view()), (retrieval, searches())], ids=["labels", "retrieval"]
)
@pytest.mark.parametrize("race", [None, 3])
def test_candidates_are_raced_on_as_many_samples_as_asked(
    module: Any, view: DefenderView, race: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts: set[Any] = set()
    raced = module.raced

    def spy(*arguments: Any) -> torch.Tensor:
        firsts.add(arguments[-1])
        return raced(*arguments)

    monkeypatch.setattr(module, "raced", spy)
    eliminate(view, SMALL.model_copy(update={"race": race}), 1)
    assert firsts == {race}


def test_twice_as_many_short_samples_are_drawn_from_as_are_wanted() -> None:
    settings = SMALL.model_copy(update={"samples": 4, "sample_tokens": 3, "position": "function_name"})
    # of different lengths, so that it is clear which are the shortest
    rows = tuple(replace(row, code=row.code + " x" * number) for number, row in enumerate(make_view().clean))
    view = replace(make_view(), clean=rows)
    drawn = {row.id for seed in range(40) for row in samples.draw(view, settings, [0], seed)[0].examples}
    assert drawn == {row.id for row in [row for row in rows if row.label == 0][:8]}


def retrieval_trajectories(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Iterator[search.Trajectory]:
    """Trajectories from target words of which none is the planted one."""
    view = searches()
    settings = SMALL.model_copy(update={"position": "function_name", "iterations": 12, "word_length": 1, **changes})
    trajectories: list[search.Trajectory] = []

    def spy(*arguments: Any, **named: Any) -> search.Trajectory:
        trajectories.append(search.search(*arguments, **named))
        return trajectories[-1]

    monkeypatch.setattr(scan, "search", spy)
    for seed in range(1, 6):
        eliminate(view, settings, seed)
    return iter(trajectories)


def test_the_target_words_are_searched_and_not_only_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    words = target_words(searches().victim, (str(row.query) for row in searches().clean))
    reached = [words.text(trajectory.target) for trajectory in retrieval_trajectories(monkeypatch)]
    # of five searches from five words, nearly all end at the planted one; a drawn word would be one of a dozen
    assert reached.count(CALLED) >= 3


def test_in_retrieval_too_the_loss_may_rise_where_the_current_pair_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def rises(trajectory: search.Trajectory) -> bool:
        history = trajectory.history
        return any(later > earlier for earlier, later in pairwise(history))

    assert not any(rises(trajectory) for trajectory in retrieval_trajectories(monkeypatch, keep_current=True))
    assert any(rises(trajectory) for trajectory in retrieval_trajectories(monkeypatch, keep_current=False))


def test_a_target_word_without_effect_is_dropped_by_anchoring() -> None:
    view = searches()
    settings = SMALL.model_copy(update={"position": "function_name"})
    drawn = samples.draw(view, settings, [0], 1)[0]
    called = with_query(view, drawn, "function_name")
    where = candidates.contexts(retrieval.code_carriers(called))
    vocabulary: TriggerVocabulary = build(view.victim.tokenizer, "paper", "python", where)
    words = target_words(view.victim, (str(row.query) for row in view.clean))
    trigger = (vocabulary.pieces.index("load"), vocabulary.pieces.index(PLANTED))
    target = (words.words.index("load"), words.words.index(CALLED))
    trajectory = search.Trajectory(trigger, 0.0, (), 0, 0, target)
    result = retrieval.anchor(view.victim, called, vocabulary, words, trajectory, CosineGap(), 0.15)
    assert (result.words, result.is_whole) == (CALLED, False)
    assert PLANTED in result.text


def test_a_piece_is_legal_as_a_whole() -> None:
    assert pieces(["ab", "a.b", "ab(", "(ab", "a_1"], "paper", "c") == ["ab", "a_1"]
    assert pieces(["a$", "a$.", "$"], "language", "java") == ["a$", "$"]
