"""The bill of a study with hub checkpoints, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from codebackdoor.attacks.afraidoor.settings import AfraidoorSettings
from codebackdoor.attacks.badcode.settings import BadCodeSettings
from codebackdoor.attacks.codepoisoner_identifier.settings import CodePoisonerIdentifierSettings
from codebackdoor.cli import main
from codebackdoor.config.base import Settings
from codebackdoor.config.datasets import DATASETS
from codebackdoor.config.loading import load, merge, read_yaml, validate
from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.config.scenario import Scenario
from codebackdoor.costs import bill, jobs, paper
from codebackdoor.costs.sizes import SIZES, Rows
from codebackdoor.costs.work import ModelSize, NotPriced, PlannedVictim, RowSet, Texts, Work
from codebackdoor.dag.resources import MAX_RUNTIME
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.elimination.settings import EliminationSettings
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.filtering.spectral_signature.settings import SpectralSignatureSettings
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings
from codebackdoor.tasks.clone_detection.settings import CloneDetection
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.code_search.settings import CodeSearch
from codebackdoor.tasks.defect_detection.settings import DefectDetection

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.yaml", ROOT / "configs/paper.yaml"]
HUB = {"base": "owner/name", "revision": "0" * 40}
#: A million matrix entries, no attention: one row of 10 tokens is 2e7 operations.
SIZE = ModelSize(parameters=2_000_000, inputs=1_000_000, outputs=500_000, layers=0, hidden=0)
TEXTS = Texts(
    # a fourth has label 1: 25 rows of valid, 50 of test
    Rows(1000, 100, 200, positive=0.25),
    tokens=10,
    target_tokens=4,
    elements=5,
    element_tokens=50,
    places=3,
    lines=4,
    onion_tokens=30,
    kilobytes=1,
)
ROW = 2e7
NAMED = CodePoisonerIdentifierSettings(method="codepoisoner_identifier")
CRAFTED = AfraidoorSettings(method="afraidoor", crafting="codebert")


@pytest.fixture
def classifier() -> PlannedVictim:
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    return PlannedVictim(SIZE, TEXTS, CodeBert(architecture="codebert", epochs=2, **HUB), dataset)


@pytest.fixture
def generator() -> PlannedVictim:
    dataset = CodeRepair(task="code_repair", source="mirror", language="java", train=None, valid=None, test=None)
    recipe = CodeT5(architecture="codet5", epochs=2, max_target_length=20, history_rows=50, **HUB)
    return PlannedVictim(SIZE, TEXTS, recipe, dataset)


@pytest.fixture
def pairs() -> PlannedVictim:
    """Of 20 functions, in 200 pairs of the test split."""
    dataset = CloneDetection(
        task="clone_detection", source="mirror", language="java", train=None, valid=None, test=None
    )
    texts = replace(TEXTS, rows=replace(TEXTS.rows, functions=20), second_tokens=10.0)
    return PlannedVictim(SIZE, texts, CodeBert(architecture="codebert", epochs=1, **HUB), dataset)


@pytest.fixture
def search() -> PlannedVictim:
    dataset = CodeSearch(task="code_search", source="mirror", train=None, valid=None, test=None)
    texts = replace(TEXTS, rows=Rows(1000, 100, 200), second_tokens=5.0)
    return PlannedVictim(SIZE, texts, CodeBert(architecture="codebert", epochs=1, **HUB), dataset)


def test_operations_of_a_row_are_two_a_matrix_entry_and_its_attention() -> None:
    assert ModelSize(0, 100, 10, layers=2, hidden=3).forward(5) == 2 * 100 * 5 + 4 * 2 * 3 * 25
    # an output token attends to the outputs and to the input
    assert ModelSize(0, 100, 10, layers=2, hidden=3).forward(5, 4) == 2 * (500 + 40) + 24 * (25 + 16 + 20)


def test_a_training_reads_its_rows_three_times_an_epoch_and_validates(classifier: PlannedVictim) -> None:
    benign, poisoned = jobs.train(classifier, None), jobs.train(classifier, NAMED)
    # a tenth of the 1000 rows is the defender's
    assert benign == Work(2 * 3 * 900 * ROW, 2 * 100 * ROW, 0, 4 * 2 + 4)
    # triggered are the 25 that do not have the target's label
    assert poisoned.predicted == 2 * (100 + 25) * ROW


def test_rows_are_no_more_than_asked_for(classifier: PlannedVictim) -> None:
    fewer = classifier.dataset.model_copy(update={"train": 500, "test": 9000})
    few = PlannedVictim(SIZE, TEXTS, classifier.model, fewer)
    assert [few.rows(split) for split in ("train", "clean", "valid", "test")] == [450, 50, 100, 200]
    short = PlannedVictim(SIZE, TEXTS, classifier.model.model_copy(update={"max_length": 6}), fewer)
    assert short.forward == 2e6 * 6


def test_generation_counts_the_steps_of_the_longest_output(generator: PlannedVictim) -> None:
    row = ROW + 4e6
    assert generator.forward == row
    # 200 rows of 10 tokens are one batch, of 20 steps
    predicted = jobs.predict(generator, [generator.clean("test")])
    assert (predicted.predicted, predicted.steps) == (200 * row, 20)
    # loss on 100 rows, outputs for 50 clean and 50 triggered ones, two epochs
    trained = jobs.train(generator, NAMED)
    assert (trained.predicted, trained.steps) == (2 * (100 + 100) * row, 2 * 20)


def test_the_search_has_its_whole_budget(classifier: PlannedVictim) -> None:
    settings = {"method": "elibadcode", "samples": 30, "iterations": 100, "candidates": 64}
    unlearning = {"epochs": 1, "rate": 0.2}
    named = EliBadCodeSettings(position="function_name", unlearning=unlearning, **settings)
    # two labels, a step: 64 x 30 candidates, and the gradient forth and back; then 100 clean rows, thrice
    searched = 2 * 100 * (64 * 30 + 60) * ROW
    assert jobs.eliminate(classifier, named).predicted == pytest.approx(searched + 3 * 100 * ROW)
    # with a race 64 on 5 samples, 8 on the other 25; three starts; at both places
    raced = EliBadCodeSettings(position="scan", race=5, restarts=3, sample_tokens=5, unlearning=unlearning, **settings)
    steps = 2 * 2 * 3 * 100 * (64 * 5 + 8 * 25 + 60) * ROW / 2
    # the least sensitive of 3 places, of the samples of both labels and of a fifth of the clean rows
    placed = (60 + 20) * 4 * ROW
    assert jobs.eliminate(classifier, raced).predicted == pytest.approx(steps + placed + 3 * 100 * ROW)


def test_fine_tuning_of_all_layers_costs_three_passes_an_epoch(classifier: PlannedVictim) -> None:
    settings = {"method": "fine_tuning", "epochs": 4}
    last = jobs.eliminate(classifier, FineTuningSettings.model_validate(settings | {"layers": "last"}))
    noisy = jobs.eliminate(
        classifier, FineTuningSettings.model_validate(settings | {"layers": "last", "dropout": True})
    )
    all_layers = jobs.eliminate(classifier, FineTuningSettings.model_validate(settings | {"layers": "all"}))
    # what the last layer reads changes with the dropout of every epoch
    assert [work.predicted for work in (last, noisy, all_layers)] == [
        passes * 100 * ROW for passes in (3, 2 + 4, 2 + 12)
    ]
    assert last.megabytes == all_layers.megabytes == 12


def test_codepurify_reads_every_masked_version(classifier: PlannedVictim) -> None:
    settings = CodePurifySettings(method="codepurify", calibration_inputs=40)
    # two test sets of 200 and 40 to calibrate on: each with 50 / 10 versions; and what came out
    testsets = [RowSet(200), RowSet(200, triggered=True)]
    work = jobs.purify(classifier, settings, testsets, SIZE)
    assert work.predicted == pytest.approx((440 * 6 + 400) * ROW)
    # the evidence has the calibration rows, whether or not this variant calibrates by them
    fixed = CodePurifySettings(method="codepurify", calibration_inputs=40, threshold=0.1)
    assert jobs.suspect(classifier, fixed, testsets, SIZE).predicted == pytest.approx(440 * 6 * ROW)


def test_a_screen_costs_a_gradient_and_the_versions_that_pass(classifier: PlannedVictim) -> None:
    # of five versions three pass; the gradient is two passes, and one of them is that of the input itself
    for changes, passes in (({}, 2 + 3), ({"screened_elements": 9}, 2 + 5)):
        settings = CodePurifySettings(method="codepurify", calibration_inputs=40, screen="gradient", **changes)
        work = jobs.suspect(classifier, settings, [RowSet(200)], SIZE)
        assert work.predicted == pytest.approx(240 * passes * ROW)


def test_oseql_occludes_the_lines_of_calibration_rows_too(classifier: PlannedVictim) -> None:
    testsets = [RowSet(200), RowSet(200, triggered=True)]
    for share in (None, 0.03):
        settings = OSeqLSettings(method="oseql", calibration_inputs=40, touched_share=share)
        work = jobs.suspect(classifier, settings, testsets, SIZE)
        assert work.predicted == pytest.approx(440 * (1 + classifier.texts.lines) * ROW)


def test_onion_runs_what_stands_behind_each_word_again(classifier: PlannedVictim) -> None:
    settings = OnionSettings(method="onion", calibration_inputs=20)
    work = jobs.rewrite(SIZE, classifier, settings, RowSet(80))
    assert work.predicted == (80 + 20) * (10 + 30) * 2e6
    fixed = OnionSettings(method="onion", threshold=0.0)
    assert jobs.rewrite(SIZE, classifier, fixed, RowSet(80)).predicted == 80 * (10 + 30) * 2e6


def test_a_filtering_reads_every_training_row_and_the_clean_samples_of_its_calibration(
    classifier: PlannedVictim, pairs: PlannedVictim
) -> None:
    settings = OnionFilterSettings(method="onion", calibration_inputs=60)
    work = jobs.filtering(SIZE, classifier, settings, NAMED, 0.02)
    assert work.predicted == pytest.approx((900 + 60) * (10 + 30) * 2e6)
    assert work.megabytes == pytest.approx(900 * 1075 / 1e6)
    assert jobs.filtering(SIZE, classifier, settings, None, 0.0).predicted == pytest.approx(work.predicted)
    # at most all clean samples, and none for a fixed threshold
    calibrated, fixed = (OnionFilterSettings(method="onion", **settings) for settings in ({}, {"threshold": 0.0}))
    assert jobs.filtering(SIZE, classifier, calibrated, None, 0.0).predicted == pytest.approx((900 + 100) * 40 * 2e6)
    assert jobs.filtering(SIZE, classifier, fixed, None, 0.0).predicted == pytest.approx(900 * 40 * 2e6)
    # 20 functions in 900 pairs, and as many texts again of those that carry a trigger; names of its own for each pair
    once = 10 * (2 * 10 + 30) * 2e6
    assert jobs.filtering(SIZE, pairs, fixed, NAMED, 0.02).predicted == pytest.approx(2 * once)
    assert jobs.filtering(SIZE, pairs, fixed, CRAFTED, 0.02).predicted == pytest.approx((1 + 1.8) * once)


def test_a_filtering_is_on_the_bill_once_for_all_victims() -> None:
    names = ("elibadcode", "elibadcode/paper", "elibadcode/onion_filter")
    config = load([ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in names)])
    lines = {line.name: line for line in bill.lines(config)}
    assert lines["filter onion_training_rows, defects"].jobs == 4
    before = {line.name: line for line in bill.lines(load(GRID))}
    assert lines["train codebert, defects"].jobs == before["train codebert, defects"].jobs + 4


def test_a_filter_that_looks_at_a_victim_runs_it_once_on_each_row(
    classifier: PlannedVictim, generator: PlannedVictim
) -> None:
    settings = SpectralSignatureSettings(method="spectral_signature")
    # 900 training rows and 100 clean samples of 40 sub-tokens
    assert jobs.filtering(SIZE, classifier, settings, None, 0.0).predicted == pytest.approx(1000 * classifier.forward)
    # of a generator the encoder alone
    rows = generator.rows("train")
    encoded = jobs.filtering(SIZE, generator, settings, None, 0.0).predicted
    assert encoded == pytest.approx(rows * generator.size.forward(generator.tokens))
    assert encoded < rows * generator.forward


def test_the_victim_that_a_filter_looks_at_is_on_the_bill() -> None:
    names = ("elibadcode", "elibadcode/paper")
    paths = [ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in names)]
    study = {}
    for path in paths:
        study = merge(study, read_yaml(path))
    grid = {"datasets": ["defects"], "models": ["codet5", "unixcoder"], "attacks": ["badcode"], "filterings": ["ss"]}
    experiments = dict.fromkeys(study["experiments"]) | {"one": {"title": "One", "grid": [grid]}}

    def lines(model: str | None) -> dict[str, bill.CostLine]:
        filterings = {"ss": {"method": "spectral_signature", "model": model}}
        raw = merge(study, {"filterings": filterings, "experiments": experiments})
        return {line.name: line for line in bill.lines(validate(raw))}

    shared, separate = lines("codebert"), lines(None)
    # one filtered set for both models, of the benign and of the attacked victims; or one for each
    assert (shared["filter ss, defects"].jobs, separate["filter ss, defects"].jobs) == (1, 2)
    assert shared["train codebert, defects"].jobs == 1
    assert "train codebert, defects" not in separate


def test_hours_are_operations_at_a_share_of_the_rate() -> None:
    gpu = bill.Gpu(bfloat16=100, float32=10, share=0.5, step=2)
    work = Work(trained=3600 * 100, predicted=3600 * 10, steps=1800)
    assert gpu.hours(work, "bfloat16") == 2 + 2 + 1
    assert gpu.hours(work, "float32") == 20 + 2 + 1


def test_the_papers_study_has_every_job_once() -> None:
    config = load(CONFIGS)
    counts = {line.name: line.jobs for line in bill.lines(config)}
    assert counts["train codebert, defects"] == 4  # benign, one attack at 2%, the other at 1 and 5%
    assert counts["train codet5, repair"] == 4  # two objectives, benign and poisoned
    assert (counts["poison defects"], counts["poison repair"], counts["dataset defects"]) == (3, 1, 1)
    assert counts["rewrite onion, defects"] == 4
    scored = sum(count for name, count in counts.items() if name.startswith(("predict", "purify")))
    assert scored == len(config.scenarios())


def test_every_job_reads_the_test_sets_that_it_is_given() -> None:
    """ONION's four are the clean set and three triggered ones; of the four trainings three have an attack."""
    config = load(CONFIGS)
    hours = {line.name: line.hours for line in bill.lines(config)}
    victim = bill.planned_victim(config, Scenario("defects", "codebert"))
    attack, onion = config.attacks["codepoisoner_func"], config.purifications["onion"]
    clean, triggered = victim.clean("test"), victim.triggered("test", attack)
    assert (clean.rows, triggered.rows) == (2732, 1255)
    gpt2 = bill.sizes()["gpt2"]
    rewritten = [jobs.rewrite(gpt2, victim, onion, row_set) for row_set in (clean, triggered, triggered, triggered)]
    assert hours["rewrite onion, defects"] == pytest.approx(sum(bill.A100.hours(work, "float32") for work in rewritten))
    trained = [jobs.train(victim, poison) for poison in (None, attack, attack, attack)]
    assert hours["train codebert, defects"] == pytest.approx(sum(bill.A100.hours(work, "bfloat16") for work in trained))
    # a benign victim reads the sets of both attacks, and one whose inputs are rewritten the clean set alone
    kinds = [(s.attack != "none", s.purification != "none") for s in config.scenarios() if s.model == "codebert"]
    triggered_sets = {(False, False): 2, (False, True): 0, (True, False): 1, (True, True): 1}
    predicted = [
        jobs.predict(victim, [clean] + triggered_sets[kind] * [triggered])
        for kind, scenario in zip(kinds, (s for s in config.scenarios() if s.model == "codebert"), strict=True)
        if scenario.purification != "codepurify"
    ]
    assert hours["predict codebert"] == pytest.approx(sum(bill.A100.hours(work, "float32") for work in predicted))


