"""Every family of models trains, saves, loads and predicts, and its fast paths give the same as the plain ones.

An encoder, a decoder and an encoder-decoder stand for the families without their own file.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytest
import torch
from tiny_models import TEXTS, bpe
from torch import Tensor
from torch.nn import functional

from codebackdoor.basemodels.tokenizer import wrap
from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import BaseFamily, ModelSettings, Pooling
from codebackdoor.config.models import DecoderSettings
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.families import FAMILIES, family_of
from codebackdoor.victims.gradients import input_gradients, output_gradients, towards_label, towards_query
from codebackdoor.victims.inference import (
    forced,
    generate,
    predict,
    predict_logits,
    sequence_confidences,
    text_vectors,
)
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.progress import weights
from codebackdoor.victims.training import fit
from codebackdoor.victims.training_rows import batch_logits, encode
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim, load_victim, save_victim

LENGTH = 40
DEFAULT = ("bert", "qwen2", "bart")
TYPES = (*FAMILIES, *DEFAULT)
JUDGING: tuple[Head, ...] = ("classification", "pair", "retrieval")
POOLINGS: tuple[Pooling, ...] = ("first", "mean", "max", "last")
ROWS = tuple(
    Example(str(number), "python", TEXTS[number % 3], code_b=TEXTS[(number + 1) % 3], query=TEXTS[(number + 1) % 3],
            label=number % 2, target=TEXTS[number % 3])
    for number in range(12)
)  # fmt: skip


def recipe(of_type: str, head: Head = "classification") -> Any:
    """The settings class is all that a model without a family file needs."""
    is_causal = family_of(of_type).is_causal

    class Tiny(DecoderSettings if is_causal else ModelSettings):  # type: ignore[misc]
        model_type: ClassVar[str] = of_type
        reads: ClassVar[Pooling] = family_of(of_type).pooling
        # a small base, whose states are adapted to a new head in some families
        family: ClassVar[BaseFamily | None] = "encoder"

        architecture: Literal["tiny"] = "tiny"

    # prompt and output share the positions of a decoder-only model
    length = LENGTH - 12 if is_causal and head == "generation" else LENGTH
    return Tiny(
        base="shipped", max_length=length, max_query_length=LENGTH, max_target_length=8, epochs=2, batch_tokens=128,
        precision="float32",
    )  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base model of each type in hub format."""
    return {model_type: base(tmp_path_factory.mktemp(model_type), model_type) for model_type in TYPES}


def base(folder: Path, model_type: str) -> Path:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as SEQ2SEQ

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        # CodeGen's are in four groups
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "rotary_dim": 8,
        "intermediate_size": 64,
        "n_inner": 64,
    }
    if model_type in SEQ2SEQ:
        sizes = {"d_model": 32, "d_kv": 16, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
        sizes |= {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = AutoConfig.for_model(
        model_type, vocab_size=bpe().get_vocab_size(), max_position_embeddings=LENGTH + 2, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, decoder_start_token_id=1, **sizes,
    )  # fmt: skip
    maker = AutoModelForSeq2SeqLM if model_type in SEQ2SEQ else AutoModel
    if family_of(model_type).is_causal:
        maker = AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = maker.from_config(config)
    # otherwise a fresh model's states hardly depend on its text
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "position" not in name:
            parameter.data *= 2
    model.save_pretrained(folder)
    wrap(bpe(), "<s> $A </s>", LENGTH).save_pretrained(folder)
    return folder


def heads(model_type: str) -> list[Head]:
    family = family_of(model_type)
    return [head for head in get_args(Head) if family.model_class(head) is not None]


CASES = [(model_type, head) for model_type in TYPES for head in heads(model_type)]
JUDGES = [(model_type, head) for model_type, head in CASES if head in JUDGING]
GENERATORS = [model_type for model_type, head in CASES if head == "generation"]


def fresh(bases: dict[str, Path], model_type: str, head: Head) -> Victim:
    torch.set_num_threads(1)
    labels = 2 if head in ("classification", "pair") else None
    victim = new_victim(recipe(model_type, head), bases[model_type], head, "lexed", labels, 1)
    victim.model.eval()
    return victim


def ids_of(victim: Victim) -> list[tuple[list[int], ...]]:
    return [tuple(text.ids for text in texts) for texts in victim.tokenize(ROWS)]


def objective(logits: Tensor, targets: Tensor, _epoch: int) -> Tensor:
    return functional.cross_entropy(logits, targets)


def test_every_family_with_a_file_is_named_after_its_models() -> None:
    folder = Path(forward.__file__).parent / "families"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "causal", "helpers"}
    assert files == set(FAMILIES)
    assert not set(DEFAULT) & set(FAMILIES)


@pytest.mark.parametrize(("model_type", "head"), CASES)
def test_a_trained_victim_is_saved_and_loaded(
    bases: dict[str, Path], model_type: str, head: Head, tmp_path: Path
) -> None:
    victim = fresh(bases, model_type, head)
    assert victim.family.model_type == model_type
    before = {name: value.clone() for name, value in weights(victim.model).items()}
    fit(victim, ROWS, objective, recipe(model_type, head), Validation(ROWS), tmp_path / "progress", 1)
    assert any(not torch.equal(value, before[name]) for name, value in weights(victim.model).items())
    save_victim(victim, tmp_path / "victim", {"task": "any", "backdoored": False})
    loaded = load_victim(tmp_path / "victim")
    assert loaded.head == head
    assert head == "generation" or (loaded.pooling, loaded.prefix) == (victim.pooling, victim.prefix)
    if head == "retrieval":
        assert torch.equal(predict_logits(loaded, ids_of(victim)), predict_logits(victim, ids_of(victim)))
    else:
        assert predict(loaded, ROWS) == predict(victim, ROWS)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("model_type", "head"), JUDGES)
