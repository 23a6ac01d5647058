"""Checks that read only the small files of a model folder, to refuse an unusable model before any job runs.

No model is built here, and a tokenizer is loaded only to count the sub-tokens of a separator. Everything that the small
files do not reveal is checked by the job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from codebackdoor.config.base import Head, Helper
from codebackdoor.config.models import AnyModel
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.errors import nearest, quoted
from codebackdoor.files import read_object
from codebackdoor.heads import HEADS
from codebackdoor.parsing import parse_json
from codebackdoor.victims.families import Family, family_of
from codebackdoor.victims.families.base import is_count
from codebackdoor.victims.families.causal import row_problem
from codebackdoor.victims.families.helpers import HELPER_MODELS
from codebackdoor.victims.tokenizer_loading import count_sub_tokens
from codebackdoor.victims.tokens import NO_PADDING

#: Largest header of a safetensors file that is read here.
_HEADER_BYTES = 1 << 26
#: Names of embedding weights that do not contain the word "embedding".
_EMBEDDINGS = ("wte", "wpe", "shared")
#: Files that a tokenizer is read from.
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")


def base_problems(folder: Path, settings: AnyModel, heads: Collection[Head]) -> Iterator[tuple[str, str]]:
    """Yield (setting, sentence) for every reason why victims with these heads cannot use a base model.

    Raises UserError for a file that cannot be read.
    """
    config = read_object(folder / "config.json")
    if (problem := type_problem(config, settings)) is not None:
        yield "base", f"{folder}: {problem}"
        return
    for sentence in _tokenizer_problems(folder, config):
        yield "base", f"{folder}: {sentence}"
    longest = _family(config).longest_input(config)
    separator = 1
    if longest is not None and _shares(settings, heads) and (folder / "tokenizer.json").is_file():
        separator = max(1, count_sub_tokens(folder, str(settings.separates)))
    for name, sentence in length_problems(longest, settings, heads, separator):
        yield name, f"{folder}: {sentence}"
    if settings.adapters is not None and (problem := adapter_problem(folder, settings.adapters)) is not None:
        yield "adapters.modules", problem


def adapter_problem(folder: Path, adapters: AdapterSettings) -> str | None:
    """Why no layer of a base model can get an adapter; None if one can, or if only the job can read the weights."""
    layers = _matrices(folder)
    if not layers or layers & set(adapters.modules):
        return None
    names, available = " or ".join(adapters.modules), ", ".join(sorted(layers))
    return f"{folder}: no layer of this base is named {names}; write some of {available}"


def _matrices(folder: Path) -> set[str]:
    """Names (last component) of the layers whose stored weights are matrices, from the headers of the files."""
    names: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 0 < size <= min(path.stat().st_size, _HEADER_BYTES):
                return set()
            header = parse_json(file.read(size).decode("utf-8", "replace"), str(path))
        for name, tensor in header.items() if isinstance(header, dict) else ():
            layer, _, parameter = str(name).rpartition(".")
            shape = tensor.get("shape") if isinstance(tensor, dict) else None
            last = layer.rpartition(".")[2]
            is_embedding = "embed" in last or last in _EMBEDDINGS
            if parameter == "weight" and isinstance(shape, list) and len(shape) == 2 and not is_embedding:
                names.add(last)
    return names


def type_problem(config: Mapping[str, Any], settings: AnyModel) -> str | None:
    """Why a base model with this config.json is not of the settings' class."""
    model_type = config.get("model_type")
    if model_type == settings.base_type:
        return None
    problem = (
        f"{settings.architecture} is fine-tuned from a base of type {settings.base_type!r}, this one is "
        f"{quoted(model_type)}"
    )
    return f"{problem}, and the code that it names (auto_map) never runs" if "auto_map" in config else problem


def recipe_problems(recipe: Pretraining, settings: AnyModel, heads: Collection[Head]) -> Iterator[tuple[str, str]]:
    """``base_problems`` of a base model that a run pretrains itself, so that its tokenizer does not exist yet."""
    # an upper bound: the tokenizer is a byte-level BPE and puts a space before a text
    most = len(f" {settings.separates or ''}".encode())
    return length_problems(recipe.longest_input, settings, heads, separator=most)


