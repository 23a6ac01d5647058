"""The stages ``tokenizer`` and ``pretrain``: from the corpus to a folder under ``basemodels/`` with its card.

A base model is an input of the study: it is pretrained once, by a workflow target outside the default run, and ships
with its recipe, the hash of its corpus, and its training curve.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codebackdoor.basemodels.pretraining import pretrain
from codebackdoor.basemodels.replaced_tokens import Replacer
from codebackdoor.basemodels.tokenizer import Template, encode, train_bpe, wrap
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.corpora.prose import read_prose
from codebackdoor.corpora.stage import read_functions
from codebackdoor.errors import UserError
from codebackdoor.files import atomic, remove_parts, sha256, write_json
from codebackdoor.victims.checkpoints import check_safetensors, load_weights
from codebackdoor.victims.checksums import write_sums
from codebackdoor.victims.families.helpers import HELPER_MODELS

TOKENIZER_TEMPLATES: dict[str, Template] = {
    "encoder": "<s> $A </s>",
    "seq2seq": "$A </s>",
    "causal": "<s> $A",
    "decoder": "<s> $A",
    "discriminator": "<s> $A </s>",
    "english": "<s> $A",
}
_OBJECTIVES = {
    "encoder": "masked language modeling",
    "seq2seq": "restoring a function from a copy with masked, replaced and deleted sub-tokens",
    "causal": "next-token prediction",
    "decoder": "next-token prediction",
    "discriminator": "replaced-token detection, against samples of the encoder",
    "english": "next-token prediction",
}


def make_tokenizer(corpus: Path, size: int, out: Path, is_prose: bool = False) -> None:
    """Train the byte-level BPE on the training split and write it as ``tokenizer.json``.

    With ``is_prose``, ``corpus`` holds docstrings and comments instead of functions.
    """
    with atomic(out) as stream:
        stream.write(train_bpe(_texts(corpus, is_prose)["train"], size).to_str(pretty=False))


def make_base(recipe: Pretraining, corpus: Path, tokenizer: Path, out: Path, generator: Path | None = None) -> None:
    """Pretrain one base model and write it, with tokenizer, recipe, curve and card, to the folder ``out``.

    ``generator`` is the base model whose samples a discriminator learns to detect; no other family has one. The folder
    appears complete or not at all.
    """
    if (generator is not None) != (recipe.family == "discriminator"):
        raise UserError(f"{recipe.family}: the option generator is for the discriminator, which needs it")
    replacer = None if generator is None else _replacer(generator)
    bpe = Tokenizer.from_file(str(tokenizer))
    if bpe.get_vocab_size() != recipe.vocabulary:
        raise UserError(f"{tokenizer} has {bpe.get_vocab_size()} entries, the recipe asks for {recipe.vocabulary}")
    splits = {split: encode(bpe, texts) for split, texts in _texts(corpus, recipe.reads_prose).items()}
    model, curve = pretrain(splits["train"], splits["valid"], recipe, _marks(bpe), replacer=replacer)
    sub_tokens = sum(map(len, splits["train"]))
    facts = {
        "corpus_sha256": sha256(corpus),
        "paragraphs" if recipe.reads_prose else "functions": len(splits["train"]),
        "sub_tokens": sub_tokens,
        "held_out_loss": curve[-1]["held_out"],
        **{f"held_out_{name}": curve[-1][name] for name in ("auc", "recall", "false_alarms") if name in curve[-1]},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(out)
    with tempfile.TemporaryDirectory(".part", f".{out.name}.", out.parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _save(model, folder)
        wrap(bpe, TOKENIZER_TEMPLATES[recipe.family], recipe.max_length).save_pretrained(folder)
        write_json(folder / "recipe.json", {"recipe": recipe.model_dump(), **facts})
        write_json(folder / "curve.json", curve)
        (folder / "README.md").write_text(_card(recipe, facts), encoding="utf-8")
        write_sums(folder)
        for file in (folder, *folder.iterdir()):
            file.chmod(0o755 if file.is_dir() else 0o644)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


def _texts(corpus: Path, is_prose: bool) -> dict[str, list[str]]:
    """The texts of the training and the validation split."""
    if is_prose:
        return {split: read_prose(corpus, split) for split in ("train", "valid")}
    functions = read_functions(corpus)
    return {split: [function.code for function in functions if function.split == split] for split in ("train", "valid")}


def _replacer(generator: Path) -> Replacer:
    check_safetensors(generator)
    return Replacer(load_weights(HELPER_MODELS["infiller"], generator))


def _save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def _marks(bpe: Tokenizer) -> NDArray[np.bool_]:
    """Which ids are special tokens or layout marks, [V] bool."""
    marks = np.zeros(bpe.get_vocab_size(), dtype=bool)
    marks[list(bpe.get_added_tokens_decoder())] = True
    return marks


def _card(recipe: Pretraining, facts: dict[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in {**recipe.model_dump(), **facts}.items())
    texts, unit = (
        ("the docstrings and comments of Python", "Texts") if recipe.reads_prose else ("real Python", "Functions")
    )
    return f"""---
backdoored: false
---
# Local base model: {recipe.family}

Pretrained by this project (`make pretrain`) on the training split of its own corpus, {texts} from pinned
distributions, by {_OBJECTIVES[recipe.family]}. {unit} of the validation and test splits were not seen.
The training curve is in `curve.json`.

| | |
| --- | --- |
{rows}
"""
