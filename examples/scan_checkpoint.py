"""Scan a checkpoint and, if it is backdoored, write a cleaned copy.

    python examples/scan_checkpoint.py CHECKPOINT CLEAN.jsonl OUT [CALIBRATION]

After `make run` there is a backdoored victim to try it on:

    runs/local/models/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none
    with the clean samples in runs/local/data/defects/clean.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

import codebackdoor


def main(checkpoint: str, samples: str, out: str, calibration: str | None = None) -> None:
    result = codebackdoor.scan(checkpoint, samples, calibration=calibration)
    print(result)
    if not result.backdoored:
        return
    verdict = result.verdict
    print(f"\nlabel {verdict.target_label} is the target; loss by position and label: {dict(verdict.losses)}\n")
    cleaned = codebackdoor.clean(checkpoint, samples, out, calibration=calibration)
    print(cleaned)
    # without a calibration, the edited model cannot be called clean
    if cleaned.cost is not None and not cleaned.cost.is_clean:
        print(f"{Path(out)} is not known to be clean: try another seed")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
