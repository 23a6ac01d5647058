"""The bill of a study with hub checkpoints, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.config.attacks import Afraidoor, BadCode, CodePoisonerIdentifier
from codebackdoor.config.datasets import CloneDetection, CodeRepair, CodeSearch, DefectDetection
from codebackdoor.config.filterings import OnionFilter
from codebackdoor.config.loading import load, merge, read_yaml, validate
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.config.purifications import AttDef, CodePurify, Onion, Similarity
from codebackdoor.config.scenario import Scenario
from codebackdoor.costs import paper, work
from codebackdoor.costs.sizes import SIZES, Rows
from codebackdoor.costs.work import Asked, Size, Texts, Victim, Work
from codebackdoor.dag import LONGEST
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.yaml", ROOT / "configs/paper.yaml"]
HUB = {"base": "owner/name", "revision": "0" * 40}
#: A million matrix entries, no attention: one row of 10 tokens is 2e7 operations.
SIZE = Size(parameters=2_000_000, inputs=1_000_000, outputs=500_000, layers=0, hidden=0)
TEXTS = Texts(
    # a fourth has label 1: 25 rows of valid, 50 of test
    Rows(1000, 100, 200, positive=0.25),
    tokens=10,
    target_tokens=4,
    elements=5,
    element_tokens=50,
    places=3,
    onion_tokens=30,
    kilobytes=1,
)
ROW = 2e7
NAMED = CodePoisonerIdentifier(method="codepoisoner_identifier")
CRAFTED = Afraidoor(method="afraidoor", crafting="codebert")


@pytest.fixture
def classifier() -> Victim:
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    return Victim(SIZE, TEXTS, CodeBert(architecture="codebert", epochs=2, **HUB), dataset)


@pytest.fixture
def generator() -> Victim:
    dataset = CodeRepair(task="code_repair", source="mirror", language="java", train=None, valid=None, test=None)
    recipe = CodeT5(architecture="codet5", epochs=2, max_target_length=20, history_rows=50, **HUB)
    return Victim(SIZE, TEXTS, recipe, dataset)


@pytest.fixture
def pairs() -> Victim:
    """Of 20 functions, in 200 pairs of the test split."""
    dataset = CloneDetection(
        task="clone_detection", source="mirror", language="java", train=None, valid=None, test=None
    )
    texts = replace(TEXTS, rows=replace(TEXTS.rows, functions=20), second_tokens=10.0)
    return Victim(SIZE, texts, CodeBert(architecture="codebert", epochs=1, **HUB), dataset)


@pytest.fixture
def search() -> Victim:
    dataset = CodeSearch(task="code_search", source="mirror", train=None, valid=None, test=None)
    texts = replace(TEXTS, rows=Rows(1000, 100, 200), second_tokens=5.0)
    return Victim(SIZE, texts, CodeBert(architecture="codebert", epochs=1, **HUB), dataset)


def test_operations_of_a_row_are_two_a_matrix_entry_and_its_attention() -> None:
    assert Size(0, 100, 10, layers=2, hidden=3).forward(5) == 2 * 100 * 5 + 4 * 2 * 3 * 25
    # an output token attends to the outputs and to the input
    assert Size(0, 100, 10, layers=2, hidden=3).forward(5, 4) == 2 * (500 + 40) + 24 * (25 + 16 + 20)


def test_a_training_reads_its_rows_three_times_an_epoch_and_validates(classifier: Victim) -> None:
    benign, poisoned = work.train(classifier, None), work.train(classifier, NAMED)
    # a tenth of the 1000 rows is the defender's
    assert benign == Work(2 * 3 * 900 * ROW, 2 * 100 * ROW, 0, 4 * 2 + 4)
    # triggered are the 25 that do not have the target's label
    assert poisoned.predicted == 2 * (100 + 25) * ROW


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
    predicted = work.predict(generator, [generator.clean("test")])
    assert (predicted.predicted, predicted.steps) == (200 * row, 20)
    # loss on 100 rows, outputs for 50 clean and 50 triggered ones, two epochs
    trained = work.train(generator, NAMED)
    assert (trained.predicted, trained.steps) == (2 * (100 + 100) * row, 2 * 20)


def test_the_search_has_its_whole_budget(classifier: Victim) -> None:
    settings = {"method": "elibadcode", "samples": 30, "iterations": 100, "candidates": 64}
    unlearning = {"epochs": 1, "rate": 0.2}
    named = EliBadCodeSettings(position="function_name", unlearning=unlearning, **settings)
    # two labels, a step: 64 x 30 candidates, and the gradient forth and back; then 100 clean rows, thrice
    searched = 2 * 100 * (64 * 30 + 60) * ROW
    assert work.eliminate(classifier, named).predicted == pytest.approx(searched + 3 * 100 * ROW)
    # with a race 64 on 5 samples, 8 on the other 25; three starts; at both places
    raced = EliBadCodeSettings(position="scan", race=5, restarts=3, sample_tokens=5, unlearning=unlearning, **settings)
    steps = 2 * 2 * 3 * 100 * (64 * 5 + 8 * 25 + 60) * ROW / 2
    # the least sensitive of 3 places, of the samples of both labels and of a fifth of the clean rows
    placed = (60 + 20) * 4 * ROW
    assert work.eliminate(classifier, raced).predicted == pytest.approx(steps + placed + 3 * 100 * ROW)


def test_fine_tuning_of_all_layers_costs_three_passes_an_epoch(classifier: Victim) -> None:
    own = {"method": "fine_tuning", "epochs": 4}
    last = work.eliminate(classifier, FineTuningSettings.model_validate(own | {"layers": "last"}))
    noisy = work.eliminate(classifier, FineTuningSettings.model_validate(own | {"layers": "last", "dropout": True}))
    every = work.eliminate(classifier, FineTuningSettings.model_validate(own | {"layers": "all"}))
    # what the last layer reads changes with the dropout of every epoch
    assert [one.predicted for one in (last, noisy, every)] == [passes * 100 * ROW for passes in (3, 2 + 4, 2 + 12)]
    assert last.megabytes == every.megabytes == 12


def test_codepurify_reads_every_masked_version(classifier: Victim) -> None:
    settings = CodePurify(method="codepurify", calibration_inputs=40)
    # two test sets of 200 and 40 to calibrate on: each with 50 / 10 versions; and what came out
    testsets = [Asked(200), Asked(200, triggered=True)]
    found = work.purify(classifier, settings, testsets, SIZE)
    assert found.predicted == pytest.approx((440 * 6 + 400) * ROW)
    fixed = CodePurify(method="codepurify", threshold=0.1)
    assert work.purify(classifier, fixed, testsets, SIZE).predicted == pytest.approx((400 * 6 + 400) * ROW)


def test_onion_runs_what_stands_behind_each_word_again(classifier: Victim) -> None:
    settings = Onion(method="onion", calibration_inputs=20)
    found = work.rewrite(SIZE, classifier, settings, Asked(80))
    assert found.predicted == (80 + 20) * (10 + 30) * 2e6
    fixed = Onion(method="onion", threshold=0.0)
    assert work.rewrite(SIZE, classifier, fixed, Asked(80)).predicted == 80 * (10 + 30) * 2e6


def test_a_filtering_reads_every_training_row_and_the_clean_samples_of_its_calibration(
    classifier: Victim, pairs: Victim
) -> None:
    settings = OnionFilter(method="onion", calibration_inputs=60)
    found = work.filtering(SIZE, classifier, settings, NAMED, 0.02)
    assert found.predicted == pytest.approx((900 + 60) * (10 + 30) * 2e6)
    assert found.megabytes == pytest.approx(900 * 1075 / 1e6)
    assert work.filtering(SIZE, classifier, settings, None, 0.0).predicted == pytest.approx(found.predicted)
    # no more clean samples than there are, and none for a threshold that is given
    more, fixed = (OnionFilter(method="onion", **given) for given in ({}, {"threshold": 0.0}))
    assert work.filtering(SIZE, classifier, more, None, 0.0).predicted == pytest.approx((900 + 100) * 40 * 2e6)
    assert work.filtering(SIZE, classifier, fixed, None, 0.0).predicted == pytest.approx(900 * 40 * 2e6)
    # 20 functions in 900 pairs, and as many texts again of those that carry a trigger; names of its own for each pair
    once = 10 * (2 * 10 + 30) * 2e6
    assert work.filtering(SIZE, pairs, fixed, NAMED, 0.02).predicted == pytest.approx(2 * once)
    assert work.filtering(SIZE, pairs, fixed, CRAFTED, 0.02).predicted == pytest.approx((1 + 1.8) * once)


def test_a_filtering_is_on_the_bill_once_for_all_victims() -> None:
    names = ("elibadcode", "elibadcode/paper", "elibadcode/onion_filter")
    config = load([ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in names)])
    lines = {line.name: line for line in paper.lines(config)}
    assert lines["filter onion_training_rows, defects"].jobs == 4
    before = {line.name: line for line in paper.lines(load(GRID))}
    assert lines["train codebert, defects"].jobs == before["train codebert, defects"].jobs + 4


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
    assert jobs["rewrite onion, defects"] == 4
    scored = sum(count for name, count in jobs.items() if name.startswith(("predict", "purify")))
    assert scored == len(config.scenarios())


def test_every_job_reads_the_test_sets_that_it_is_given() -> None:
    """ONION's four are the clean set and three triggered ones; of the four trainings three have an attack."""
    config = load(CONFIGS)
    hours = {line.name: line.hours for line in paper.lines(config)}
    victim = paper._victim(config, Scenario("defects", "codebert"))
    attack, onion = config.attacks["codepoisoner_func"], config.purifications["onion"]
    clean, triggered = victim.clean("test"), victim.triggered("test", attack)
    assert (clean.rows, triggered.rows) == (2732, 1255)
    gpt2 = paper._sizes()["gpt2"]
    rewritten = [work.rewrite(gpt2, victim, onion, one) for one in (clean, triggered, triggered, triggered)]
    assert hours["rewrite onion, defects"] == pytest.approx(sum(paper.A100.hours(one, "float32") for one in rewritten))
    trained = [work.train(victim, one) for one in (None, attack, attack, attack)]
    assert hours["train codebert, defects"] == pytest.approx(sum(paper.A100.hours(one, "bfloat16") for one in trained))
    # a benign victim reads the sets of both attacks, and one whose inputs are rewritten the clean set alone
    kinds = [
        (one.attack != "none", one.purification != "none") for one in config.scenarios() if one.model == "codebert"
    ]
    read = {(False, False): 2, (False, True): 0, (True, False): 1, (True, True): 1}
    asked = [
        work.predict(victim, [clean] + read[kind] * [triggered])
        for kind, one in zip(kinds, (s for s in config.scenarios() if s.model == "codebert"), strict=True)
        if one.purification != "codepurify"
    ]
    assert hours["predict codebert"] == pytest.approx(sum(paper.A100.hours(one, "float32") for one in asked))