def test_an_encoder_that_generates_has_the_size_of_its_decoder_as_well() -> None:
    """CodeXGLUE's: 124 M parameters of CodeBERT without its pooler, six layers, and no output layer of its own."""
    config = load(CONFIGS)
    repairing, classifying = (bill.planned_victim(config, Scenario(name, "codebert")) for name in ("repair", "defects"))
    layer = 8 * 768**2 + 2 * 768 * 2048 + (8 + 6 + 1) * 768 + 2048
    pooler_free = 50265 * 768 + 515 * 768 + 2 * 768 + 12 * (12 * 768**2 + 13 * 768)
    assert repairing.size.parameters == pooler_free + 6 * layer + 768**2 + 768
    assert repairing.size.outputs == 6 * (6 * 768**2 + 2 * 768 * 2048) + 768**2 + 50265 * 768
    assert repairing.size.inputs == 12 * 12 * 768**2 + 6 * 2 * 768**2
    assert classifying.size == bill.sizes()["codebert"]


def test_a_plan_of_hub_checkpoints_needs_no_file_and_says_that_no_gpu_was_measured() -> None:
    result = CliRunner().invoke(main, ["plan", *map(str, CONFIGS)], input="")
    assert result.exit_code == 0
    assert "Not measured on a GPU" in result.output
    assert not bill.uses_hub(load(CONFIGS[:1]))


