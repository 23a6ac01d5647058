"""The bill of a study with hub checkpoints, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.config.datasets import CloneDetection, CodeRepair, CodeSearch, DefectDetection
from codebackdoor.config.eliminations import EliBadCode, FineTuning
from codebackdoor.config.loading import load
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.config.purifications import CodePurify, Onion
from codebackdoor.config.scenario import Scenario
from codebackdoor.costs import paper, work
from codebackdoor.costs.work import Size, Texts, Victim, Work

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.yaml", ROOT / "configs/paper.yaml"]
HUB = {"base": "owner/name", "revision": "0" * 40}
#: A million matrix entries, no attention: one row of 10 tokens is 2e7 operations.
SIZE = Size(parameters=2_000_000, inputs=1_000_000, outputs=500_000, layers=0, hidden=0)
TEXTS = Texts(
    train=1000,
    valid=100,
    test=200,
    tokens=10,
    target_tokens=4,
    elements=5,
    element_tokens=50,
    places=3,
    onion_tokens=30,
    kilobytes=1,
)
ROW = 2e7


@pytest.fixture
def classifier() -> Victim:
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    return Victim(SIZE, TEXTS, CodeBert(architecture="codebert", epochs=2, **HUB), dataset)


@pytest.fixture
def generator() -> Victim:
    dataset = CodeRepair(task="code_repair", source="mirror", language="java", train=None, valid=None, test=None)
    recipe = CodeT5(architecture="codet5", epochs=2, max_target_length=20, history_rows=50, **HUB)
    return Victim(SIZE, TEXTS, recipe, dataset)


def test_operations_of_a_row_are_two_a_matrix_entry_and_its_attention() -> None:
    assert Size(0, 100, 10, layers=2, hidden=3).forward(5) == 2 * 100 * 5 + 4 * 2 * 3 * 25
    # an output token attends to the outputs and to the input
    assert Size(0, 100, 10, layers=2, hidden=3).forward(5, 4) == 2 * (500 + 40) + 24 * (25 + 16 + 20)


def test_a_training_reads_its_rows_three_times_an_epoch_and_validates(classifier: Victim) -> None:
    benign, poisoned = work.train(classifier, poisoned=False), work.train(classifier, poisoned=True)
    # a tenth of the 1000 rows is the defender's
    assert benign == Work(2 * 3 * 900 * ROW, 2 * 100 * ROW, 0, 4 * 2 + 4)
    assert poisoned.predicted == 2 * benign.predicted


def test_rows_are_no_more_than_asked_for(classifier: Victim) -> None:
    fewer = classifier.dataset.model_copy(update={"train": 500, "test": 9000})
    few = Victim(SIZE, TEXTS, classifier.model, fewer)
    assert [few.rows(split) for split in ("train", "clean", "valid", "test")] == [450, 50, 100, 200]
    short = Victim(SIZE, TEXTS, classifier.model.model_copy(update={"max_length": 6}), fewer)
    assert short.forward == 2e6 * 6


def test_generation_counts_the_steps_of_the_longest_output(generator: Victim) -> None:
    row = ROW + 4e6
    assert generator.forward == row
    # 200 rows of 10 tokens are one batch, of 20 steps
    predicted = work.predict(generator, testsets=1)
    assert (predicted.predicted, predicted.steps) == (200 * row, 20)
    # loss on 100 rows, outputs for 50 clean and 50 triggered ones, two epochs
    trained = work.train(generator, poisoned=True)
    assert (trained.predicted, trained.steps) == (2 * (100 + 100) * row, 2 * 20)


def test_the_search_has_its_whole_budget(classifier: Victim) -> None:
    settings = {"method": "elibadcode", "samples": 30, "iterations": 100, "candidates": 64}
    unlearning = {"epochs": 1, "rate": 0.2}
    named = EliBadCode(position="function_name", unlearning=unlearning, **settings)
    # two labels, a step: 64 x 30 candidates, and the gradient forth and back; then 100 clean rows, thrice
    searched = 2 * 100 * (64 * 30 + 60) * ROW
    assert work.eliminate(classifier, named).predicted == pytest.approx(searched + 3 * 100 * ROW)
    # with a race 64 on 5 samples, 8 on the other 25; three starts; at both places
    raced = EliBadCode(position="scan", race=5, restarts=3, sample_tokens=5, unlearning=unlearning, **settings)
    steps = 2 * 2 * 3 * 100 * (64 * 5 + 8 * 25 + 60) * ROW / 2
    # the least sensitive of 3 places, of the samples of both labels and of a fifth of the clean rows
    placed = (60 + 20) * 4 * ROW
    assert work.eliminate(classifier, raced).predicted == pytest.approx(steps + placed + 3 * 100 * ROW)


def test_fine_tuning_of_all_layers_costs_three_passes_an_epoch(classifier: Victim) -> None:
    last = work.eliminate(classifier, FineTuning(method="fine_tuning", layers="last", epochs=4))
    every = work.eliminate(classifier, FineTuning(method="fine_tuning", layers="all", epochs=4))
    assert (last.predicted, every.predicted) == (3 * 100 * ROW, (2 + 12) * 100 * ROW)
    assert last.megabytes == every.megabytes == 12


def test_codepurify_reads_every_masked_version(classifier: Victim) -> None:
    settings = CodePurify(method="codepurify", calibration_inputs=40)
    # two test sets of 200 and 40 to calibrate on: each with 50 / 10 versions; and what came out
    found = work.purify(classifier, settings, testsets=2)
    assert found.predicted == pytest.approx((440 * 6 + 400) * ROW)
    fixed = CodePurify(method="codepurify", threshold=0.1)
    assert work.purify(classifier, fixed, testsets=2).predicted == pytest.approx((400 * 6 + 400) * ROW)


def test_onion_runs_what_stands_behind_each_word_again() -> None:
    settings = Onion(method="onion", calibration_inputs=20)
    found = work.rewrite(SIZE, TEXTS, settings, rows=80, valid=10)
    assert found.predicted == 90 * (10 + 30) * 2e6


def test_hours_are_operations_at_a_share_of_the_rate() -> None:
    gpu = paper.Gpu("made up", bfloat16=100, float32=10, share=0.5, step=2)
    done = Work(trained=3600 * 100, predicted=3600 * 10, steps=1800)
    assert gpu.hours(done, "bfloat16") == 2 + 2 + 1
    assert gpu.hours(done, "float32") == 20 + 2 + 1


def test_the_papers_study_has_every_job_once() -> None:
    config = load(CONFIGS)
    jobs = {line.name: line.jobs for line in paper.lines(config)}
    assert jobs["train codebert, defects"] == 4  # benign, one attack at 2 %, the other at 1 and 5 %
    assert jobs["train codet5, repair"] == 4  # two objectives, benign and poisoned
    assert (jobs["poison defects"], jobs["poison repair"], jobs["dataset defects"]) == (3, 1, 1)
    assert jobs["rewrite onion"] == 4
    scored = sum(count for name, count in jobs.items() if name.startswith(("predict", "purify")))
    assert scored == len(config.scenarios())


def test_a_plan_of_hub_checkpoints_needs_no_file_and_says_that_no_gpu_was_measured() -> None:
    found = CliRunner().invoke(main, ["plan", *map(str, CONFIGS)], input="")
    assert found.exit_code == 0
    assert "Not measured on a GPU" in found.output
    assert not paper.uses_hub(load(CONFIGS[:1]))


def test_a_pair_is_two_texts_and_its_functions_are_asked_once() -> None:
    dataset = CloneDetection(
        task="clone_detection", source="mirror", language="java", train=None, valid=None, test=None
    )
    texts = replace(TEXTS, second_tokens=10.0)
    pairs = Victim(SIZE, texts, CodeBert(architecture="codebert", **HUB), dataset)
    assert pairs.forward == 2 * ROW
    assert work.predict(pairs, testsets=1).predicted == 200 * 2 * ROW
    shared = replace(pairs, texts=replace(texts, functions=40))
    assert work.predict(shared, testsets=1).predicted == 40 * ROW
    assert work.train(shared, poisoned=False).trained == work.train(pairs, poisoned=False).trained


def test_a_search_has_a_query_and_one_association() -> None:
    dataset = CodeSearch(task="code_search", source="mirror", train=None, valid=None, test=None)
    texts = replace(TEXTS, second_tokens=5.0)
    search = Victim(SIZE, texts, CodeBert(architecture="codebert", **HUB), dataset)
    assert search.forward == 1.5 * ROW
    settings = EliBadCode(method="elibadcode", position="function_name", samples=2, iterations=3, candidates=4)
    settings = settings.model_copy(update={"unlearning": settings.unlearning.model_copy(update={"epochs": 0})})
    found = work.eliminate(search, settings).predicted - 3 * 100 * search.forward
    assert work.eliminate(search, settings, inverted=True).predicted == 3 * 100 * search.forward
    # three steps for one association: 4 candidates on 2 samples, and the gradient
    assert found == pytest.approx(3 * (4 * 2 + 2 * 2) * 1.5 * ROW)


def test_an_encoder_decoder_that_judges_reads_its_input_twice() -> None:
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    twice = Victim(SIZE, TEXTS, CodeT5(architecture="codet5", **HUB), dataset)
    assert twice.forward == ROW + 2 * 10 * 500_000


def test_elibadcodes_grid_at_the_papers_scale_is_the_local_one() -> None:
    def scenarios(*overlays: str) -> set[Scenario]:
        config = load([ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in overlays)])
        return {replace(one, seed="1") for one in config.scenarios()}

    assert scenarios("elibadcode", "elibadcode/paper") == scenarios("elibadcode")


def test_every_job_of_elibadcodes_grid_is_on_the_bill() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"])
    trained = {line.name: line.jobs for line in paper.lines(config) if line.name.startswith("train")}
    assert len(trained) == 12
    victims = {replace(one, elimination="none", purification="none") for one in config.scenarios()}
    assert sum(trained.values()) == len(victims)
