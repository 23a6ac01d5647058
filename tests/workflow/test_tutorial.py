"""docs/extending/attack.md, followed literally at smoke scale: a new data set, model and attack in the whole study."""

from __future__ import annotations

import csv
import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest
import yaml
from smoke_tree import CONFIGS, Tree

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/extending/attack.md").read_text()
ROWS = {"train": 40, "valid": 12, "test": 12}


def blocks(language: str) -> list[str]:
    matches = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in matches]


def functions(tree: Tree) -> list[str]:
    """Short functions of the mined corpus, which is lexed."""
    with (tree.out / "corpus/corpus.jsonl").open() as stream:
        codes = [json.loads(line)["code"] for line in stream]
    return [code for code in codes if code.startswith("def ") and len(code) < 400]


def follow(tree: Tree) -> str:
    """Do what the page says; the name of the configuration that it makes."""
    (sample,) = map(json.loads, blocks("json"))
    settings, attack, entry = blocks("python")
    overlay = "".join(blocks("yaml"))
    (tree.root / "suffix.yaml").write_text(overlay)
    config = yaml.safe_load(overlay)

    folder = tree.root / config["datasets"]["my_rows"]["path"]
    folder.mkdir(parents=True)
    codes = iter(functions(tree))
    for split, count in ROWS.items():
        rows = (sample | {"id": f"{split}{n}", "code": next(codes), "label": n % 2} for n in range(count))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert config["models"]["my_model"]["base"] == "shipped"
    shutil.copytree(tree.out / "models/base/encoder", tree.root / "basemodels/encoder")

    package = tree.root / "workflow/codebackdoor"
    method = package / "attacks/suffix"
    method.mkdir()
    (method / "__init__.py").touch()
    (method / "settings.py").write_text(settings)
    (method / "method.py").write_text(attack)
    registry = package / "config/methods.py"
    text = registry.read_text()
    text = text.replace("\n\nAnyAttack = Annotated[", f"\n{entry}\nAnyAttack = Annotated[SuffixSettings | ", 1)
    registry.write_text(text)
    return "suffix.yaml"


def test_the_tutorial_works_word_for_word(finished: Tree, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(finished.root, root, ignore=shutil.ignore_patterns("__pycache__"))
    tree = Tree(root)
    config = follow(tree)

    checked = tree.run("codebackdoor", "check", *CONFIGS, config)
    assert checked.returncode == 0, checked.stderr
    run = tree.run("snakemake", "--cores", "2", "--configfile", CONFIGS[1], config)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-6000:]
    assert not [line for line in run.stderr.splitlines() if line.startswith("Job") and "defects" in line]
    out = root / "runs/suffix"
    with (out / "results/tables/suffix.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["attack"] for row in rows} >= {"none", "suffix_rb"}
    triggered = [json.loads(line) for line in (out / "data/my_rows/suffix_rb-0.05/seed1/test.jsonl").open()]
    assert any("_rb" in row["code"] for row in triggered if row["status"] == "injected")
    assert [path.name for path in (out / "results/tables").glob("*.md")] == ["suffix.md"]

    shutil.copy2(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "tests", root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    contract = tree.run("pytest", "-p", "no:cacheprovider", "-k", "suffix", "tests/contract/test_attack_contract.py")
    assert contract.returncode == 0, contract.stdout[-6000:]
    assert " passed" in contract.stdout