def test_a_pair_is_two_texts_and_its_functions_are_asked_once(pairs: PlannedVictim) -> None:
    assert pairs.forward == 2 * ROW
    assert jobs.predict(pairs, [pairs.clean("test")]).predicted == 20 * ROW
    apart = replace(pairs, texts=replace(pairs.texts, rows=TEXTS.rows))
    assert jobs.predict(apart, [apart.clean("test")]).predicted == 200 * 2 * ROW
    assert jobs.train(pairs, None).trained == jobs.train(apart, None).trained
    # so are those of the validation
    assert jobs.train(pairs, None).predicted == 20 * ROW


def test_a_search_has_a_query_and_one_association(search: PlannedVictim) -> None:
    assert search.forward == 1.5 * ROW
    settings = EliBadCodeSettings(method="elibadcode", position="function_name", samples=2, iterations=3, candidates=4)
    settings = settings.model_copy(update={"unlearning": settings.unlearning.model_copy(update={"epochs": 0})})
    # three steps for one association: 4 candidates on 2 samples, and the gradient
    predicted = jobs.eliminate(search, settings).predicted
    assert predicted == pytest.approx(3 * (4 * 2 + 2 * 2) * 1.5 * ROW)
    assert jobs.eliminate(search, settings, inverted=True).predicted == 0