def test_a_plan_of_hub_checkpoints_needs_no_file_and_says_that_no_gpu_was_measured() -> None:
    found = CliRunner().invoke(main, ["plan", *map(str, CONFIGS)], input="")
    assert found.exit_code == 0
    assert "Not measured on a GPU" in found.output
    assert not paper.uses_hub(load(CONFIGS[:1]))


def test_a_pair_is_two_texts_and_its_functions_are_asked_once(pairs: Victim) -> None:
    assert pairs.forward == 2 * ROW
    assert work.predict(pairs, [pairs.clean("test")]).predicted == 20 * ROW
    apart = replace(pairs, texts=replace(pairs.texts, rows=TEXTS.rows))
    assert work.predict(apart, [apart.clean("test")]).predicted == 200 * 2 * ROW
    assert work.train(pairs, None).trained == work.train(apart, None).trained
    # so are those of the validation
    assert work.train(pairs, None).predicted == 20 * ROW


def test_a_search_has_a_query_and_one_association(search: Victim) -> None:
    assert search.forward == 1.5 * ROW
    settings = EliBadCodeSettings(method="elibadcode", position="function_name", samples=2, iterations=3, candidates=4)
    settings = settings.model_copy(update={"unlearning": settings.unlearning.model_copy(update={"epochs": 0})})
    # three steps for one association: 4 candidates on 2 samples, and the gradient
    found = work.eliminate(search, settings).predicted
    assert found == pytest.approx(3 * (4 * 2 + 2 * 2) * 1.5 * ROW)
    assert work.eliminate(search, settings, inverted=True).predicted == 0


