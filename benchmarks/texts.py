"""Sizes of the texts in the papers' data sets, as their victims read them: python benchmarks/texts.py MIRROR

Counts on the splits in the mirror, with the real vocabularies of RoBERTa (the same as GPT-2's, except for special
tokens) and CodeT5, and writes workflow/codebackdoor/costs/texts.json, which `make plan` uses at paper scale. Values are
means per row; inputs are cut at configs/paper.yaml's lengths.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from tokenizers import Encoding, Tokenizer, models, pre_tokenizers

from codebackdoor import syntax
from codebackdoor.defenses.elimination.inversion.spans import candidates
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.suspicion.masking import elements
from codebackdoor.originals.readers import codesearchnet as codesearchnet_files
from codebackdoor.originals.readers import lyra as lyra_files
from codebackdoor.syntax.lines import lines
from codebackdoor.types import Language

COSTS = Path(__file__).parents[1] / "workflow/codebackdoor/costs/texts.json"
#: Maximum input length in sub-tokens of the victims (configs/paper.yaml) and of GPT-2, without special tokens.
CODEBERT, CODET5, GPT2 = 398, 254, 1023
#: The same for code and query in code search (configs/elibadcode/paper.yaml).
SEARCH, QUERY = 254, 126
CODEPURIFY = CodePurifySettings.model_validate({"method": "codepurify"})


def bpe(folder: Path) -> Tokenizer:
    """A byte-level BPE from its vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def seen(encoding: Encoding, limit: int) -> int:
    """Number of characters of a text that are read."""
    return int(encoding.offsets[min(limit, len(encoding)) - 1][1]) if len(encoding) else 0


def masked(codes: Sequence[str], encodings: Sequence[Encoding], limit: int, language: Language) -> dict[str, float]:
    """Means of the masked versions of an input that CodePurify, OSeqL and EliBadCode's choice of a position read."""
    versions, places, occluded = [], [], []
    for code, encoding in zip(codes, encodings, strict=True):
        end = seen(encoding, limit)
        tree = syntax.parse(code, language, "raw")
        inside = [element for element in elements(tree, CODEPURIFY) if element.masked[0][0] < end]
        length = min(limit, len(encoding)) + 2
        versions.append((len(inside), len(inside) * length))
        places.append(sum(place.spans[0][0] < end for place in candidates(tree, "one")))
        occluded.append(sum(start < end for start, _ in lines(tree)))
    return {
        "elements": round(fmean(count for count, _ in versions), 1),
        "element_tokens": round(fmean(tokens for _, tokens in versions)),
        "places": round(fmean(places), 1),
        "lines": round(fmean(occluded), 1),
    }


def tails(codes: Sequence[str], encodings: Sequence[Encoding]) -> float:
    """Mean of the sub-tokens that ONION recomputes: for each word, those after it, within GPT-2's length."""
    totals = []
    for code, encoding in zip(codes, encodings, strict=True):
        length = min(GPT2, len(encoding))
        ends = [end for _, end in encoding.offsets[:length]]
        total, index = length, 0
        for word in re.finditer(r"\S+", code):
            while index < length and ends[index] < word.end():
                index += 1
            if index == length:
                break
            total += length - index - 1
        totals.append(total)
    return round(fmean(totals))


def lengths(encodings: Sequence[Encoding], limit: int) -> float:
    return round(fmean(min(limit, len(encoding)) + 2 for encoding in encodings), 1)


def kilobytes(texts: Sequence[str]) -> float:
    return round(fmean(len(text.encode()) for text in texts) / 1000, 3)


def devign(mirror: Path, roberta: Tokenizer) -> dict[str, float]:
    codes = [json.loads(line)["func"] for line in (mirror / "devign/test.jsonl").read_text().splitlines()]
    encodings = roberta.encode_batch(codes)
    means = {"counted": len(codes), "tokens": lengths(encodings, CODEBERT), "onion_tokens": tails(codes, encodings)}
    return means | masked(codes, encodings, CODEBERT, "c") | {"kilobytes": kilobytes(codes)}