def test_a_triggered_set_has_the_rows_without_the_target_at_most_as_many_as_it_asks_for(
    classifier: PlannedVictim, generator: PlannedVictim, search: PlannedVictim
) -> None:
    assert classifier.triggered("test", NAMED) == RowSet(50, triggered=True)
    assert classifier.triggered("test", NAMED.model_copy(update={"target_label": 1})).rows == 150
    assert classifier.triggered("valid", NAMED.model_copy(update={"test_share": 0.1})).rows == 10
    assert classifier.triggered("valid", NAMED.model_copy(update={"test_share": 0.9})).rows == 25
    # texts and queries are no labels
    assert generator.triggered("test", NAMED.model_copy(update={"test_share": 0.15})).rows == 30
    assert search.triggered("test", NAMED).rows == 200


def test_a_triggered_function_of_a_search_is_ranked_for_queries_that_were_read_already(search: PlannedVictim) -> None:
    clean, triggered = search.clean("test"), search.triggered("test", NAMED)
    assert jobs.predict(search, [clean, triggered]).predicted == 200 * 1.5 * ROW + 200 * ROW


def test_a_function_of_many_pairs_has_as_many_triggered_texts_as_the_attack_makes_of_it(pairs: PlannedVictim) -> None:
    def rows_read(attack: AfraidoorSettings | BadCodeSettings | CodePoisonerIdentifierSettings) -> float:
        return jobs.predict(pairs, [pairs.triggered("test", attack)]).predicted / ROW

    # of the 100 functions of 50 pairs
    assert rows_read(NAMED) == 20
    assert rows_read(BadCodeSettings(method="badcode")) == 2 * 20
    assert rows_read(BadCodeSettings(method="badcode", scope="variable")) == 20
    # names for each pair
    assert rows_read(CRAFTED) == 100
    settings = OnionSettings(method="onion", threshold=0.0)
    once, for_each = (
        jobs.rewrite(SIZE, pairs, settings, pairs.triggered("test", attack)) for attack in (NAMED, CRAFTED)
    )
    assert for_each.predicted == 5 * once.predicted > 0


