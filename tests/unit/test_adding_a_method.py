"""A method is one folder and one entry of ``config/methods.py``: nothing else of the package changes for it."""

from __future__ import annotations

import difflib
import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = "workflow/codebackdoor"
COMMAND = "from codebackdoor.cli import main; main()"
REGISTRY = f"{PACKAGE}/config/methods.py"


@dataclass(frozen=True)
class Method:
    """A method to add: its section and folder, the base of its settings, its union, and the arguments of ``build``."""

    section: str
    folder: str
    base: str
    union: str
    build: str

    @property
    def name(self) -> str:
        return self.folder.rpartition("/")[2]

    @property
    def settings(self) -> str:
        module, _, base = self.base.rpartition(".")
        return (
            "from typing import Literal\n\n"
            f"from {module} import {base}\n\n\n"
            f"class {self.name.title()}Settings({base}):\n"
            f'    """Something new."""\n\n    method: Literal["{self.name}"]\n'
        )

    @property
    def entry(self) -> str:
        return f"from codebackdoor.{self.folder.replace('/', '.')}.settings import {self.name.title()}Settings\n"


METHODS = (
    Method("attacks", "attacks/suffix", "codebackdoor.attacks.settings.AttackSettings", "AnyAttack", "settings"),
    Method(
        "purifications",
        "defenses/purification/shuffle",
        "codebackdoor.defenses.purification.settings.PurificationSettings",
        "AnyPurification",
        "view, settings, seed",
    ),
    Method(
        "filterings",
        "defenses/filtering/lottery",
        "codebackdoor.defenses.filtering.settings.FilterSettings",
        "AnyFiltering",
        "view, settings, seed",
    ),
    Method(
        "objectives",
        "defenses/objectives/focal",
        "codebackdoor.defenses.objectives.settings.ObjectiveSettings",
        "AnyObjective",
        "settings",
    ),
    Method(
        "eliminations",
        "defenses/elimination/damping",
        "codebackdoor.defenses.elimination.settings.EliminationSettings",
        "AnyElimination",
        "view, settings, seed, context=None",
    ),
    Method(
        "eliminations",
        "defenses/elimination/sounding",
        "codebackdoor.defenses.elimination.inversion.calibration.settings.CalibratedSettings",
        "AnyElimination",
        "view, settings, seed, context=None",
    ),
)
#: In place of a ``build`` that is never called: an elimination that shrinks every weight, to be run.
DAMPING = """
from copy import deepcopy
from dataclasses import replace

import torch

from codebackdoor.defenses.elimination import Elimination


@torch.no_grad()
def eliminate(view, settings, seed, context=None):
    model = deepcopy(view.victim.model)
    for parameter in model.parameters():
        parameter *= 0.5
    return Elimination(replace(view.victim, model=model), None)
"""
#: The label scan of ``new_sounding``: what a benign victim reaches is 0.3, whatever it is.
SOUNDING = """
def find(view, settings, seed, context=None):
    raise NotImplementedError


def eliminate(view, settings, seed, context=None):
    raise NotImplementedError


def scan_losses(view, settings, seed, context=None):
    return {position: {"0": 0.3, "1": 0.6} for position in settings.positions}
"""
BODIES = {"damping": DAMPING, "sounding": SOUNDING}
CALIBRATION = "runs/local/calibration/{dataset}/{model}/new_sounding.json"
STUDY: dict[str, Any] = {
    **{method.section: {f"new_{method.name}": {"method": method.name}} for method in METHODS},
    "eliminations": {
        "new_damping": {"method": "damping"},
        "new_sounding": {"method": "sounding", "position": "rank", "rank": 2, "calibration": CALIBRATION},
    },
    "experiments": {
        "mine": {
            "title": "New methods",
            "grid": [
                {
                    "datasets": ["defects"],
                    "models": ["codebert"],
                    "attacks": ["new_suffix"],
                    "purifications": ["none", "new_shuffle"],
                    "filterings": ["none", "new_lottery"],
                    "objectives": ["cross_entropy", "new_focal"],
                    "eliminations": ["none", "new_damping", "new_sounding"],
                }
            ],
        }
    },
}


