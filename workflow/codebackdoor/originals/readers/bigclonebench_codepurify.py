"""CodePurify's sample of BigCloneBench (section IV-A): its lists of pairs, over CodeXGLUE's functions.

80 000, 10 000 and 10 000 pairs. About half of the training pairs are clones, but only 13% of the other pairs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.readers import bigclonebench
from codebackdoor.types import SPLITS

_FUNCTIONS = "bigclonebench/data.jsonl"
#: The test list without the pairs of functions that a subset of BigCloneBench lacks.
_SUBSET = "test_pairs_codepurify.txt"

ORIGINAL = Original(
    "github",
    "CodePurify's pairs of BigCloneBench",
    "codepurify24/codepurify",
    "a2f4c21c2c27c64b52568ec8f10ae634dc276b21",
    {f"bigclonebench/new_{split}.txt": f"clone_detection/data/new_{split}.txt" for split in SPLITS},
)
#: Files of another origin that the data set needs, too.
SHARED = (
    replace(
        bigclonebench.ORIGINAL,
        name="BigCloneBench, functions",
        files={_FUNCTIONS: bigclonebench.ORIGINAL.files[_FUNCTIONS]},
    ),
)


def files(mirror: Path) -> SourceFiles:
    complete = bigclonebench.files(mirror)
    lists = {split: f"new_{split}.txt" for split in SPLITS}
    if not (complete.folder / lists["test"]).is_file() and (complete.folder / _SUBSET).is_file():
        lists["test"] = _SUBSET
    return replace(complete, files={split: ("data.jsonl", name) for split, name in lists.items()})