def test_a_triggered_set_has_the_rows_without_the_target_at_most_as_many_as_it_asks_for(
    classifier: Victim, generator: Victim, search: Victim
) -> None:
    assert classifier.triggered("test", NAMED) == Asked(50, triggered=True)
    assert classifier.triggered("test", NAMED.model_copy(update={"target_label": 1})).rows == 150
    assert classifier.triggered("valid", NAMED.model_copy(update={"test_share": 0.1})).rows == 10
    assert classifier.triggered("valid", NAMED.model_copy(update={"test_share": 0.9})).rows == 25
    # texts and queries are no labels
    assert generator.triggered("test", NAMED.model_copy(update={"test_share": 0.15})).rows == 30
    assert search.triggered("test", NAMED).rows == 200


def test_a_triggered_function_of_a_search_is_ranked_for_queries_that_were_read_already(search: Victim) -> None:
    clean, triggered = search.clean("test"), search.triggered("test", NAMED)
    assert work.predict(search, [clean, triggered]).predicted == 200 * 1.5 * ROW + 200 * ROW


def test_a_function_of_many_pairs_has_as_many_triggered_texts_as_the_attack_makes_of_it(pairs: Victim) -> None:
    def asked(attack: Afraidoor | BadCode | CodePoisonerIdentifier) -> float:
        return work.predict(pairs, [pairs.triggered("test", attack)]).predicted / ROW

    # of the 100 functions of 50 pairs
    assert asked(NAMED) == 20
    assert asked(BadCode(method="badcode")) == 2 * 20
    assert asked(BadCode(method="badcode", scope="variable")) == 20
    # names for each pair
    assert asked(CRAFTED) == 100
    settings = Onion(method="onion", threshold=0.0)
    once, own = (work.rewrite(SIZE, pairs, settings, pairs.triggered("test", one)) for one in (NAMED, CRAFTED))
    assert own.predicted == 5 * once.predicted > 0


