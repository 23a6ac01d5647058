"""A family of models is one file and its line in the registry; with a recipe of its own, one settings class more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from os import environ
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FAMILIES = "codebackdoor/victims/families"
FAMILY = '''"""OPT: a decoder whose last state stands for a text, here halved."""

from codebackdoor.victims.families.base import Family


class Opt(Family):
    pooling = "last"
    is_causal = True

    def states(self, victim, embedded, mask):
        return super().states(victim, embedded, mask) / 2
'''
RECIPE = '''class Opt(ModelSettings):
    """A decoder of the OPT class."""

    label: ClassVar[str] = "OPT"
    model_type: ClassVar[str] = "opt"
    reads: ClassVar[Pooling] = "last"

    architecture: Literal["opt"]


AnyModel = Annotated[Opt | '''
STUDY = {
    "models": {"mine": {"architecture": "opt", "base": "./opt"}},
    "experiments": {
        "mine": {"title": "A new family", "grid": [{"datasets": ["defects"], "models": ["mine"], "attacks": ["none"]}]}
    },
}
BASE = """
import sys; sys.path.insert(0, {tests!r})
import planted
from transformers import OPTConfig, OPTModel
config = OPTConfig(vocab_size=planted.bpe().get_vocab_size(), hidden_size=32, num_hidden_layers=1,
                   num_attention_heads=2, ffn_dim=32, max_position_embeddings=256, word_embed_proj_dim=32,
                   pad_token_id=0)
OPTModel(config).save_pretrained("opt")
planted.wrap(planted.bpe(), "<s> $A </s>", 256).save_pretrained("opt")
"""
VICTIM = """
import torch
from pathlib import Path
from codebackdoor.config.loading import load
from codebackdoor.dag import Dag
from codebackdoor.victims import forward
from codebackdoor.victims.families import Family
from codebackdoor.victims.initialization import new_victim

dag = Dag(load([Path("config.yaml"), Path("mine.yaml")]))
settings = dag.parameters.declared_victim("mine", "defects")
victim = new_victim(settings, Path("opt"), "classification", "lexed", 2, 1)
ids = torch.tensor([[5, 6, 7]])
mask, embedded = torch.ones_like(ids), forward.embed(victim, ids)
plain = Family("opt").vectors(victim, embedded, mask)
print(type(victim.family).__name__, victim.pooling, torch.equal(forward.vectors(victim, embedded, mask), plain / 2))
print(len({dag.parameters.code("train", model=name) for name in ("mine", "codebert", "codet5")}))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a family and its recipe, a base model of it, and a study that uses it."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT / "workflow", root, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"), dirs_exist_ok=True
    )
    shutil.copy2(ROOT / "config.yaml", root)
    (root / "basemodels").symlink_to(ROOT / "basemodels")
    (root / FAMILIES / "opt.py").write_text(FAMILY)
    registry, models = root / FAMILIES / "__init__.py", root / "codebackdoor/config/models.py"
    text = registry.read_text().replace('Roberta("roberta"),', 'Opt("opt"), Roberta("roberta"),')
    first = "from codebackdoor.victims.families.roberta"
    registry.write_text(text.replace(first, f"from codebackdoor.victims.families.opt import Opt\n{first}"))
    models.write_text(models.read_text().replace("AnyModel = Annotated[", RECIPE))
    (root / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    run(root, BASE.format(tests=str(ROOT / "tests/unit")))
    return root


def run(root: Path, code: str, *arguments: str) -> str:
    environment = environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_study_of_a_new_family_is_checked(tree: Path) -> None:
    output = run(tree, "from codebackdoor.cli import main; main()", "check", "config.yaml", "mine.yaml")
    assert "no problems found" in output


def test_a_victim_of_a_new_family_runs_its_own_forward_pass(tree: Path) -> None:
    assert run(tree, VICTIM) == "Opt last True\n3\n"
