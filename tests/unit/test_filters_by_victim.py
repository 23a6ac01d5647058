"""Spectral Signature and Activation Clustering: representations, scores, clusters, the stage (P15, P19, P20)."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_rows import POISONED_ROWS, UNPOISONED_ROWS, provenance, training_view, victim
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.metrics import silhouette_score
from tiny_models import classifier, encoder_with_decoder, generator, understanding

from codebackdoor import files
from codebackdoor.defenses.filtering.activation_clustering.method import ActivationClustering
from codebackdoor.defenses.filtering.activation_clustering.settings import ActivationClusteringSettings
from codebackdoor.defenses.filtering.groups import groups
from codebackdoor.defenses.filtering.spectral_signature.method import SpectralSignature, spectral_scores
from codebackdoor.defenses.filtering.spectral_signature.settings import SpectralSignatureSettings
from codebackdoor.defenses.stages.sift_by_victim import sift_by_victim
from codebackdoor.defenses.views import TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims import inference
from codebackdoor.victims.representations import representations
from codebackdoor.victims.victim import Victim, save_victim

ROWS = [*UNPOISONED_ROWS, *POISONED_ROWS]
TEXTS = ["def f ( a ) : <indent> return a + 1 <dedent>", "x = 2", "def defect ( b , a ) : <indent> return a <dedent>"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def bare(rows: list[Example]) -> list[TrainingRow]:
    return [TrainingRow(row.id, row.code, row.code_b, row.query, row.label, row.target) for row in rows]


def spectral(**settings: Any) -> SpectralSignature:
    return SpectralSignature(
        training_view(), SpectralSignatureSettings.model_validate({"method": "spectral_signature", **settings})
    )


def clustering(**settings: Any) -> ActivationClustering:
    validated = ActivationClusteringSettings.model_validate(
        {"method": "activation_clustering", "dimensions": 3, **settings}
    )
    return ActivationClustering(training_view(), validated, 1)


# representations


def test_a_row_is_represented_by_what_the_head_reads() -> None:
    encoder, twice = classifier(), understanding("t5", "classification")
    (first,) = representations(encoder, [Example("1", "python", TEXTS[0])])
    ids = torch.tensor([encoder.encode([TEXTS[0]])[0].ids])
    with torch.no_grad():
        assert first == pytest.approx(encoder.model.roberta(ids).last_hidden_state[0, 0].numpy(), abs=1e-5)
    (last,) = representations(twice, [Example("1", "python", TEXTS[0])])
    ids = torch.tensor([twice.encode([TEXTS[0]])[0].ids])
    start = torch.full((1, 1), twice.model.config.decoder_start_token_id)
    with torch.no_grad():
        states = twice.model.base_model(ids, decoder_input_ids=torch.cat([start, ids[:, :-1]], 1)).last_hidden_state
    assert last == pytest.approx(states[0, -1].numpy(), abs=1e-5)


def test_both_vectors_of_a_pair_stand_side_by_side() -> None:
    model = understanding("first", "pair")
    pairs = [Example("1", "python", TEXTS[0], TEXTS[1]), Example("2", "python", TEXTS[1], TEXTS[0])]
    first, second = representations(model, pairs)
    width = len(first) // 2
    assert first[:width] == pytest.approx(second[width:])
    assert first[width:] == pytest.approx(second[:width])
    assert first[:width] != pytest.approx(first[width:])


@pytest.mark.parametrize("model", [generator(), encoder_with_decoder()], ids=["encoder-decoder", "encoder"])
def test_a_generators_row_is_the_mean_of_its_encoders_states(model: Victim) -> None:
    rows = [Example(str(number), "python", text) for number, text in enumerate(TEXTS)]
    for row, vector in zip(rows, representations(model, rows), strict=True):
        ids = torch.tensor([model.encode([row.code])[0].ids])
        with torch.no_grad():
            encoder = model.model.base_model if hasattr(model.model, "roberta") else model.model.encoder
            states = encoder(input_ids=ids).last_hidden_state
        # alone, without padding
        assert vector == pytest.approx(states[0].mean(0).numpy(), abs=1e-5)


def test_each_distinct_text_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    original = inference.text_vectors

    def counting(model: Any, texts: Any, variants: bool = False) -> Any:
        computed.append(len(texts))
        return original(model, texts, variants)

    monkeypatch.setattr("codebackdoor.victims.representations.text_vectors", counting)
    pairs = [Example(str(number), "python", TEXTS[number % 2], TEXTS[0]) for number in range(6)]
    assert len(representations(understanding("first", "pair"), pairs)) == 6
    assert computed == [2]


def test_rows_are_compared_with_those_of_their_label() -> None:
    rows = [TrainingRow(str(number), "x", None, None, label, None) for number, label in enumerate((1, 0, 1))]
    assert {name: indices.tolist() for name, indices in groups(rows).items()} == {"0": [1], "1": [0, 2]}
    unlabeled = [replace(row, label=None) for row in rows]
    assert {name: indices.tolist() for name, indices in groups(unlabeled).items()} == {"all": [0, 1, 2]}


# Spectral Signature


@pytest.mark.parametrize(("rows", "width", "count"), [(40, 8, 1), (40, 8, 3), (5, 12, 2), (6, 3, 7)])
def test_scores_are_those_of_the_singular_value_decomposition(rows: int, width: int, count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(rows, width)) * np.arange(1, width + 1)
    centered = vectors - vectors.mean(axis=0)
    # of the whole decomposition U S V', the squared projections on V are those of U S
    left, values, _ = np.linalg.svd(centered, full_matrices=True)
    expected = ((left[:, : len(values)] * values)[:, :count] ** 2).sum(axis=1)
    assert spectral_scores(vectors, vectors.mean(axis=0), count) == pytest.approx(expected)


def test_centering_over_all_rows_is_another_score() -> None:
    group, everything = spectral(), spectral(centered="all")
    vectors = representations(training_view().victim, ROWS)
    labels = np.array([row.label for row in ROWS])
    for method, mean in ((group, vectors[labels == 0].mean(axis=0)), (everything, vectors.mean(axis=0))):
        expected = spectral_scores(vectors[labels == 0], mean, 1)
        scores = [row.detail["suspicion"] for row in method.judge(bare(ROWS))]
        assert np.array(scores)[labels == 0] == pytest.approx(expected, abs=1e-5)
    assert vectors[labels == 0].mean(axis=0) != pytest.approx(vectors.mean(axis=0), abs=1e-3)


def test_the_share_that_is_dropped_is_a_constant_of_the_method() -> None:
    settings = SpectralSignatureSettings(method="spectral_signature")
    assert settings.share == 0.075
    judged = spectral().judge(bare(ROWS))
    for label, count in ((0, 60), (1, 50)):
        dropped = [row.dropped for row, example in zip(judged, ROWS, strict=True) if example.label == label]
        assert (len(dropped), sum(dropped)) == (count, round(0.075 * count))
    # also where nothing is poisoned
    clean = spectral(share=0.1).judge(bare(UNPOISONED_ROWS))
    assert sum(row.dropped for row in clean) == 10


def test_equal_rows_at_the_limit_stay() -> None:
    rows = [*ROWS, *(replace(row, id=f"again-{row.id}") for row in ROWS)]
    judged = spectral(share=3 / 100).judge(bare(rows))
    by_id = {row.id: row.dropped for row in judged}
    assert all(by_id[row.id] == by_id[f"again-{row.id}"] for row in ROWS)
    # of 120 rows at most 4, of 100 at most 3
    assert 4 <= sum(by_id.values()) <= 7


# Activation Clustering


@pytest.mark.parametrize("reduction", ["ica", "pca"])
def test_clusters_are_those_of_scikit_learn(reduction: str) -> None:
    method = clustering(reduction=reduction, rule="smaller")
    judged = method.judge(bare(ROWS))
    vectors = representations(training_view().victim, ROWS)[[row.label == 0 for row in ROWS]]
    plain = PCA(3) if reduction == "pca" else FastICA(3, random_state=7, max_iter=1000, whiten="unit-variance")
    reduced = plain.fit_transform(vectors)
    labels = KMeans(2, n_init=20, random_state=11).fit_predict(reduced)
    smaller = labels == np.argmin(np.bincount(labels))
    dropped = np.array([row.dropped for row, example in zip(judged, ROWS, strict=True) if example.label == 0])
    assert 10 <= dropped.sum() <= 11
    assert dropped.tolist() == smaller.tolist()
    # a row is in the cluster whose center is nearer
    assert all((float(str(row.detail["suspicion"])) > 0) == row.detail["smaller"] for row in judged)
    silhouette = clustering(reduction=reduction, rule="silhouette")
    silhouette.judge(bare(ROWS))
    measured = json.loads(json.dumps(silhouette.facts))["clusters"]["0"]["silhouette"]
    assert measured == pytest.approx(silhouette_score(reduced, labels), abs=0.01)


def dropped_labels(**settings: Any) -> list[int]:
    judged = clustering(reduction="pca", **settings).judge(bare(ROWS))
    return sorted({int(row.label or 0) for row, verdict in zip(ROWS, judged, strict=True) if verdict.dropped})


def test_the_rule_decides_which_smaller_cluster_is_dropped() -> None:
    # the rows of label 1 are clean: two clusters of about the same size, which describe them badly
    assert dropped_labels(rule="smaller") == [0, 1]
    assert dropped_labels(rule="size") == [0]
    assert dropped_labels(rule="size", size_below=0.1) == []
    assert dropped_labels(rule="silhouette", silhouette_above=0.5) == [0]
    assert dropped_labels(rule="silhouette", silhouette_above=-1) == [0, 1]
    assert dropped_labels(rule="silhouette", silhouette_above=1) == []


def test_of_two_clusters_of_equal_size_neither_is_the_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(21, 4)) + np.repeat([[0.0], [50.0]], [10, 11], axis=0)
    rows = [TrainingRow(str(number), "x", None, None, 0, None) for number in range(21)]
    place = "codebackdoor.defenses.filtering.activation_clustering.method.represented"
    monkeypatch.setattr(place, lambda view, some: vectors[: len(some)])
    for count, smaller in ((20, 0), (21, 10)):
        judged = clustering(reduction="pca", rule="smaller").judge(rows[:count])
        for verdicts in ([row.dropped for row in judged], [row.detail["smaller"] for row in judged]):
            assert verdicts == [number < smaller for number in range(count)]


def test_the_order_of_the_rows_decides_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    # without clusters in them, k-means ends where its starts lead
    vectors = np.random.default_rng(0).uniform(size=(60, 6))
    place = "codebackdoor.defenses.filtering.activation_clustering.method.represented"
    monkeypatch.setattr(place, lambda view, rows: vectors[[int(row.id) for row in rows]])
    smaller = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(60)
        rows = [TrainingRow(str(number), "x", None, None, 0, None) for number in order]
        judged = clustering(dimensions=6, reduction="pca").judge(rows)
        smaller.append({row.id for row in judged if row.detail["smaller"]})
    assert smaller == [smaller[0]] * 8


def test_too_few_rows_for_the_components_are_said_to_be_so() -> None:
    few = [*UNPOISONED_ROWS[:20], *(row for row in UNPOISONED_ROWS[20:30] if row.label == 0)]
    with pytest.raises(
        UserError, match=r"label 1 has 10 training rows, too few for 10 components; write `dimensions: 9`"
    ):
        clustering(dimensions=10).judge(bare(few))
    unlabeled = [replace(row, label=None, target="x") for row in few[:10]]
    with pytest.raises(UserError, match=r"there are 10 training rows, too few for 10 components"):
        clustering(dimensions=10).judge(bare(unlabeled))
    with pytest.raises(UserError, match=r"40 components of representations with 32 numbers; write `dimensions: 32`"):
        clustering(dimensions=40).judge(bare(ROWS))


# the stage


def write(root: Path, rows: list[Example | Poisoned]) -> Path:
    files.write_examples(root / "clean.jsonl", UNPOISONED_ROWS[:20])
    files.write_rows(
        root / "train.jsonl",
        (files.poisoned_row(row) if isinstance(row, Poisoned) else files.example_row(row) for row in rows),
    )
    return root


def sift(root: Path, name: str, **settings: Any) -> Path:
    """Run the stage with a victim in a folder of this name."""
    folder = root / "models" / name
    save_victim(victim(), folder, {"task": "defect_detection", "backdoored": True})
    validated = SpectralSignatureSettings.model_validate({"method": "spectral_signature", "share": 0.15, **settings})
    dataset = DefectDetection(task="defect_detection")
    out = root / "out" / name
    sift_by_victim(validated, dataset, folder, root / "train.jsonl", root / "clean.jsonl", {}, out, 3)
    return out


def mixed() -> list[Example | Poisoned]:
    rows: list[Example | Poisoned] = [*UNPOISONED_ROWS, *map(provenance, POISONED_ROWS)]
    random.Random(1).shuffle(rows)
    return rows


def test_kept_rows_stand_as_they_were(tmp_path: Path) -> None:
    out = sift(write(tmp_path, mixed()), "codepoisoner_func-0.05")
    judged = [row for _, row in files.read_rows(out / "judged.jsonl")]
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    kept = [line for line, row in zip(lines, judged, strict=True) if not row["dropped"]]
    assert (out / "train.jsonl").read_text().splitlines() == kept
    report = json.loads((out / "filtering.json").read_text())
    assert report["method"] == "spectral_signature"
    assert set(report["thresholds"]) == {"0", "1"}
    assert report["rows"]["poisoned"] == {"there": 10, "dropped": 9, "share": 0.9}
    assert report["rows"]["all"]["dropped"] == len(lines) - len(kept)


def test_provenance_order_and_folder_change_no_verdict(tmp_path: Path) -> None:
    rows = mixed()
    first = sift(write(tmp_path / "first", rows), "codepoisoner_func-0.05")
    plain = [row.example if isinstance(row, Poisoned) else row for row in rows]
    second = sift(write(tmp_path / "second", [*reversed(plain)]), "none-0")
    # the clean rows marked as poisoned, and the other way round
    relabeled = [row.example if isinstance(row, Poisoned) else provenance(row) for row in rows]
    third = sift(write(tmp_path / "third", relabeled), "badcode-0.01")
    verdicts = [
        {row["id"]: row["dropped"] for _, row in files.read_rows(out / "judged.jsonl")}
        for out in (first, second, third)
    ]
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert (first / "judged.jsonl").read_bytes() == (third / "judged.jsonl").read_bytes()


def test_nothing_dropped_is_the_training_set_byte_for_byte(tmp_path: Path) -> None:
    out = sift(write(tmp_path, mixed()), "a", share=0)
    assert (out / "train.jsonl").read_bytes() == (tmp_path / "train.jsonl").read_bytes()


def test_a_label_of_which_nothing_is_left_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"all \d+ rows of .*train.jsonl with label 0 would be dropped.* set a lower share"
    ):
        sift(write(tmp_path, mixed()), "a", share=1)
    assert not (tmp_path / "out").exists()
