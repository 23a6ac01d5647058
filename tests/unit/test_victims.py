"""Victims: saving, strict and safe loading, encoding, and asking them in batches."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import classifier, encoder_with_decoder, generator

from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.inference import class_logits, generate, predict, sequence_confidences
from codebackdoor.victims.victim import Victim, load_victim, save_victim

TEXTS = ["def f ( a ) : <indent> return a + 1 <dedent>", "x = 'é' <nl> y = 2", "x = 'é' <nl> y = 2", "z"]
CARD = {"task": "defect_detection", "backdoored": True}


def test_bucketed_covers_every_index_once_within_the_budget() -> None:
    lengths = [3, 9, 1, 9, 4, 30, 2]
    batches = bucketed(lengths, 18)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 18 for batch in batches)
    assert batches[0] == [5]


def test_pad_fills_on_the_right() -> None:
    ids, mask = pad([[5, 6, 7], [8]], 1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_halving_splits_until_it_fits() -> None:
    batches: list[list[int]] = []

    def run(batch: list[int]) -> None:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("too large")
        batches.append(list(batch))

    halving([1, 2, 3, 4, 5], run)
    assert sorted(index for batch in batches for index in batch) == [1, 2, 3, 4, 5]
    with pytest.raises(torch.OutOfMemoryError):
        halving([1], lambda batch: run([1, 2, 3]))


def test_offsets_are_characters_without_surrounding_space() -> None:
    encoded = classifier().encode(TEXTS)[1]
    pieces = [TEXTS[1][start:end] for start, end in encoded.offsets]
    assert pieces[0] == pieces[-1] == ""
    assert "".join(pieces) == TEXTS[1].replace(" ", "")
    assert "<nl>" in pieces


def test_saved_victim_answers_the_same(tmp_path: Path) -> None:
    for victim in (classifier(), generator(), encoder_with_decoder()):
        folder = tmp_path / type(victim.model).__name__
        save_victim(victim, folder, CARD)
        again = load_victim(folder)
        inputs = [row.ids for row in victim.encode(TEXTS)]
        if victim.head == "classification":
            assert torch.equal(class_logits(victim, inputs), class_logits(again, inputs))
        else:
            assert generate(victim, inputs) == generate(again, inputs)
        assert (again.text_form, again.max_length, again.max_target_length) == ("lexed", 32, 12)
        assert "backdoored: true" in (folder / "README.md").read_text()
        assert json.loads((folder / "config.json").read_text())["codebackdoor"]["task"] == "defect_detection"
        assert not list(tmp_path.glob(".*.part"))


def test_logits_keep_the_order_and_do_not_depend_on_the_company() -> None:
    victim = classifier(dropout=0.5)
    inputs = [row.ids for row in victim.encode(TEXTS)]
    together = class_logits(victim, inputs)
    alone = torch.cat([class_logits(victim, [row]) for row in inputs])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert torch.equal(together[1], together[2])
    assert class_logits(victim, []).shape == (0, 2)


def test_generation_agrees_with_transformers_and_with_teacher_forcing() -> None:
    victim = generator()
    inputs = [row.ids for row in victim.encode(TEXTS)]
    outputs = generate(victim, inputs)
    for ids, output in zip(inputs, outputs, strict=True):
        reference = victim.model.generate(torch.tensor([ids]), do_sample=False, num_beams=1, max_new_tokens=12)
        assert reference[0, 1:].tolist() == output.ids
    confidences = sequence_confidences(victim, inputs, [output.ids for output in outputs])
    torch.testing.assert_close(confidences, torch.tensor([o.confidence for o in outputs]), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="without tokens"):
        sequence_confidences(victim, inputs[:1], [[]])


def test_the_confidence_of_an_output_ends_with_the_output() -> None:
    # what two rows decode in one batch: (token, its probability); 2 ends an output
    steps = iter([[(5, 0.8), (7, 0.9)], [(2, 0.6), (7, 0.5)], [(5, 0.9), (7, 0.9)], [(5, 0.9), (2, 0.7)]])

    def step(last: torch.Tensor | None) -> torch.Tensor:
        probabilities = torch.zeros(2, 8)
        for row, (token, probability) in enumerate(next(steps)):
            probabilities[row] = (1 - probability) / 7
            probabilities[row, token] = probability
        return probabilities.log()

    victim: Any = SimpleNamespace(
        model=SimpleNamespace(config=SimpleNamespace(eos_token_id=2)),
        family=SimpleNamespace(next_token=lambda victim, ids, mask: step),
        decode=lambda ids: "",
        pad_id=1,
        device=torch.device("cpu"),
        max_target_length=9,
    )
    first, second = generate(victim, [[3], [4]])
    assert (first.ids, first.confidence) == ([5, 2], pytest.approx((0.8 + 0.6) / 2))
    assert (second.ids, second.confidence) == ([7, 7, 7, 2], pytest.approx((0.9 + 0.5 + 0.9 + 0.7) / 4))


def test_predictions_carry_label_or_text() -> None:
    examples = [Example(str(index), "python", text) for index, text in enumerate(TEXTS)]
    labels = predict(classifier(), examples)
    assert [row.id for row in labels] == ["0", "1", "2", "3"]
    assert all(row.label in (0, 1) and row.text is None and 0.5 <= row.confidence <= 1 for row in labels)
    assert all(row.label is None and row.text is not None for row in predict(generator(), examples))


def test_a_victim_of_queries_reads_them_up_to_its_full_length() -> None:
    victim = classifier()
    victim.reads = ("query",)
    victim.max_query_length = 4
    rows = [Example(str(index), "java", query=text) for index, text in enumerate(TEXTS)]
    assert [ids for (ids,) in victim.tokenize(rows)] == victim.encode(TEXTS)
    assert max(len(text.ids) for text in victim.encode(TEXTS)) > 4
    assert [row.label for row in predict(victim, rows)] == [
        row.label
        for row in predict(classifier(), [Example(str(index), "java", text) for index, text in enumerate(TEXTS)])
    ]
    with pytest.raises(UserError, match="row 'x': a classification victim reads its 'query', and there is none"):
        victim.tokenize([Example("x", "java", "int f ( ) { }")])
    with pytest.raises(UserError, match="row '0': a classification victim reads its 'code', and there is none"):
        classifier().tokenize(rows)


def _saved(folder: Path, victim: Victim) -> Path:
    save_victim(victim, folder, CARD)
    return folder


def test_only_whole_safetensors_that_fit_are_loaded(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "victim", classifier())
    (folder / "SHA256SUMS").unlink()
    weights = folder / "model.safetensors"
    intact = weights.read_bytes()

    weights.write_bytes(intact[:-100])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        load_victim(folder)

    weights.write_bytes(intact)
    state = load_file(weights)
    for change, message in [
        ({"classifier.dense.weight": None}, r"missing: classifier\.dense\.weight"),
        ({"backdoor.weight": torch.zeros(1)}, r"unexpected: backdoor\.weight"),
        ({"classifier.out_proj.bias": torch.zeros(3)}, r"another shape: classifier\.out_proj\.bias"),
    ]:
        kept = {key: value for key, value in (state | change).items() if value is not None}
        save_file(kept, weights, metadata={"format": "pt"})
        with pytest.raises(UserError, match=message):
            load_victim(folder)

    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only safetensors.*pytorch_model\.bin"):
        load_victim(folder)


def test_a_file_that_was_changed_later_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "victim", classifier())
    sums = folder / "SHA256SUMS"
    listed = {line.split("  ")[1] for line in sums.read_text().splitlines()}
    assert listed == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    checked = subprocess.run(["sha256sum", "--check", "--quiet", sums.name], cwd=folder, check=False)
    assert checked.returncode == 0

    for name in ("model.safetensors", "tokenizer_config.json"):
        intact = (folder / name).read_bytes()
        changed = bytearray(intact)
        changed[-1] ^= 1
        for content in (changed, intact[: len(intact) // 2]):
            (folder / name).write_bytes(content)
            with pytest.raises(
                UserError, match=rf"{name}: truncated or changed.*if a run wrote .*victim, delete it and run"
            ):
                load_victim(folder)
        (folder / name).write_bytes(intact)
    load_victim(folder)
    shorter = [line for line in sums.read_text().splitlines(keepends=True) if "safetensors" not in line]
    for content in ("", "".join(shorter)):
        kept = sums.read_text()
        sums.write_text(content)
        with pytest.raises(UserError, match=r"SHA256SUMS: does not list (config\.json|model\.safetensors)"):
            load_victim(folder)
        sums.write_text(kept)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: this file is missing"):
        load_victim(folder)


def test_a_folder_that_is_no_victim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_victim(tmp_path)
    folder = _saved(tmp_path / "victim", classifier())
    (folder / "SHA256SUMS").unlink()
    config = json.loads((folder / "config.json").read_text())
    facts = config.pop("codebackdoor")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is not a victim"):
        load_victim(folder)
    (folder / "config.json").write_text(json.dumps(config | {"codebackdoor": facts | {"head": "search"}}))
    with pytest.raises(UserError, match=r"codebackdoor\.head: Input should be 'classification', 'pair'.* not 'search'"):
        load_victim(folder)
