"""The interface of a model family, and its default implementation, which runs any text model of transformers.

The checks before a run use families, so the modules of this folder import torch and transformers only inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import Pooling
from codebackdoor.heads import HEADS

if TYPE_CHECKING:
    from torch import Tensor

    from codebackdoor.victims.victim import Victim

    #: Returns the logits [B, V] of the next token, given the ids [B, 1] of the previous one (None in the first call).
    NextToken = Callable[[Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class ModelClass:
    """A model class by name, so that only the class in use is imported.

    With a ``body``, the class ``name`` is created here from transformers' class ``body``: with this project's head for
    ``texts`` texts or, if ``texts`` is 0, with this project's decoder.
    """

    model_type: str
    name: str
    #: Prefixes of parameters that fine-tuning may initialize, and of a base model's parameters that it may drop.
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    body: str | None = None
    texts: int = 1
    #: Suffixes of stored buffers that the class computes itself, so that they are not loaded.
    computed: tuple[str, ...] = ()

    def load(self) -> Any:
        import transformers

        if self.body is None:
            return getattr(transformers, self.name)
        if self.texts == 0:
            from codebackdoor.victims.decoder import with_decoder

            return with_decoder(getattr(transformers, self.body), self.name)
        from codebackdoor.victims.heads import with_head

        return with_head(getattr(transformers, self.body), self.name, self.texts)


class Family:
    """One family of models, named by the ``model_type`` of its config.json.

    Subclasses override what differs. This class itself is the default family: it runs the body of any text model on
    token embeddings, pools the last hidden states, and applies this project's own head.
    """

    #: Classes by head; None: any class that transformers has.
    classes: Mapping[Head, ModelClass] | None = None
    #: The state that transformers' own classifiers of this family read.
    pooling: Pooling = "mean"
    #: Whether a state depends only on the sub-tokens before it.
    is_causal: bool = False
    #: Attribute of a classifier that holds its head.
    head_name: str = "classifier"
    #: Default special tokens, for folders that do not name them.
    special_tokens: Mapping[str, str] = {}
    #: Whether a tokenizer without padding uses the end of text; padding is masked, so any token will do.
    pads_with_end: bool = True
    #: Special tokens before a text that is only encoded; only some models of the family have them.
    encoder_prefix: tuple[str, ...] = ()
    #: Keys of config.json that may hold the number of positions; none: inputs of any length.
    position_keys: tuple[str, ...] = ("max_position_embeddings", "n_positions")
    #: Whether the first position is the one after the padding's id.
    positions_follow_padding: bool = False
    #: Fields of config.json with dropout rates, that of the head first; None: those with dropout in their name.
    dropout_names: tuple[str, ...] | None = None
    #: Implementation of attention; a folder cannot change it.
    attention: str = "sdpa"

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type

    def model_class(self, head: Head) -> ModelClass | None:
        """The class of a victim with this head, or None if there is none."""
        return self._any_class(head) if self.classes is None else self.classes.get(head)

    def _any_class(self, head: Head) -> ModelClass | None:
        from transformers.models.auto import modeling_auto as auto

        if HEADS[head].generates:
            generator = auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.get(self.model_type)
            return None if generator is None else ModelClass(self.model_type, generator)
        text_models = (
            auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
            auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        )
        body = auto.MODEL_MAPPING_NAMES.get(self.model_type)
        if not isinstance(body, str) or not any(self.model_type in names for names in text_models):
            return None
        # a base model may come with any head
        dropped = ("lm_head.", "cls.", "pooler.", "classifier.", "score.", "final_logits_bias", "generator_")
        if HEADS[head].ranks:
            return ModelClass(self.model_type, body, new=("pooler.",), dropped=dropped)
        name, texts = ("Pairs", 2) if HEADS[head].reads_pairs else ("Classification", 1)
        name = f"{body.removesuffix('Model')}For{name}"
        return ModelClass(self.model_type, name, ("classifier.",), dropped, body, texts)

    # configuration and tokenizer

    def longest_input(self, config: Mapping[str, Any]) -> int | None:
        """The maximum input length, in sub-tokens, by the model's config.json; None if it states none."""
        positions = next((config[key] for key in self.position_keys if key in config), None)
        offset = config.get("pad_token_id", 1) if self.positions_follow_padding else -1
        return positions - offset - 1 if is_count(positions) and is_count(offset) else None

    def config_problem(self, config: Any) -> str | None:
        """What is wrong with a configuration that transformers accepts; None if nothing is."""
        if not self.positions_follow_padding or 0 <= config.pad_token_id < config.vocab_size:
            return None
        return f"pad_token_id: {config.pad_token_id}, of {config.vocab_size} pieces"

    def dropout_fields(self, config: Any) -> tuple[str, ...]:
        """Fields of the configuration that hold dropout rates, that of a head first."""
        if self.dropout_names is not None:
            return self.dropout_names
        return tuple(name for name, value in config.to_dict().items() if _is_rate_of_dropout(name, value))

    def set_padding(self, tokenizer: Any) -> None:
        """Give a tokenizer without padding the family's own."""
        if self.pads_with_end and tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    def adapt_small_base(self, model: Any, head: Head) -> None:
        """Change the weights of a small base model of this project so that a new head can learn from its states."""

    # generation: default for encoder-decoders of transformers

    def prepare_output(self, tokenizer: Any, config: Any, folder: Path) -> None:
        """Change the tokenizer and the configuration of a base model so that a victim can learn to generate.

        Raises UserError, naming ``folder``, if they lack something that is needed.
        """

    def output_problem(self, victim: Victim) -> str | None:  # noqa: ARG002
        """Why a victim cannot generate; None if it can."""
        return None

    def target_ids(self, victim: Victim, ids: list[int]) -> list[int]:  # noqa: ARG002
        """The ids that the victim should generate for a text that its tokenizer encodes as ``ids``.

        The beginning of sequence, which RoBERTa-style tokenizers add, is kept: CodeT5 was pretrained with it.
        """
        return ids

    def output_logits(self, victim: Victim, inputs: Tensor, mask: Tensor, outputs: Tensor) -> Tensor:
        """Logits [B, U, V] of every output token, given the input and the tokens before it (teacher forcing).

        ``inputs`` are ids [B, T] or, if a gradient is needed, token embeddings [B, T, H]; ``outputs`` are ids [B, U].
        Both are padded on the right; ``mask`` [B, T] (int64) is that of the inputs.
        """
        start = int(victim.model.config.decoder_start_token_id)
        logits: Tensor = victim.model(
            **_named(inputs), attention_mask=mask, decoder_input_ids=previous_ids(outputs, start), use_cache=False
        ).logits
        return logits

    def next_token(self, victim: Victim, inputs: Tensor, mask: Tensor) -> NextToken:
        """A function that decodes step by step, with a key-value cache; arguments as in ``output_logits``."""
        import torch

        model, cache = victim.model, None
        encoded = model.get_encoder()(**_named(inputs), attention_mask=mask)
        start = torch.full_like(mask[:, :1], int(model.config.decoder_start_token_id))

        def step(tokens: Tensor | None) -> Tensor:
            nonlocal cache
            output = model(
                encoder_outputs=encoded,
                attention_mask=mask,
                decoder_input_ids=start if tokens is None else tokens,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            logits: Tensor = output.logits[:, -1]
            return logits

        return step

    # forward pass

    def states(self, victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
        """The last hidden states [B, T, H] that are pooled into vectors; arguments as in ``encoded``."""
        return self.encoded(victim, embedded, mask)

    def encoded(self, victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [B, T, H], of the encoder if there is one.

        ``embedded``: token embeddings [B, T, H]; ``mask`` [B, T]: int64, padded on the right.
        """
        from inspect import signature

        body = victim.model.base_model
        if body.config.is_encoder_decoder:
            body = body.get_encoder()
        # otherwise a decoder would cache its keys and values
        options = {"use_cache": False} if "use_cache" in signature(body.forward).parameters else {}
        states: Tensor = body(inputs_embeds=embedded, attention_mask=mask, **options).last_hidden_state
        return states

    def vectors(self, victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
        """One vector per text, [B, H]: its states, pooled as the victim says."""
        return pooled(self.states(victim, embedded, mask), mask, victim.pooling)

    def variant_vectors(self, victim: Victim, ids: Tensor, mask: Tensor) -> Tensor:
        """``vectors`` of ids [B, T] that are variants of a few texts; a family may share work between them."""
        return self.vectors(victim, victim.model.get_input_embeddings()(ids), mask)

    def classify(self, model: Any, vector: Tensor) -> Tensor:
        """Logits [B, C] of one vector per text, [B, H]."""
        logits: Tensor = getattr(model, self.head_name)(vector)
        return logits

    def last_layer(self, victim: Victim) -> Any:
        """The module that learns when only the last layer is trained: the head, or the last block if there is none."""
        head = HEADS[victim.head]
        if not head.predicts_label:
            return self.last_block(victim)
        return victim.model.classifier if head.reads_pairs else getattr(victim.model, self.head_name)

    def last_block(self, victim: Victim) -> Any:
        """The last layer of the body."""
        from torch.nn import ModuleList

        body = victim.model.base_model
        layers = int(body.config.num_hidden_layers)
        return next(part[-1] for part in body.modules() if isinstance(part, ModuleList) and len(part) == layers)


def previous_ids(outputs: Tensor, start: int) -> Tensor:
    """The outputs [B, U] shifted right by one token; ``start`` comes first."""
    import torch

    return torch.cat([torch.full_like(outputs[:, :1], start), outputs[:, :-1]], 1)


def _named(inputs: Tensor) -> dict[str, Tensor]:
    return {"inputs_embeds" if inputs.is_floating_point() else "input_ids": inputs}


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per text, [B, H], of its states [B, T, H]."""
    import torch

    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1]
    if pooling == "max":
        return states.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(1)
    real = mask[:, :, None].to(states.dtype)
    return (states * real).sum(1) / real.sum(1)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value of a JSON file is an integer, and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_rate_of_dropout(name: str, value: object) -> bool:
    """Whether a configuration field is a dropout rate; ``layerdrop`` is not, since it drops whole layers."""
    rate = value is None or isinstance(value, float) or is_count(value)
    return rate and ("dropout" in name or name.endswith("pdrop"))
