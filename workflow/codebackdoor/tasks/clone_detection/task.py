"""Clone detection: do two functions do the same? Label 1 is a clone, as in BigCloneBench's CodeXGLUE files.

Local scale: a group is two different functions f and g whose tokens overlap, and a clone of each, f' and g' (the next
release where the corpus has it, then rewritten). Its rows are (f, f') and (g, g') with label 1, (f, g') and (g, f')
with label 0. Each text stands in as many clones as others, so that no function alone gives a label away; the names in
f' are drawn from f, g and others alike, so that common names do not either. The baseline is the overlap of tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor import syntax
from codebackdoor.tasks import card
from codebackdoor.tasks.base import Draw, RowGroup, Task
from codebackdoor.tasks.baselines import token_overlap
from codebackdoor.tasks.clone_detection.neighbors import bag, nearest, overlap
from codebackdoor.tasks.clone_detection.rewriting import Clone, renameable, rewrite
from codebackdoor.tasks.deduplication import normal_key
from codebackdoor.types import Example

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.syntax import Identifier
    from codebackdoor.tasks.clone_detection.settings import CloneDetection

#: Neighbours by rarer tokens of which the most alike is taken.
_NEIGHBOURS = 20
#: A shorter function says too little to have a clone, in tokens.
_LEAST_WORDS = 15
#: Stands for every local name where functions are compared.
_LOCAL = "#"


class CloneDetectionTask(Task):
    unusable = "no_similar_function"

    def groups(
        self, functions: Iterator[MinedFunction], settings: CloneDetection, draw: Draw
    ) -> Iterator[RowGroup | None]:
        material = _Material(functions)
        for first, second in material.pairs(settings, draw):
            group = None if second is None else material.group(first, second, settings, draw(first.id))
            yield group

    def baseline(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        settings: CloneDetection,  # noqa: ARG002
    ) -> dict[str, Any]:
        return token_overlap(train, test)

    def card_facts(self, groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, Any]:
        return {"rewritings": card.rewritings(groups)}


class _Material:
    """The functions of one split: their names, the tokens between these, and the next release of each."""

    def __init__(self, functions: Iterator[MinedFunction]) -> None:
        self.functions: list[MinedFunction] = []
        self._names: dict[str, dict[str, list[str]]] = {}
        self._bags: dict[str, Counter[str]] = {}
        self._releases: dict[str, MinedFunction] = {}
        homes: dict[tuple[str, str, str], MinedFunction] = {}
        for one in functions:
            tree = syntax.parse(one.code, "python", "lexed")
            if one.words < _LEAST_WORDS or tree.has_error:
                continue
            own = renameable(tree)
            self._names[one.id] = _by_role(own)
            spans = [(start, end, _LOCAL) for name in own for start, end in name.spans]
            self._bags[one.id] = bag(syntax.replace(one.code, spans).text)
            home = (one.package, one.path, one.name)
            other = homes.setdefault(home, one)
            if other is one:
                self.functions.append(one)
            else:
                # of two releases the older one is the function, and the newer its clone
                older, newer = sorted((other, one), key=lambda some: some.version)
                self._releases[older.id] = newer
                if older is one:
                    homes[home] = one
                    self.functions[self.functions.index(other)] = one
        self._pool = _merged(self._names.values())

    def pairs(self, settings: CloneDetection, draw: Draw) -> Iterator[tuple[MinedFunction, MinedFunction | None]]:
        """Every function with its partner, each in one pair; None where none is left that is like it."""
        low = settings.overlap[0]
        clones = {one for one, newer in self._releases.items() if self._alike(one, newer.id) >= low}
        some = [one for one in self.functions if one.id in clones]
        rest = [one for one in self.functions if one.id not in clones]
        order = list(_mixed(some, rest, settings.releases))
        near = self._random(order, draw) if settings.negatives == "random" else self._similar(order, settings)
        used: set[str] = set()
        for first, candidates in zip(order, near, strict=True):
            if first.id in used:
                continue
            second = next((one for one in candidates if one.id not in used and one.id != first.id), None)
            used.update((first.id, *([second.id] if second else [])))
            yield first, second

    def _similar(self, order: Sequence[MinedFunction], settings: CloneDetection) -> Iterator[list[MinedFunction]]:
        """For each function, others that are alike within the bounds, the most alike first."""
        low, high = settings.overlap
        for first, places in zip(order, nearest([self._bags[one.id] for one in order], _NEIGHBOURS), strict=True):
            measured = [(self._alike(first.id, order[place].id), order[place]) for place in places]
            kept = [pair for pair in measured if low <= pair[0] <= high and not _same_function(first, pair[1])]
            yield [one for _, one in sorted(kept, key=lambda pair: (-pair[0], pair[1].id))]

    def _random(self, order: Sequence[MinedFunction], draw: Draw) -> Iterator[list[MinedFunction]]:
        for first in order:
            places = draw(f"partner {first.id}").integers(len(order), size=_NEIGHBOURS)
            yield [order[int(place)] for place in places if not _same_function(first, order[int(place)])]

    def _alike(self, first: str, second: str) -> float:
        return overlap(self._bags[first], self._bags[second])

    def group(
        self, first: MinedFunction, second: MinedFunction, settings: CloneDetection, generator: np.random.Generator
    ) -> RowGroup | None:
        pair = (first, second)
        made: list[Clone] = []
        kinds: list[str] = []
        for one, other in (pair, pair[::-1]):
            newer = self._releases.get(one.id)
            if newer is not None and self._alike(one.id, newer.id) < settings.overlap[0]:
                newer = None
            clone = rewrite((newer or one).code, self._proposals(other, settings, generator), generator)
            if clone is None or clone.tree.text == one.code:
                return None
            made.append(clone)
            kinds += [*clone.kinds, *(["release"] if newer else [])]
        rows = []
        for place, function in enumerate(pair):
            for home, clone in enumerate(made):
                texts = (function.code, clone.tree.text)
                code, code_b = texts if generator.random() < 0.5 else texts[::-1]
                label = int(place == home)
                rows.append(
                    Example(id=generator.bytes(8).hex(), language="python", code=code, code_b=code_b, label=label)
                )
        releases = [self._releases[one.id].id for one in pair if one.id in self._releases]
        keys = (*(one.id for one in pair), *releases, *(normal_key(clone.tree) for clone in made))
        return RowGroup(tuple(rows), f"{first.package} {first.version}", tuple(dict.fromkeys(keys)), tuple(kinds))

    def _proposals(
        self, other: MinedFunction, settings: CloneDetection, generator: np.random.Generator
    ) -> Callable[[Identifier], str | None]:
        """Names for the clone of one function: its own, the other function's, or any function's."""
        stays, theirs, _ = (weight / sum(settings.names) for weight in settings.names)

        def propose(identifier: Identifier) -> str | None:
            point, role = generator.random(), _role(identifier)
            if point < stays:
                return None
            names = self._names[other.id][role] if point < stays + theirs else []
            names = names or self._pool[role]
            return names[int(generator.integers(len(names)))]

        return propose


def _by_role(identifiers: Sequence[Identifier]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"function": [], "local": []}
    for one in identifiers:
        found[_role(one)].append(one.name)
    return found


def _role(identifier: Identifier) -> str:
    return "function" if identifier.role == "function" else "local"


def _merged(names: Iterable[Mapping[str, list[str]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"function": [], "local": []}
    for one in names:
        for role, some in one.items():
            found[role].extend(some)
    return found


def _same_function(first: MinedFunction, second: MinedFunction) -> bool:
    """Whether these are one function, moved or of another release."""
    return (first.package, first.name) == (second.package, second.name)


def _mixed(some: Sequence[MinedFunction], rest: Sequence[MinedFunction], share: float) -> Iterator[MinedFunction]:
    """Both in their order, ``some`` making up ``share`` of what comes first, as long as they last."""
    taken = 0
    for count, one in enumerate(rest):
        while taken < len(some) and taken + 1 <= share * (count + taken + 1):
            yield some[taken]
            taken += 1
        yield one
    yield from some[taken:]


TASK = CloneDetectionTask()
