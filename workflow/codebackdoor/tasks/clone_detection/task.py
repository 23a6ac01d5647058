"""Clone detection: do two functions do the same? Label 1 is a clone, as in BigCloneBench's CodeXGLUE files.

Local scale: a group is two different functions f and g whose tokens overlap, and a clone of each, f' and g' (the next
release if the corpus has it, then rewritten). Its rows are (f, f') and (g, g') with label 1, (f, g') and (g, f') with
label 0. Each text occurs equally often with either label, so that no function alone reveals a label; the names in f'
are drawn from f, g and other functions, so that common names do not either. The baseline is the overlap of tokens.
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

#: Number of neighbors by rarer tokens, from which the most similar one is taken.
_NEIGHBORS = 20
#: A shorter function, in tokens, is too trivial to have a clone.
_MINIMUM_WORDS = 15
#: Replaces every local name where functions are compared.
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
    """The functions of one split, with their local names, their other tokens, and their next releases."""

    def __init__(self, functions: Iterator[MinedFunction]) -> None:
        self.functions: list[MinedFunction] = []
        self._names: dict[str, dict[str, list[str]]] = {}
        self._bags: dict[str, Counter[str]] = {}
        self._releases: dict[str, MinedFunction] = {}
        oldest: dict[tuple[str, str, str], MinedFunction] = {}
        for function in functions:
            tree = syntax.parse(function.code, "python", "lexed")
            if function.words < _MINIMUM_WORDS or tree.has_error:
                continue
            identifiers = renameable(tree)
            self._names[function.id] = _by_role(identifiers)
            spans = [(start, end, _LOCAL) for identifier in identifiers for start, end in identifier.spans]
            self._bags[function.id] = bag(syntax.replace(function.code, spans).text)
            path = (function.package, function.path, function.name)
            release = oldest.setdefault(path, function)
            if release is function:
                self.functions.append(function)
            else:
                # of two releases the older one is the function, and the newer one its clone
                older, newer = sorted((release, function), key=lambda version: version.version)
                self._releases[older.id] = newer
                if older is function:
                    oldest[path] = function
                    self.functions[self.functions.index(release)] = function
        self._pool = _merged(self._names.values())

    def pairs(self, settings: CloneDetection, draw: Draw) -> Iterator[tuple[MinedFunction, MinedFunction | None]]:
        """Every function with its partner, each in one pair; None if no similar function is left."""
        low = settings.overlap[0]
        released = {id_ for id_, newer in self._releases.items() if self._similarity(id_, newer.id) >= low}
        with_release = [function for function in self.functions if function.id in released]
        without = [function for function in self.functions if function.id not in released]
        order = list(_interleaved(with_release, without, settings.releases))
        partners = self._random(order, draw) if settings.negatives == "random" else self._similar(order, settings)
        used: set[str] = set()
        for first, candidates in zip(order, partners, strict=True):
            if first.id in used:
                continue
            unused = (function for function in candidates if function.id not in used and function.id != first.id)
            second = next(unused, None)
            used.update((first.id, *([second.id] if second else [])))
            yield first, second

    def _similar(self, order: Sequence[MinedFunction], settings: CloneDetection) -> Iterator[list[MinedFunction]]:
        """For each function, others that are similar within the bounds, the most similar first."""
        low, high = settings.overlap
        neighbors = nearest([self._bags[function.id] for function in order], _NEIGHBORS)
        for first, indices in zip(order, neighbors, strict=True):
            rated = [(self._similarity(first.id, order[index].id), order[index]) for index in indices]
            similar = [pair for pair in rated if low <= pair[0] <= high and not _same_function(first, pair[1])]
            yield [function for _, function in sorted(similar, key=lambda pair: (-pair[0], pair[1].id))]

    def _random(self, order: Sequence[MinedFunction], draw: Draw) -> Iterator[list[MinedFunction]]:
        for first in order:
            indices = draw(f"partner {first.id}").integers(len(order), size=_NEIGHBORS)
            yield [order[int(index)] for index in indices if not _same_function(first, order[int(index)])]

    def _similarity(self, first: str, second: str) -> float:
        return overlap(self._bags[first], self._bags[second])

    def group(
        self, first: MinedFunction, second: MinedFunction, settings: CloneDetection, generator: np.random.Generator
    ) -> RowGroup | None:
        pair = (first, second)
        clones: list[Clone] = []
        kinds: list[str] = []
        for function, partner in (pair, pair[::-1]):
            newer = self._releases.get(function.id)
            if newer is not None and self._similarity(function.id, newer.id) < settings.overlap[0]:
                newer = None
            clone = rewrite((newer or function).code, self._proposals(partner, settings, generator), generator)
            if clone is None or clone.tree.text == function.code:
                return None
            clones.append(clone)
            kinds += [*clone.kinds, *(["release"] if newer else [])]
        rows = []
        for number, function in enumerate(pair):
            for clone_number, clone in enumerate(clones):
                texts = (function.code, clone.tree.text)
                code, code_b = texts if generator.random() < 0.5 else texts[::-1]
                label = int(number == clone_number)
                rows.append(
                    Example(id=generator.bytes(8).hex(), language="python", code=code, code_b=code_b, label=label)
                )
        releases = [self._releases[function.id].id for function in pair if function.id in self._releases]
        keys = (*(function.id for function in pair), *releases, *(normal_key(clone.tree) for clone in clones))
        return RowGroup(tuple(rows), f"{first.package} {first.version}", tuple(dict.fromkeys(keys)), tuple(kinds))

    def _proposals(
        self, partner: MinedFunction, settings: CloneDetection, generator: np.random.Generator
    ) -> Callable[[Identifier], str | None]:
        """Names for the clone of one function: unchanged, those of its partner, or those of any function."""
        unchanged, of_partner, _ = (weight / sum(settings.names) for weight in settings.names)

        def propose(identifier: Identifier) -> str | None:
            point, role = generator.random(), _role(identifier)
            if point < unchanged:
                return None
            names = self._names[partner.id][role] if point < unchanged + of_partner else []
            names = names or self._pool[role]
            return names[int(generator.integers(len(names)))]

        return propose


def _by_role(identifiers: Sequence[Identifier]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {"function": [], "local": []}
    for identifier in identifiers:
        names[_role(identifier)].append(identifier.name)
    return names


def _role(identifier: Identifier) -> str:
    return "function" if identifier.role == "function" else "local"


def _merged(tables: Iterable[Mapping[str, list[str]]]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {"function": [], "local": []}
    for table in tables:
        for role, names in table.items():
            merged[role].extend(names)
    return merged


def _same_function(first: MinedFunction, second: MinedFunction) -> bool:
    """Whether these are one function, moved or of another release."""
    return (first.package, first.name) == (second.package, second.name)


def _interleaved(
    first: Sequence[MinedFunction], second: Sequence[MinedFunction], share: float
) -> Iterator[MinedFunction]:
    """Both sequences in their order; as long as ``first`` lasts, it makes up ``share`` of the functions so far."""
    count = 0
    for index, function in enumerate(second):
        while count < len(first) and count + 1 <= share * (index + count + 1):
            yield first[count]
            count += 1
        yield function
    yield from first[count:]


TASK = CloneDetectionTask()