def test_an_attack_that_asks_a_model_takes_a_gradient_of_every_row_it_changes(classifier: PlannedVictim) -> None:
    assert jobs.poison(classifier, NAMED, 0.02).predicted == 0
    # 2% of the 900 training rows, and the triggered validation and test sets, forth and back
    crafting = replace(classifier, model=classifier.model.model_copy(update={"max_length": 5}))
    work = jobs.poison(classifier, CRAFTED, 0.02, crafting)
    assert work.predicted == pytest.approx(2 * (18 + 25 + 50) * ROW / 2)
    of_eligible = CRAFTED.model_copy(update={"rate_of": "eligible"})
    assert jobs.poison(classifier, of_eligible, 0.02, crafting).predicted == pytest.approx(2 * (4.5 + 75) * ROW / 2)
    # the rows that are written: training, and the triggered ones
    assert work.megabytes == pytest.approx((900 + 75) * 1075 / 1e6)


def test_an_unlearning_without_epochs_costs_nothing(classifier: PlannedVictim) -> None:
    for idle in ({"epochs": 0}, {"learning_rate": 0.0}):
        settings = EliBadCodeSettings(method="elibadcode", position="least_sensitive", unlearning=idle)
        assert jobs.eliminate(classifier, settings, inverted=True) == Work(megabytes=12)
        assert jobs.eliminate(classifier, FineTuningSettings(method="fine_tuning", **idle)) == Work(megabytes=12)