def add(method: Method, root: Path) -> None:
    """Write the folder of a method, and its entry."""
    folder = root / PACKAGE / method.folder
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "settings.py").write_text(method.settings)
    implementation = f"def build({method.build}):\n    raise NotImplementedError\n"
    (folder / "method.py").write_text(BODIES.get(method.name, implementation))
    text = (root / REGISTRY).read_text()
    first = text.index("from codebackdoor.")
    text = text[:first] + method.entry + text[first:]
    head, _, tail = text.partition(f"{method.union} = ")
    settings = f"{method.name.title()}Settings"
    if tail.startswith("Annotated["):
        tail = tail.replace("Settings,", f"Settings | {settings},", 1)
    else:
        single, _, rest = tail.partition("\n")
        tail = f'Annotated[{single} | {settings}, Field(discriminator="method")]\n{rest}'
    (root / REGISTRY).write_text(f"{head}{method.union} = {tail}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a method of each kind added, and a study that uses them."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "workflow", root / "workflow", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "configs", root / "configs")
    shutil.copy2(ROOT / "config.yaml", root)
    (root / "basemodels").symlink_to(ROOT / "basemodels")
    for method in METHODS:
        add(method, root)
    (root / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    return root


def run(tree: Path, *command: str, stdin: str = "") -> str:
    environment = os.environ | {"PYTHONPATH": str(tree / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def changed(comparison: filecmp.dircmp[str], folder: str = "") -> Iterator[tuple[str, str]]:
    """Files and folders that differ between two trees, and how."""
    for name in comparison.right_only:
        yield "new", folder + name
    for name in (*comparison.diff_files, *comparison.left_only):
        yield "changed", folder + name
    for name, inner in comparison.subdirs.items():
        yield from changed(inner, f"{folder}{name}/")


def test_a_method_is_a_folder_and_an_entry(tree: Path) -> None:
    differences = set(changed(filecmp.dircmp(ROOT / PACKAGE, tree / PACKAGE, ignore=["__pycache__"])))
    assert differences == {("changed", "config/methods.py"), *(("new", method.folder) for method in METHODS)}
    before, after = ((root / REGISTRY).read_text().splitlines() for root in (ROOT, tree))
    added = [line for line in difflib.ndiff(before, after) if line.startswith("+ ")]
    # of each method its import, and its name in the union
    assert len(added) == len(METHODS) + len({method.union for method in METHODS})
    for method in METHODS:
        assert sum(f"{method.name.title()}Settings" in line for line in added) == 2


def test_a_study_with_new_methods_is_valid_and_its_jobs_have_parameters(tree: Path) -> None:
    output = run(tree, "-c", COMMAND, "check", "config.yaml", "mine.yaml")
    assert "mine" in output
    assert "no problems found" in output
    code = (
        "from pathlib import Path; from codebackdoor.config.loading import load; from codebackdoor.dag import Dag\n"
        "dag = Dag(load([Path('config.yaml'), Path('mine.yaml')]))\n"
        "for stage, kind, name in (('poison', 'attack', 'new_suffix'), ('purify', 'purification', 'new_shuffle'),\n"
        "                          ('filter', 'filtering', 'new_lottery'), ('train', 'objective', 'new_focal'),\n"
        "                          ('eliminate', 'elimination', 'new_damping'),\n"
        "                          ('eliminate', 'elimination', 'new_sounding')):\n"
        "    print(dag.parameters.settings(kind, name), dag.parameters.code(stage, **{kind: name}))"
    )
    assert len(run(tree, "-c", code).splitlines()) == len(METHODS)


def test_a_new_elimination_is_found_and_edits_a_victim(tree: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests/unit')!r})\n"
        "import planted, torch; from codebackdoor.defenses import elimination\n"
        "from codebackdoor.defenses.elimination.damping.settings import DampingSettings\n"
        "view = planted.make_view(); settings = DampingSettings(method='damping')\n"
        "edited = elimination.load('damping')(view, settings, 1).victim.model\n"
        "pairs = zip(edited.parameters(), view.victim.model.parameters(), strict=True)\n"
        "print(all(torch.equal(new, old / 2) for new, old in pairs))"
    )
    assert run(tree, "-c", code) == "True\n"


def test_a_new_label_scan_is_calibrated_like_any_other(tree: Path) -> None:
    """The graph makes and reads its calibration, and the service makes one of what benign victims reach."""
    code = (
        "import json\nfrom pathlib import Path; from types import SimpleNamespace as Wildcards\n"
        "from codebackdoor.config.loading import load; from codebackdoor.dag import Dag\n"
        "dag = Dag(load([Path('config.yaml'), Path('mine.yaml')]))\n"
        "wildcards = Wildcards(dataset='defects', model='codebert', elimination='new_sounding')\n"
        "print(dag.files.calibration('new_sounding', 'defects', 'codebert'))\n"
        "print(json.loads(dag.defend.eliminate_settings(wildcards))['calibration'])\n"
        "print(dag.defend.calibrate_settings(wildcards))"
    )
    read, named, search = run(tree, "-c", code).splitlines()
    assert read == named == CALIBRATION.format(dataset="defects", model="codebert")
    assert json.loads(search).items() >= {"method": "sounding", "position": "rank", "rank": 2, "ratio": 0.5}.items()
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests/unit')!r})\n"
        "import planted; from codebackdoor.defenses.elimination.inversion.calibration import losses, stage\n"
        "from codebackdoor.defenses.elimination.sounding.settings import SoundingSettings\n"
        "settings = SoundingSettings(method='sounding')\n"
        "scans = {name: stage.scanned(planted.make_view(), settings, 1) for name in 'abcde'}\n"
        "calibration = losses.make('defect_detection', settings, 'classification', scans, {})\n"
        "print(calibration.margin('least_sensitive', 0, 0.3), calibration.losses['least_sensitive']['1'])"
    )
    assert run(tree, "-c", code) == f"0.0 {(0.6,) * 5}\n"


def test_a_plan_shows_methods_without_a_price_as_a_question_mark(tree: Path) -> None:
    """For hub checkpoints, and from the dry run of a local study."""
    bill = run(tree, "-c", COMMAND, "plan", "config.yaml", "configs/paper.yaml", "mine.yaml")
    rows = [line.rsplit(maxsplit=3) for line in bill.splitlines() if len(line.split()) > 3]
    unpriced = {row[0] for row in rows if row[-2:] == ["?", "?"]}
    assert unpriced == {
        "poison defects",
        "filter new_lottery, defects",
        "purify new_shuffle, codebert",
        "calibrate codebert, defects",
        "eliminate new_damping",
        "eliminate new_sounding",
    }
    (total,) = (row for row in rows if row[0] == "total")
    assert float(total[2]) > 0
    victim = "defects/codebert/new_suffix-0.05/seed1"
    logs = (
        "poison/defects/new_suffix-0.05/seed1",
        "filter/defects/new_suffix-0.05/seed1/filtered/new_lottery",
        f"train/{victim}/none/new_focal/none",
        f"train/{victim}/none/cross_entropy/none",
        f"purify/{victim}/none/cross_entropy/none/new_shuffle",
        f"eliminate/{victim}/none/cross_entropy/new_damping",
    )
    dry_run = "poison 1\nfilter 1\ntrain 2\npurify 1\neliminate 1\ntotal 6\n"
    dry_run += "".join(f"codebackdoor do > runs/local/logs/{log}.log 2>&1\n" for log in logs)
    plan = run(tree, "-c", COMMAND, "plan", "config.yaml", "mine.yaml", stdin=dry_run)
    unpriced_jobs = "poison suffix, filter lottery, train focal, purify shuffle, eliminate damping"
    assert f"?: never timed, and not in the total: {unpriced_jobs}." in plan
