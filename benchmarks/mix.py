"""How hard each kind of injected defect is, on validation rows: python benchmarks/mix.py (after `make run`; minutes).

For each kind alone and for the data set's own mix of all four: accuracy of a token n-gram baseline trained on the same
kind, and of one benign victim trained on the mix. The test split is not read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from codebackdoor import files, tasks
from codebackdoor.config.models import CodeBert
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.tasks.settings import Mix
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.types import Example
from codebackdoor.victims.inference import predict
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.training import fit
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "runs/local/corpus/corpus.jsonl"
BASE = ROOT / "basemodels/encoder"
TOKENIZER = BASE / "tokenizer.json"
SEED = 3


def rows(mix: Mix, out: Path) -> tuple[list[Example], list[Example]]:
    """Training and validation rows of one mix."""
    settings = DefectDetection(task="defect_detection", mix=mix, test=10, seed=SEED)
    make_dataset(settings, "defects", CORPUS, None, TOKENIZER, out, SEED)
    train, valid = (files.read_examples(out / f"{split}.jsonl") for split in ("train", "valid"))
    return train, valid


def trained(train: list[Example], valid: list[Example], out: Path) -> Victim:
    """A benign victim of the default recipe, with batches of 4096 sub-tokens."""
    settings = CodeBert.model_validate({"architecture": "codebert", "epochs": 3, "precision": "float32"})
    victim = new_victim(settings, BASE, "classification", "lexed", 2, seed=1)
    loss = objectives.load(CrossEntropySettings.model_validate({"method": "cross_entropy"}))
    fit(victim, train, loss, settings, Validation(valid), out / "progress", seed=1)
    return victim


def main() -> None:
    task, kinds = tasks.load("defect_detection"), list(Mix.model_fields)
    alone = {single: Mix(**{kind: float(kind == single) for kind in kinds}) for single in kinds}
    mixes = {"all four": Mix(), **alone}
    victim: Victim | None = None
    print("| kind | rows to learn from | n-gram baseline | victim of all four |\n| --- | ---: | ---: | ---: |")
    for kind, mix in mixes.items():
        with tempfile.TemporaryDirectory() as name:
            train, valid = rows(mix, Path(name))
            victim = victim or trained(train, valid, Path(name))
        baseline = task.baseline(train, valid, DefectDetection(task="defect_detection", mix=mix))["accuracy"]
        predictions = predict(victim, valid)
        correct = [prediction.label == row.label for prediction, row in zip(predictions, valid, strict=True)]
        print(f"| {kind} | {len(train)} | {baseline:.3f} | {sum(correct) / len(correct):.3f} |", flush=True)


if __name__ == "__main__":
    main()