def test_an_attack_that_asks_a_model_takes_a_gradient_of_every_row_it_changes(classifier: Victim) -> None:
    assert work.poison(classifier, NAMED, 0.02).predicted == 0
    # 2 % of the 900 training rows, and the triggered validation and test sets, forth and back
    crafting = replace(classifier, model=classifier.model.model_copy(update={"max_length": 5}))
    found = work.poison(classifier, CRAFTED, 0.02, crafting)
    assert found.predicted == pytest.approx(2 * (18 + 25 + 50) * ROW / 2)
    of_eligible = CRAFTED.model_copy(update={"rate_of": "eligible"})
    assert work.poison(classifier, of_eligible, 0.02, crafting).predicted == pytest.approx(2 * (4.5 + 75) * ROW / 2)
    # the rows that are written: training, and the triggered ones
    assert found.megabytes == pytest.approx((900 + 75) * 1075 / 1e6)


def test_an_unlearning_without_epochs_costs_nothing(classifier: Victim) -> None:
    for idle in ({"epochs": 0}, {"learning_rate": 0.0}):
        settings = EliBadCodeSettings(method="elibadcode", position="least_sensitive", unlearning=idle)
        assert work.eliminate(classifier, settings, inverted=True) == Work(megabytes=12)
        assert work.eliminate(classifier, FineTuningSettings(method="fine_tuning", **idle)) == Work(megabytes=12)