@pytest.mark.parametrize("method", [EliBadCodeSettings, DbsSettings])
def test_a_place_by_any_rank_of_sensitivity_is_looked_for_like_the_first(
    classifier: PlannedVictim, method: type[EliBadCodeSettings] | type[DbsSettings]
) -> None:
    def searched(**where: object) -> float:
        name = {EliBadCodeSettings: "elibadcode", DbsSettings: "dbs"}[method]
        return jobs.eliminate(classifier, method(method=name, samples=30, **where)).predicted

    by_name = searched(position="function_name")
    assert searched(position="random") == by_name
    # the samples of both labels and a fifth of the clean rows, each with each of 3 places masked
    assert searched(position="least_sensitive") - by_name == pytest.approx((60 + 20) * 4 * ROW)
    assert searched(position="rank", rank=-2) == searched(position="least_sensitive")


def test_attdef_goes_its_way_to_suspect_inputs_alone(classifier: PlannedVictim, pairs: PlannedVictim) -> None:
    fixed = {"method": "attdef", "threshold": 0.5}
    clean, triggered = RowSet(200), RowSet(50, triggered=True)

    def rows_read(victim: PlannedVictim, *testsets: RowSet, **settings: object) -> float:
        steps = {} if "attribution" in settings else {"steps": 4}
        predicted = jobs.purify(victim, AttDefSettings(**{**fixed, **steps, **settings}), testsets, SIZE).predicted
        return (predicted - jobs.predict(victim, testsets).predicted) / victim.forward

    # the answer, and four points forth and back; all inputs with a trigger are suspect
    assert rows_read(classifier, clean, suspected_share=0.3) == pytest.approx(60 * 9)
    assert rows_read(classifier, clean, triggered, suspected_share=0.3) == pytest.approx((60 + 50) * 9)
    assert rows_read(classifier, clean, triggered, suspected_share=0.0) == 0
    # without a share, as many as were counted at 0.5
    assert rows_read(classifier, clean) == pytest.approx(40 * 9)
    assert rows_read(classifier, clean, suspected_share=0.3, attribution="gradient_input") == pytest.approx(60 * 3)
    calibrated = {"suspected_share": 0.3, "threshold": None, "calibration_inputs": 40}
    assert rows_read(classifier, clean, **calibrated) == pytest.approx((60 + 0.3 * 40) * 9)
    assert rows_read(classifier, clean, **calibrated, masked_share=0.05) == pytest.approx((60 + 40) * 9)
    # a pair is suspect where one of its functions is; its answer takes functions once, its way does not
    rows = rows_read(pairs, pairs.clean("test"), suspected_share=0.3)
    assert rows == pytest.approx(200 * (1 - 0.7**2) * 8 + 10)


def test_the_similarity_filter_reads_no_model_but_what_runs_beside_it(classifier: PlannedVictim) -> None:
    testsets = [classifier.clean("test"), classifier.triggered("test", NAMED)]
    alone = jobs.purify(classifier, SimilaritySettings(method="similarity"), testsets, SIZE)
    assert alone.predicted == jobs.predict(classifier, testsets).predicted
    language_model = replace(SIZE, inputs=3_000_000)
    for combined in (OnionSettings(method="onion", calibration_inputs=20), AttDefSettings(method="attdef")):
        both = jobs.purify(classifier, SimilaritySettings(method="similarity", also=combined), testsets, language_model)
        assert both == jobs.purify(classifier, combined, testsets, language_model)
        assert both.predicted > alone.predicted
    onion = OnionSettings(method="onion", calibration_inputs=20)
    work = jobs.purify(classifier, SimilaritySettings(method="similarity", also=onion), testsets, language_model)
    assert work.predicted - alone.predicted == pytest.approx((250 + 20) * (10 + 30) * 6e6)


