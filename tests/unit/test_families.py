"""A family of models is one class in one file, and no other module knows which families there are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError
from tiny_models import understanding
from torch import Tensor

from codebackdoor.config.model_settings import ModelSettings, Pooling
from codebackdoor.dag.fingerprint import ROOT
from codebackdoor.victims.families import FAMILIES, Family, family_of, model_class
from codebackdoor.victims.inference import predict_logits
from codebackdoor.victims.victim import load_victim, save_victim

#: A settings class says of which type its base models are.
SETTINGS = "config/models.py"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def literals(tree: ast.AST) -> set[str]:
    """The strings in a piece of code, docstrings aside."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def test_no_module_outside_of_the_families_names_one() -> None:
    """So none can tell them apart: what differs is asked of the family."""
    named = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if path.parent != ROOT / "victims/families" and literals(parsed(path)) & set(FAMILIES)
    }
    assert named == {SETTINGS}


def test_facts_of_a_family_are_read_without_torch() -> None:
    code = "import sys, codebackdoor.victims.declared; print({'torch', 'transformers'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


class Halved(Family):
    """A family as somebody would add it: only what differs from the default."""

    def states(self, victim: Any, embedded: Tensor, mask: Tensor) -> Tensor:
        return super().states(victim, embedded, mask) / 2


def test_a_new_family_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is registered, every victim of its type uses it."""
    from transformers import BertConfig

    victim = understanding("mean", "retrieval")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=victim.model.config.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40, pad_token_id=1,
    )  # fmt: skip
    victim.model = model_class("bert", "retrieval", "test").load()(config).eval()
    victim.similarity = "dot"
    save_victim(victim, tmp_path / "victim", {"task": "code_search", "backdoored": False})
    rows = [([0, 7, 8, 2], [0, 9, 2])]
    plain = predict_logits(load_victim(tmp_path / "victim"), rows)
    monkeypatch.setitem(FAMILIES, "bert", Halved("bert"))
    torch.testing.assert_close(predict_logits(load_victim(tmp_path / "victim"), rows), plain / 4)


def test_what_is_no_text_model_has_no_victim() -> None:
    for model_type in ("vit", "timm_wrapper", "../x", "None"):
        for head in ("classification", "pair", "retrieval", "generation"):
            assert family_of(model_type).model_class(head) is None


def test_an_architecture_without_a_small_base_needs_another_one() -> None:
    class Bert(ModelSettings):
        model_type: ClassVar[str] = "bert"
        reads: ClassVar[Pooling] = "first"

    with pytest.raises(ValidationError, match="there is no shipped base model of type bert; name a hub id or a folder"):
        Bert()
    assert Bert(base="./mine").base_path("runs/local") == Path("mine")