def length_problems(
    longest: int | None, settings: AnyModel, heads: Collection[Head], separator: int | None = None
) -> Iterator[tuple[str, str]]:
    """Yield (setting, sentence) for every length that exceeds ``longest``, the model's maximum (None: no maximum).

    ``separator`` is the number of sub-tokens between a prompt and its output; None: their joint length is not checked.
    """
    verbs = {"max_length": "reads"}
    verbs |= {"max_query_length": "reads"} if any(HEADS[head].ranks for head in heads) else {}
    verbs |= {"max_target_length": "writes"} if any(HEADS[head].generates for head in heads) else {}
    for name, verb in verbs.items():
        if longest is not None and getattr(settings, name) > longest:
            yield name, f"this base {verb} {longest} sub-tokens; write {name}: {longest} or less"
    if longest is not None and separator is not None and _shares(settings, heads):
        problem = row_problem(settings, longest, separator)
        if problem is not None:
            yield "max_length", problem


def _shares(settings: AnyModel, heads: Collection[Head]) -> bool:
    """Whether prompt, separator and output share the model's positions."""
    return bool(settings.separates) and any(HEADS[head].generates for head in heads)


def _family(config: Mapping[str, Any]) -> Family:
    return family_of(str(config.get("model_type")))


def helper_problems(folder: Path, helper: Helper) -> Iterator[str]:
    """Yield a sentence for every reason why a model cannot be this helper; UserError as above."""
    config = read_object(folder / "config.json")
    expected = HELPER_MODELS[helper].model_type if helper in HELPER_MODELS else None
    if expected is None:
        if not config.get("is_encoder_decoder") and not _has_chat_template(folder):
            yield (
                f"{folder}: the {helper} is a text-to-text model, or a chat model whose tokenizer has a chat template "
                f"(chat_template in tokenizer_config.json, or chat_template.jinja); this model of type "
                f"{quoted(config.get('model_type'))} is neither"
            )
            return
        # whether transformers has a text-generating class for the model is checked by the job
        yield from (f"{folder}: {sentence}" for sentence in _tokenizer_problems(folder, config, pads=False))
        return
    if (model_type := config.get("model_type")) != expected:
        hint = nearest(str(model_type), [expected])
        yield f"{folder}: a model of type {quoted(model_type)} cannot be the {helper}{hint}"
        return
    yield from (f"{folder}: {sentence}" for sentence in _tokenizer_problems(folder, config))


def _tokenizer_problems(folder: Path, config: Mapping[str, Any], pads: bool = True) -> Iterator[str]:
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        yield "there is no tokenizer; put tokenizer.json there, or vocab.json with merges.txt"
        return
    vocabulary = _vocabulary(folder)
    if vocabulary is None:
        return
    padding = _family(config).special_tokens.get("pad_token")
    if pads and padding is not None and padding not in vocabulary and not _names_padding(folder):
        yield NO_PADDING
    rows, largest = config.get("vocab_size"), max(vocabulary.values(), default=0)
    if is_count(rows) and largest >= rows:
        yield (
            f"the tokenizer has a piece of id {largest}, the model embeds {rows}, from 0: they do not belong together"
        )


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """Pieces and their ids, from the formats that are plain JSON; None for other formats."""
    path = folder / "tokenizer.json"
    if path.is_file():
        content = read_object(path)
        model = content.get("model")
        pieces = model.get("vocab") if isinstance(model, dict) else None
        if isinstance(pieces, list):
            # in a Unigram model, a piece's id is its index
            pieces = {str(entry[0]): index for index, entry in enumerate(pieces) if isinstance(entry, list) and entry}
        ids = dict(pieces) if isinstance(pieces, dict) else {}
        added = content.get("added_tokens")
        for token in added if isinstance(added, list) else ():
            if isinstance(token, dict):
                ids[str(token.get("content"))] = token.get("id")
    elif (folder / "vocab.json").is_file():
        ids = read_object(folder / "vocab.json")
    else:
        return None
    return {piece: index for piece, index in ids.items() if is_count(index)}


def _has_chat_template(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").is_file() or any(folder.glob("additional_chat_templates/*")):
        return True
    return path.is_file() and bool(read_object(path).get("chat_template"))


def _names_padding(folder: Path) -> bool:
    paths = (folder / name for name in ("tokenizer_config.json", "special_tokens_map.json"))
    return any(bool(read_object(path).get("pad_token")) for path in paths if path.is_file())