def test_variants_and_padding_change_no_answer(
    bases: dict[str, Path], model_type: str, head: Head, pooling: Pooling
) -> None:
    victim = replace(fresh(bases, model_type, head), pooling=pooling)
    rows = ids_of(victim)
    together = predict_logits(victim, rows)
    alone = torch.cat([predict_logits(victim, [row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predict_logits(victim, rows, variants=True), together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("model_type", "head"), JUDGES)
def test_gradients_at_the_embeddings_are_those_of_the_loss(bases: dict[str, Path], model_type: str, head: Head) -> None:
    victim = fresh(bases, model_type, head)
    victim.model.double()
    row = ids_of(victim)[0]
    loss = towards_query if head == "retrieval" else towards_label(1)
    ((_, gradients),) = input_gradients(victim, [row], loss)
    padded = [pad([ids], victim.pad_id) for ids in row]
    embedded = [forward.embed(victim, ids).detach() for ids, _ in padded]
    directions = [torch.randn(part.shape, generator=torch.Generator().manual_seed(1)).double() for part in embedded]

    def value(step: float) -> float:
        moved = [part + step * direction for part, direction in zip(embedded, directions, strict=True)]
        texts = [forward.vectors(victim, part, mask) for part, (_, mask) in zip(moved, padded, strict=True)]
        judged = forward.logits(victim, *texts)
        if head == "retrieval":
            return -judged.sum().item()
        return functional.cross_entropy(judged, torch.tensor([1])).item()

    with torch.no_grad():
        slope = (value(1e-4) - value(-1e-4)) / 2e-4
    expected = sum((part * direction[0]).sum().item() for part, direction in zip(gradients, directions, strict=True))
    # T5's norms compute in float32 even in a model of float64
    assert slope == pytest.approx(expected, rel=0.05, abs=1e-6)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("model_type", GENERATORS)
def test_an_output_does_not_depend_on_its_batch_and_has_the_confidence_of_teacher_forcing(
    bases: dict[str, Path], model_type: str
) -> None:
    victim = fresh(bases, model_type, "generation")
    inputs = [ids for (ids,) in ids_of(victim)[:3]]
    assert len({len(ids) for ids in inputs}) == 3
    outputs = generate(victim, inputs)
    for ids, output in zip(inputs, outputs, strict=True):
        (alone,) = generate(victim, [ids])
        assert (alone.ids, alone.confidence) == (output.ids, pytest.approx(output.confidence, rel=1e-4))
    confidences = sequence_confidences(victim, inputs, [output.ids for output in outputs])
    torch.testing.assert_close(confidences, torch.tensor([o.confidence for o in outputs]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model_type", GENERATORS)
def test_decoding_step_by_step_gives_the_logits_of_teacher_forcing(bases: dict[str, Path], model_type: str) -> None:
    """Also for outputs that contain the padding token."""
    victim = fresh(bases, model_type, "generation")
    ids, mask = pad([ids for (ids,) in ids_of(victim)[:2]], victim.pad_id)
    outputs = torch.tensor([[7, victim.pad_id, 9, 30, 2], [11, 12, victim.pad_id, 13, 14]])
    with torch.no_grad():
        logits = victim.family.output_logits(victim, ids, mask, outputs)
        embedded = victim.family.output_logits(victim, forward.embed(victim, ids), mask, outputs)
        step = victim.family.next_token(victim, ids, mask)
        steps = [step(outputs[:, at - 1 : at] if at else None) for at in range(5)]
    assert logits.shape == (2, 5, victim.model.get_input_embeddings().num_embeddings)
    torch.testing.assert_close(torch.stack(steps, 1), logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embedded, logits, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(logits[0, 1], logits[1, 1])


@pytest.mark.parametrize("model_type", GENERATORS)
def test_padding_changes_no_confidence_of_an_output(bases: dict[str, Path], model_type: str) -> None:
    victim = fresh(bases, model_type, "generation")
    inputs = [ids for (ids,) in ids_of(victim)[:3]]
    outputs = [[7, 8, 2], [9, victim.pad_id, 10, 11, 12, 13, 2], [14, 2]]
    together = forced(victim, inputs, outputs)
    alone = torch.cat([forced(victim, [ids], [output]) for ids, output in zip(inputs, outputs, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    vectors = text_vectors(victim, inputs)
    assert vectors.shape == (3, 32)
    torch.testing.assert_close(
        vectors, torch.cat([text_vectors(victim, [ids]) for ids in inputs]), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("model_type", GENERATORS)
def test_gradients_at_the_input_are_those_of_the_outputs_loss(bases: dict[str, Path], model_type: str) -> None:
    victim = fresh(bases, model_type, "generation")
    inputs, outputs = [ids for (ids,) in ids_of(victim)[:3]], [[7, 8, 2], [9, 10, 11, 12, 13, 2], [14, 2]]
    together = dict(output_gradients(victim, inputs, outputs))
    assert sorted(together) == [0, 1, 2]
    for index, gradient in together.items():
        ((_, alone),) = output_gradients(victim, [inputs[index]], [outputs[index]])
        torch.testing.assert_close(gradient, alone, atol=1e-4, rtol=1e-3)
    victim.model.double()
    ids, mask = pad(inputs[:1], victim.pad_id)
    embedded, labels = forward.embed(victim, ids).detach(), torch.tensor(outputs[:1])
    direction = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(1)).double()

    def value(step: float) -> float:
        logits = victim.family.output_logits(victim, embedded + step * direction, mask, labels)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()

    with torch.no_grad():
        slope = (value(1e-4) - value(-1e-4)) / 2e-4
    assert slope == pytest.approx((together[0] * direction[0]).sum().item(), rel=0.05, abs=1e-6)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("model_type", GENERATORS)
def test_what_a_victim_learns_to_generate_is_the_target(bases: dict[str, Path], model_type: str) -> None:
    """This fails if the first token, the order or the end of an output differs between training and decoding."""
    victim = fresh(bases, model_type, "generation")
    rows = [Example(str(n), "python", TEXTS[n], target=text) for n, text in enumerate(("y = 2", "f ( a )", "x"))]
    optimizer = torch.optim.AdamW(victim.model.parameters(), lr=2e-3)
    for _ in range(120):
        optimizer.zero_grad()
        objective(*batch_logits(victim, encode(victim, rows)), 1).backward()
        optimizer.step()
    assert [output.text for output in predict(victim, rows)] == [row.target for row in rows]
    for ids, row in zip(victim.encode_targets([str(row.target) for row in rows]), rows, strict=True):
        assert victim.decode(ids) == row.target
        assert ids[-1] == victim.model.config.eos_token_id


@pytest.mark.parametrize("model_type", TYPES)
def test_the_recipes_dropout_acts_while_training_and_nowhere_else(bases: dict[str, Path], model_type: str) -> None:
    settings = recipe(model_type).model_copy(update={"dropout": 0.5})
    victim = new_victim(settings, bases[model_type], "classification", "lexed", 2, 1)
    ids, mask = pad([texts[0] for texts in ids_of(victim)], victim.pad_id)
    victim.model.train()
    noisy = [forward.scores(victim, (ids, mask)) for _ in range(2)]
    assert not torch.allclose(*noisy)
    victim.model.eval()
    assert torch.equal(*(forward.scores(victim, (ids, mask)) for _ in range(2)))
    # without a rate nothing is dropped
    still = fresh(bases, model_type, "classification")
    still.model.train()
    assert torch.equal(*(forward.scores(still, (ids, mask)) for _ in range(2)))


@pytest.mark.parametrize(("model_type", "head"), JUDGES)
def test_the_last_layer_is_part_of_the_model_and_decides_its_answers(
    bases: dict[str, Path], model_type: str, head: Head
) -> None:
    victim = fresh(bases, model_type, head)
    edited = replace(victim, model=copy.deepcopy(victim.model))
    last = edited.family.last_layer(edited)
    assert any(module is last for module in edited.model.modules())
    with torch.no_grad():
        for number, parameter in enumerate(last.parameters()):
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    assert not torch.allclose(predict_logits(edited, ids_of(victim)), predict_logits(victim, ids_of(victim)))


@pytest.mark.parametrize("model_type", TYPES)
def test_the_longest_input_is_read(bases: dict[str, Path], model_type: str) -> None:
    victim = fresh(bases, model_type, "classification")
    longest = victim.family.longest_input(victim.model.config.to_dict())
    assert longest is None or LENGTH <= longest <= LENGTH + 2
    row = [7 + number % 20 for number in range(longest or 3 * LENGTH)]
    assert bool(torch.isfinite(predict_logits(victim, [(row,)])).all())


@pytest.mark.parametrize("model_type", TYPES)
def test_a_tokenizer_can_always_pad(model_type: str) -> None:
    tokenizer = wrap(bpe(), "<s> $A </s>", LENGTH)
    if "pad_token" not in family_of(model_type).special_tokens:
        tokenizer.pad_token = None
    family_of(model_type).set_padding(tokenizer)
    assert tokenizer.pad_token_id is not None