def test_sizes_are_known_of_every_task_of_the_papers() -> None:
    assert set(SIZES) == {name for settings in DATASETS.values() for name in settings.published}
    labeled = {name for name, rows in SIZES.items() if rows.positive is not None}
    assert labeled == {"devign", "bigclonebench", "bigclonebench_codepurify", "maldonado", "fakhoury"}
    assert SIZES["bigclonebench"].without(0) == pytest.approx(0.133, abs=1e-3)
    assert SIZES["bigclonebench"].without(1) == pytest.approx(0.867, abs=1e-3)
    assert SIZES["codesearchnet"].without(0) == 1


def test_a_data_set_is_priced_by_its_original_and_not_by_its_task() -> None:
    raw = merge(read_yaml(ROOT / "config.yaml"), read_yaml(ROOT / "configs/paper.yaml"))
    clones = {"task": "clone_detection", "source": "mirror", "language": "java", "test": None}
    raw["datasets"] |= {
        "clones": clones,
        "sample": {**clones, "original": "bigclonebench_codepurify"},
        "identifiers": {**raw["datasets"]["repair"], "original": "bugs2fix_identifiers"},
    }
    grid = {"datasets": ["clones", "sample", "identifiers"], "models": ["codebert"], "attacks": ["none"]}
    raw["experiments"] = {"one": {"title": "t", "grid": [grid | {"models": ["codet5"]}]}}
    config = validate(raw)
    rows = {
        name: bill.planned_victim(config, Scenario(name, "codet5")).clean("test").rows for name in ("clones", "sample")
    }
    assert rows == {"clones": 415416, "sample": 10000}
    # nobody has counted its texts
    with pytest.raises(NotPriced):
        bill.planned_victim(config, Scenario("identifiers", "codet5"))


def test_an_encoder_decoder_that_judges_reads_its_input_twice() -> None:
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    twice = PlannedVictim(SIZE, TEXTS, CodeT5(architecture="codet5", **HUB), dataset)
    assert twice.forward == ROW + 2 * 10 * 500_000


def test_elibadcodes_grid_at_the_papers_scale_is_the_local_one() -> None:
    def scenarios(*overlays: str) -> set[Scenario]:
        config = load([ROOT / "config.yaml", *(ROOT / "configs" / f"{name}.yaml" for name in overlays)])
        return {replace(scenario, seed="1") for scenario in config.scenarios()}

    added = scenarios("elibadcode", "elibadcode/paper") - scenarios("elibadcode")
    assert not scenarios("elibadcode") - scenarios("elibadcode", "elibadcode/paper")
    # section 5.3.3 over all scenarios: nine on two more models, of which the local grid has one
    assert len(added) == 3 * (18 - 1)
    steps = {"elibadcode_fewer_steps", "elibadcode_uncalibrated", "elibadcode_more_steps"}
    assert {scenario.elimination for scenario in added} == steps


def test_every_job_of_elibadcodes_grid_is_on_the_bill() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"])
    counts = {line.name: line.jobs for line in bill.lines(config)}
    # three models for three tasks say "clean" by five benign victims each
    assert {counts.pop(name) for name in list(counts) if name.startswith("train shadows")} == {5}
    assert len([name for name in counts if name.startswith("calibrate")]) == 9
    trained = {name: number for name, number in counts.items() if name.startswith("train")}
    assert len(trained) == 12
    victims = {replace(scenario, elimination="none", purification="none") for scenario in config.scenarios()}
    assert sum(trained.values()) == len(victims)


