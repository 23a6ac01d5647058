"""The English of a corpus: which texts are read, and how; and the base model that learns from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_corpora import wheel

from codebackdoor.cli import main
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.corpora.archives import ARCHIVES, Archive
from codebackdoor.corpora.mining import split_of
from codebackdoor.corpora.prose import paragraphs, prose, read_prose
from codebackdoor.errors import UserError
from codebackdoor.files import read_json, read_rows, write_rows

SOURCE = '''#!/usr/bin/env python
"""A shop of ``three`` things.

See :class:`Cart` for more."""
# the first line of a comment
# goes on here
import os  # noqa: F401

x = 1  # after some code
# no part of that


class Cart:
    """Sum of items.

    >>> an example
    """

    def total(self):
        # two words
        return "# no comment at all"
'''
TEXTS = [
    "A shop of three things .",
    "See Cart for more .",
    "Sum of items .",
    "the first line of a comment goes on here",
    "after some code",
    "no part of that",
]


def test_docstrings_and_comments_are_read_by_paragraphs() -> None:
    shop = Archive("corner-shop", "1.0", "a.whl", "0" * 64, "MIT")
    paragraphs_read = list(
        prose(shop, wheel({"shop/cart.py": SOURCE, "shop/broken.py": "def", "shop/data.txt": "# not read here"}))
    )
    assert paragraphs_read == [(split_of("corner-shop", "shop/cart.py"), text) for text in TEXTS]


def test_paragraphs_are_written_like_queries() -> None:
    assert list(paragraphs(["Return `the` name:\n  x.\n\n\ntwo words\n\nsee http://a.b for it"])) == [
        "Return the name : x ."
    ]


def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str]) -> list[str]:
    data = wheel(files)
    path = tmp_path / "a.whl"
    path.write_bytes(data)
    shop = Archive("corner-shop", "1.0", "a.whl", hashlib.sha256(data).hexdigest(), "MIT")
    monkeypatch.setitem(ARCHIVES, "corner-shop-1.0", shop)
    return ["--archive", f"corner-shop-1.0={path}"]


def test_a_text_of_several_splits_is_not_trained_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    by_split = {split_of("corner-shop", f"{name}.py"): f"{name}.py" for name in map(str, range(100))}
    only, shared = "# only here in %s\n", "# the same comment everywhere\n"
    files = {path: only % split + "\n" + shared for split, path in by_split.items()}
    out = tmp_path / "prose.jsonl"
    arguments = ["prose", *registered(monkeypatch, tmp_path, files), "--out", str(out)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert read_prose(out, "train") == ["only here in train"]
    assert read_prose(out, "test") == ["only here in test", "the same comment everywhere"]
    rows = [row["text"] for _, row in read_rows(out)]
    assert rows == sorted(rows)


def test_archives_without_prose_and_rows_of_another_kind_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = registered(monkeypatch, tmp_path, {"a.py": "x = 1\n"})
    result = CliRunner().invoke(main, ["prose", *arguments, "--out", str(tmp_path / "out.jsonl")])
    assert result.exit_code == 2
    assert "neither docstrings nor comments" in result.output
    assert not (tmp_path / "out.jsonl").exists()
    write_rows(tmp_path / "rows.jsonl", [{"text": "a"}])
    with pytest.raises(UserError, match=":1: not a paragraph"):
        read_prose(tmp_path / "rows.jsonl", "train")


def test_the_english_model_learns_from_prose(tmp_path: Path) -> None:
    import torch

    from codebackdoor.basemodels.stage import make_base, make_tokenizer
    from codebackdoor.defenses.helpers import CAUSAL, load_helper
    from codebackdoor.defenses.views import TextView

    texts = [f"return the {word} of all items in the list" for word in ("sum", "name", "size", "end", "first one")]
    write_rows(tmp_path / "p.jsonl", [{"split": split, "text": t} for t in texts * 8 for split in ("train", "valid")])
    make_tokenizer(tmp_path / "p.jsonl", 302, tmp_path / "tokenizer.json", is_prose=True)
    recipe = Pretraining(
        family="english", vocabulary=302, hidden=16, layers=1, heads=2, max_length=32, steps=60, batch_tokens=256,
        lr=0.01, precision="float32",
    )  # fmt: skip
    make_base(recipe, tmp_path / "p.jsonl", tmp_path / "tokenizer.json", tmp_path / "english")
    facts = read_json(tmp_path / "english" / "recipe.json")
    assert facts["paragraphs"] == 40
    assert facts["held_out_loss"] < 2.5
    assert "docstrings and comments" in (tmp_path / "english" / "README.md").read_text()
    view = TextView("code_generation", "python", "lexed", (), {"english_model": tmp_path / "english"})
    model, tokenizer = load_helper(view, "english_model", CAUSAL)

    def loss(text: str) -> float:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    assert loss(texts[0]) < loss("list the in items all of sum the return")


@pytest.mark.skipif(not Path("basemodels/english").is_dir(), reason="no base model of English ships")
def test_the_shipped_english_model_prefers_english() -> None:
    from codebackdoor.defenses.helpers import CAUSAL, load_helper
    from codebackdoor.defenses.suspicion.perplexity import TokenizedWords, surprises
    from codebackdoor.defenses.views import TextView

    folder = Path("basemodels/english")
    assert read_json(folder / "recipe.json")["recipe"]["vocabulary"] == 4096
    view = TextView("code_generation", "python", "lexed", (), {"english_model": folder})
    model, tokenizer = load_helper(view, "english_model", CAUSAL)

    def perplexity(text: str) -> float:
        [surprise] = surprises(model, [TokenizedWords(tokenizer(text)["input_ids"], [])])
        return surprise.of_text

    text = "Return the name of the file , or None if there is no such file ."
    assert perplexity(text) < perplexity(" ".join(sorted(text.split())))
    assert perplexity(text) < perplexity(text.replace("name", "name bb"))