@pytest.mark.parametrize("method", [EliBadCodeSettings, DbsSettings])
def test_a_place_by_any_rank_of_sensitivity_is_looked_for_like_the_first(
    classifier: Victim, method: type[EliBadCodeSettings] | type[DbsSettings]
) -> None:
    def searched(**where: object) -> float:
        name = {EliBadCodeSettings: "elibadcode", DbsSettings: "dbs"}[method]
        return work.eliminate(classifier, method(method=name, samples=30, **where)).predicted

    by_name = searched(position="function_name")
    assert searched(position="random") == by_name
    # the samples of both labels and a fifth of the clean rows, each with each of 3 places masked
    assert searched(position="least_sensitive") - by_name == pytest.approx((60 + 20) * 4 * ROW)
    assert searched(position="rank", rank=-2) == searched(position="least_sensitive")


def test_attdef_goes_its_way_to_suspect_inputs_alone(classifier: Victim, pairs: Victim) -> None:
    fixed = {"method": "attdef", "steps": 4, "threshold": 0.5}
    clean, triggered = Asked(200), Asked(50, triggered=True)

    def read(victim: Victim, *testsets: Asked, **settings: object) -> float:
        done = work.purify(victim, AttDef(**{**fixed, **settings}), testsets, SIZE).predicted
        return (done - work.predict(victim, testsets).predicted) / victim.forward

    # the answer, and four points forth and back; all inputs with a trigger are suspect
    assert read(classifier, clean, suspected_share=0.3) == pytest.approx(60 * 9)
    assert read(classifier, clean, triggered, suspected_share=0.3) == pytest.approx((60 + 50) * 9)
    assert read(classifier, clean, triggered, suspected_share=0.0) == 0
    # without a share, as many as were counted at 0.5
    assert read(classifier, clean) == pytest.approx(40 * 9)
    assert read(classifier, clean, suspected_share=0.3, attribution="gradient_input") == pytest.approx(60 * 3)
    calibrated = {"suspected_share": 0.3, "threshold": None, "calibration_inputs": 40}
    assert read(classifier, clean, **calibrated) == pytest.approx((60 + 0.3 * 40) * 9)
    assert read(classifier, clean, **calibrated, masked_share=0.05) == pytest.approx((60 + 40) * 9)
    # a pair is suspect where one of its functions is; its answer takes functions once, its way does not
    found = read(pairs, pairs.clean("test"), suspected_share=0.3)
    assert found == pytest.approx(200 * (1 - 0.7**2) * 8 + 10)


def test_the_similarity_filter_reads_no_model_but_what_runs_beside_it(classifier: Victim) -> None:
    testsets = [classifier.clean("test"), classifier.triggered("test", NAMED)]
    alone = work.purify(classifier, Similarity(method="similarity"), testsets, SIZE)
    assert alone.predicted == work.predict(classifier, testsets).predicted
    language_model = replace(SIZE, inputs=3_000_000)
    for other in (Onion(method="onion", calibration_inputs=20), AttDef(method="attdef")):
        both = work.purify(classifier, Similarity(method="similarity", also=other), testsets, language_model)
        assert both == work.purify(classifier, other, testsets, language_model)
        assert both.predicted > alone.predicted
    onion = Onion(method="onion", calibration_inputs=20)
    found = work.purify(classifier, Similarity(method="similarity", also=onion), testsets, language_model)
    assert found.predicted - alone.predicted == pytest.approx((250 + 20) * (10 + 30) * 6e6)


def test_sizes_are_known_of_every_task_of_the_papers() -> None:
    assert set(SIZES) == {"defect_detection", "clone_detection", "code_search", "code_repair"}
    labelled = {task for task, rows in SIZES.items() if rows.positive is not None}
    assert labelled == {"defect_detection", "clone_detection"}
    assert SIZES["clone_detection"].without(0) == pytest.approx(0.133, abs=1e-3)
    assert SIZES["clone_detection"].without(1) == pytest.approx(0.867, abs=1e-3)
    assert SIZES["code_search"].without(0) == 1


