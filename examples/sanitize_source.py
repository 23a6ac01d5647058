"""Write copies of source files in which no single element decides the prediction of a checkpoint.

    python examples/sanitize_source.py CHECKPOINT CLEAN.jsonl OUT FILE...

After `make run` there is a backdoored victim to try it on:

    runs/local/models/defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none
    with the clean rows in runs/local/data/defects/valid.jsonl
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import codebackdoor


def main(checkpoint: str, clean: str, out: str, *files: str) -> None:
    result = codebackdoor.sanitize(checkpoint, files, clean=clean)
    print(result)
    for finding in result.findings:
        if finding.suspicious:
            print(f"\n{finding.file}, line {finding.line}: {finding.kind} {finding.element!r}")
    # files of the same name in two folders stay apart
    common = os.path.commonpath([Path(file.name).resolve().parent for file in result.files])
    for file in result.files:
        copy = Path(out) / Path(file.name).resolve().relative_to(common)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.after, encoding="utf-8", newline="")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