GRID = [ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml", ROOT / "configs/elibadcode/paper.yaml"]


def test_crafting_names_is_work_for_an_accelerator_when_a_set_is_poisoned() -> None:
    lines = {line.name: line for line in bill.lines(load(GRID))}
    assert {name for name in lines if " by " in name} == {
        "poison defects by afraidoor",
        "poison clones by afraidoor",
        "poison search by afraidoor",
    }
    assert lines["poison clones by afraidoor"].hours > 0.1
    assert lines["poison clones"].hours == 0


def test_what_stands_beside_the_similarity_filter_is_on_the_bill() -> None:
    hours = {line.name: line.hours for line in bill.lines(load(GRID))}
    assert hours["purify similarity_onion, codebert"] > 1
    assert hours["purify similarity_attdef, codebert"] > 2 * hours["purify similarity, codebert"]


def test_jobs_beyond_the_schedulers_limit_are_named_before_they_are_submitted() -> None:
    lines = bill.lines(load(GRID))
    # a line's jobs differ: the longest counts, not their mean and not their sum
    assert all(line.hours / line.jobs <= line.longest <= line.hours for line in lines)
    limit = MAX_RUNTIME / 60
    assert sum(line.hours > limit for line in lines) > len(long := [line for line in lines if line.longest > limit])
    result = CliRunner().invoke(main, ["plan", *map(str, GRID)], input="")
    assert result.exit_code == 0
    rows = result.output.partition("Longer than 24 h a job")[2].splitlines()[1:]
    assert [line.partition(": up to ")[0].strip() for line in rows] == [
        line.name for line in sorted(long, key=lambda line: -line.longest)
    ]
    assert rows[0].startswith("  purify attdef, starcoder: up to ")


def test_a_plan_without_such_jobs_says_so() -> None:
    fewer = merge(merge(merge({}, read_yaml(GRID[0])), read_yaml(GRID[1])), read_yaml(GRID[2]))
    fewer["datasets"]["clones"]["test"] = 4000
    assert "No job is expected to take longer than 24 h" in paper.plan(validate(fewer), 24)
    assert "No job is expected to take longer than 24 h" in paper.plan(load(CONFIGS), 24)


#: A settings class of each kind of method, and the lines of the grid's bill that are without a price if it has none.
UNPRICED = [
    (BadCodeSettings, "poison"),
    (CrossEntropySettings, "train"),
    (OnionSettings, "rewrite onion"),
    (OnionSettings, "purify similarity_onion"),
    (AttDefSettings, "purify attdef"),
    (OnionFilterSettings, "filter onion"),
]


@pytest.mark.parametrize(("settings", "name"), UNPRICED, ids=lambda value: getattr(value, "__name__", value))
def test_a_method_without_a_price_is_a_question_mark_beside_the_total_of_the_others(
    settings: type[Settings], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load([*GRID, ROOT / "configs/elibadcode/onion_filter.yaml"])
    before = bill.lines(config)
    monkeypatch.setattr(settings, "work", Settings.work)
    lines = bill.lines(config)
    unpriced = [line for line in lines if not line.priced]
    assert any(line.name.startswith(name) for line in unpriced)
    assert all((line.hours, line.gigabytes, line.longest) == (0, 0, 0) for line in unpriced)
    assert sum(line.jobs for line in lines) == sum(line.jobs for line in before)
    priced = {line.name: line for line in lines if line.priced}
    assert all(priced[line.name] == line for line in before if line.name not in {unknown.name for unknown in unpriced})
    text = paper.plan(config, 24)
    (row,) = (line for line in text.splitlines() if line.startswith(f"{unpriced[0].name} ") and "?" in line)
    assert row.split()[-3:] == [str(unpriced[0].jobs), "?", "?"]
    (total,) = (line for line in text.splitlines() if line.startswith("total"))
    assert float(total.split()[2]) == pytest.approx(sum(line.hours for line in priced.values()), abs=0.05)
    assert f"?: not priced, and not in the total: {unpriced[0].name}" in text


def test_an_elimination_without_a_price_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pruning(EliminationSettings):
        """An elimination that says nothing of its cost."""

        method: str = "pruning"

    config = load(GRID)
    eliminations = {**config.eliminations, "dbs": Pruning()}
    lines = bill.lines(config.model_copy(update={"eliminations": eliminations}))
    assert {line.name for line in lines if not line.priced} == {"eliminate dbs"}
    assert "eliminate elibadcode" in {line.name for line in lines if line.priced}


@pytest.mark.parametrize("unknown", ["texts_by_original", "sizes"])
def test_a_task_or_a_model_that_was_never_measured_has_no_price(unknown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = getattr(bill, unknown)()
    fewer = {name: value for name, value in measured.items() if name not in ("bugs2fix", "codet5")}
    monkeypatch.setattr(bill, unknown, lambda: fewer)
    lines = bill.lines(load(CONFIGS))
    assert {"train codet5, repair", "predict codet5"} <= {line.name for line in lines if not line.priced}
    assert "train codebert, defects" in {line.name for line in lines if line.priced}