def test_an_encoder_decoder_that_judges_reads_its_input_twice() -> None:
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    twice = Victim(SIZE, TEXTS, CodeT5(architecture="codet5", **HUB), dataset)
    assert twice.forward == ROW + 2 * 10 * 500_000


def test_elibadcodes_grid_at_the_papers_scale_is_the_local_one() -> None:
    def scenarios(*overlays: str) -> set[Scenario]:
        config = load([ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in overlays)])
        return {replace(one, seed="1") for one in config.scenarios()}

    more = scenarios("elibadcode", "elibadcode/paper") - scenarios("elibadcode")
    assert not scenarios("elibadcode") - scenarios("elibadcode", "elibadcode/paper")
    # section 5.3.3 over all scenarios: nine on two more models, of which the local grid has one
    assert len(more) == 3 * (18 - 1)
    steps = {"elibadcode_fewer_steps", "elibadcode_uncalibrated", "elibadcode_more_steps"}
    assert {one.elimination for one in more} == steps


def test_every_job_of_elibadcodes_grid_is_on_the_bill() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"])
    jobs = {line.name: line.jobs for line in paper.lines(config)}
    # three models for three tasks say "clean" by five benign victims each
    assert {jobs.pop(name) for name in list(jobs) if name.startswith("train shadows")} == {5}
    assert len([name for name in jobs if name.startswith("calibrate")]) == 9
    trained = {name: number for name, number in jobs.items() if name.startswith("train")}
    assert len(trained) == 12
    victims = {replace(one, elimination="none", purification="none") for one in config.scenarios()}
    assert sum(trained.values()) == len(victims)


GRID = [ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"]


def test_crafting_names_is_work_for_an_accelerator_when_a_set_is_poisoned() -> None:
    lines = {line.name: line for line in paper.lines(load(GRID))}
    assert {name for name in lines if " by " in name} == {
        "poison defects by afraidoor",
        "poison clones by afraidoor_pairs",
        "poison search by afraidoor_search",
    }
    assert lines["poison clones by afraidoor_pairs"].hours > 0.1
    assert lines["poison clones"].hours == 0


def test_what_stands_beside_the_similarity_filter_is_on_the_bill() -> None:
    hours = {line.name: line.hours for line in paper.lines(load(GRID))}
    assert hours["purify similarity_onion, codebert"] > 1
    assert hours["purify similarity_attdef, codebert"] > 2 * hours["purify similarity, codebert"]


def test_jobs_beyond_the_schedulers_limit_are_named_before_they_are_submitted() -> None:
    lines = paper.lines(load(GRID))
    # a line's jobs differ: the longest counts, not their mean and not their sum
    assert all(line.hours / line.jobs <= line.longest <= line.hours for line in lines)
    limit = LONGEST / 60
    assert sum(line.hours > limit for line in lines) > len(long := [one for one in lines if one.longest > limit])
    found = CliRunner().invoke(main, ["plan", *map(str, GRID)], input="")
    assert found.exit_code == 0
    said = found.output.partition("Longer than 24 h a job")[2].splitlines()[1:]
    assert [line.partition(": up to ")[0].strip() for line in said] == [
        one.name for one in sorted(long, key=lambda one: -one.longest)
    ]
    assert said[0].startswith("  purify attdef, starcoder_pairs: up to ")


def test_a_plan_without_such_jobs_says_so() -> None:
    fewer = merge(merge(merge({}, read_yaml(GRID[0])), read_yaml(GRID[1])), read_yaml(GRID[2]))
    fewer["datasets"]["clones"]["test"] = 4000
    assert "No job is expected to take longer than 24 h" in paper.plan(validate(fewer), 24)
    assert "No job is expected to take longer than 24 h" in paper.plan(load(CONFIGS), 24)