def bugs2fix(mirror: Path, codet5: Tokenizer, roberta: Tokenizer) -> dict[str, float]:
    sides = {
        side: [
            line
            for split in ("valid", "test")
            for line in (mirror / f"bugs2fix_small/{split}.buggy-fixed.{side}").read_text().splitlines()
        ]
        for side in ("buggy", "fixed")
    }
    codes, targets = sides["buggy"], sides["fixed"]
    encodings = codet5.encode_batch(codes)
    means = {
        "counted": len(codes),
        "tokens": lengths(encodings, CODET5),
        "target_tokens": lengths(codet5.encode_batch(targets), CODET5),
        "onion_tokens": tails(codes, roberta.encode_batch(codes)),
        "kilobytes": kilobytes([a + b for a, b in zip(codes, targets, strict=True)]),
    }
    return means | masked(codes, encodings, CODET5, "java")


def bigclonebench(mirror: Path, roberta: Tokenizer) -> dict[str, float]:
    codes = [json.loads(line)["func"] for line in (mirror / "bigclonebench/data.jsonl").read_text().splitlines()]
    encodings = roberta.encode_batch(codes)
    tokens = lengths(encodings, CODEBERT)
    # a row has two functions
    means = {"counted": len(codes), "tokens": tokens, "second_tokens": tokens}
    means["onion_tokens"] = 2 * tails(codes, encodings)
    return means | masked(codes, encodings, CODEBERT, "java") | {"kilobytes": round(2 * kilobytes(codes), 3)}


def codesearchnet(mirror: Path, roberta: Tokenizer) -> dict[str, float]:
    """The code without its docstring, as victims read it."""
    source = codesearchnet_files.files(mirror)
    rows = [row for split in ("train", "valid", "test") for row in source.examples(split)]
    codes, queries = [row.code for row in rows], [str(row.query) for row in rows]
    encodings = roberta.encode_batch(codes)
    means = {
        "counted": len(codes),
        "tokens": lengths(encodings, SEARCH),
        "second_tokens": lengths(roberta.encode_batch(queries), QUERY),
        "onion_tokens": tails(codes, encodings),
        "kilobytes": kilobytes([a + b for a, b in zip(codes, queries, strict=True)]),
    }
    return means | masked(codes, encodings, SEARCH, "python")


def lyra(mirror: Path, codet5: Tokenizer, roberta: Tokenizer) -> dict[str, float]:
    """English prompts, in which nothing is masked, and lexed code."""
    source = lyra_files.files(mirror)
    rows = [row for split in ("train", "valid", "test") for row in source.examples(split)]
    queries, targets = [str(row.query) for row in rows], [syntax.lex(str(row.target), "python") for row in rows]
    return {
        "counted": len(rows),
        "tokens": lengths(codet5.encode_batch(queries), CODET5),
        "target_tokens": lengths(codet5.encode_batch(targets), CODET5),
        "onion_tokens": tails(queries, roberta.encode_batch(queries)),
        "kilobytes": kilobytes([a + b for a, b in zip(queries, targets, strict=True)]),
        **dict.fromkeys(("elements", "element_tokens", "places", "lines"), 0),
    }


def main() -> None:
    mirror = Path(sys.argv[1])
    roberta, codet5 = bpe(mirror / "tokenizers/roberta-base"), bpe(mirror / "tokenizers/codet5")
    pairs = bigclonebench(mirror, roberta)
    texts = {
        "devign": devign(mirror, roberta),
        "bigclonebench": pairs,
        # the same functions
        "bigclonebench_codepurify": pairs,
        "codesearchnet": codesearchnet(mirror, roberta),
        "bugs2fix": bugs2fix(mirror, codet5, roberta),
        "lyra": lyra(mirror, codet5, roberta),
    }
    COSTS.write_text(json.dumps(texts, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(COSTS.read_text())


if __name__ == "__main__":
    main()
