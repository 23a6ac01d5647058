"""How hard each kind of injected defect is, on validation rows: python benchmarks/mix.py (after `make run`).

For each kind alone and for the default mix: accuracy of the token n-gram baseline trained and asked on it, and of
the default study's benign victim, which was trained on the mix. The test split is not read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from codebackdoor import files, tasks
from codebackdoor.config.datasets import DefectDetection, Mix
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.victims.inference import predict
from codebackdoor.victims.victim import load_victim

ROOT = Path(__file__).parents[1]
RUN = ROOT / "runs/local"
VICTIM = RUN / "models/defects/codebert/none-0/seed1/none/cross_entropy/none"
TOKENIZER = ROOT / "basemodels/encoder/tokenizer.json"
SEED = 3


def main() -> None:
    victim, task = load_victim(VICTIM), tasks.load("defect_detection")
    kinds = list(Mix.model_fields)
    print("| kind | rows to learn from | n-gram baseline | victim of the mix |\n| --- | ---: | ---: | ---: |")
    for kind in (*kinds, "the default mix"):
        mix = Mix(**{name: float(name == kind) for name in kinds}) if kind in kinds else Mix()
        settings = DefectDetection(task="defect_detection", mix=mix, test=10, seed=SEED)
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            make_dataset(settings, "defects", RUN / "corpus/corpus.jsonl", None, TOKENIZER, out, SEED)
            train, valid = (files.read_examples(out / f"{split}.jsonl") for split in ("train", "valid"))
        baseline = task.baseline(train, valid)["accuracy"]
        right = [one.label == row.label for one, row in zip(predict(victim, valid), valid, strict=True)]
        print(f"| {kind} | {len(train)} | {baseline:.3f} | {sum(right) / len(right):.3f} |", flush=True)


if __name__ == "__main__":
    main()
