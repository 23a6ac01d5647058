"""The text that `sanitize` prints about source files."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codebackdoor.library.sanitizing import InputFinding, SanitizeResult

#: Maximum length of an element's text that is quoted, in characters.
_QUOTED = 100
#: Unprintable characters of source files that are harmless in a terminal, such as a form feed or a byte order mark.
_HARMLESS = "\t\n\f\ufeff"


def harmless(diff: str) -> str:
    """A diff with characters that could control a terminal escaped; otherwise unchanged, so that ``patch`` reads it."""
    return "\r\n".join("".join(map(_escaped, part)) for part in diff.split("\r\n"))


def _escaped(char: str) -> str:
    # isprintable is False for separators, such as a no-break space
    is_safe = char.isprintable() or char in _HARMLESS or unicodedata.category(char).startswith("Z")
    return char if is_safe else ascii(char)[1:-1]


def lines(result: SanitizeResult) -> list[str]:
    """The findings and the reasons for them; the first line is a summary."""
    suspicious = [finding for finding in result.findings if finding.suspicious]
    files = f"{len(result.files)} file{'s' * (len(result.files) != 1)}"
    inputs = f"{len(result.findings)} input{'s' * (len(result.findings) != 1)} in {files}"
    answer = f"nothing suspicious in {inputs}"
    if suspicious:
        answer = f"suspicious: {len(suspicious)} of {inputs}"
    most = "most" if result.purified == "all" else "almost only"
    explained = [line for finding in suspicious for line in _explained(finding, most)]
    return [answer, *explained, f"  {_rule(result)}", *(f"  note: {note}" for note in result.notes)]


def _rule(result: SanitizeResult) -> str:
    """The rule by which inputs count as suspicious."""
    if result.threshold is None:
        which = "every input is purified" if result.purified == "all" else "no input is purified"
        if not result.calibrated_on:
            return f"{which}, as given"
        return f"{which}: touched_share is {result.touched_share:g}, on {result.calibrated_on} clean rows"
    rule = f"entropies below {result.threshold:.3f} are suspicious"
    if not result.calibrated_on:
        return f"{rule}, as given"
    share = f"{result.touched_share:.1%} of the {result.calibrated_on} clean rows"
    return f"{rule}, calibrated so that {share} fall below it as well"


def _explained(finding: InputFinding, most: str) -> list[str]:
    pair = "" if finding.name_b is None else f" and {finding.name_b}"
    element = " ".join(str(finding.element).split())
    quote = element if len(element) <= _QUOTED else f"{element[:_QUOTED]}..."
    subject = "the output" if finding.label is None else f"the prediction, label {finding.label},"
    entropy = "" if finding.entropy is None else f", and the entropy of all such changes is {finding.entropy:.3f}"
    return [
        f"{finding.file}:{finding.line}: {finding.name}{pair}",
        f"  {subject} depends {most} on the {finding.kind} `{quote}`: masking it changes the confidence by "
        f"{finding.effect or 0:.3f}{entropy}",
        f"  {_replacement(finding)}",
    ]


def _replacement(finding: InputFinding) -> str:
    if not finding.replaced:
        where = "for one of the two functions, so only the other one was changed"
        if not finding.lines:
            where = "here, so nothing was changed"
        return f"the infiller knows no legal replacement {where}: inspect it manually"
    at = f" on line{'s' * (len(finding.lines) > 1)} {', '.join(map(str, finding.lines))}"
    # the lines of a pair are lines of two files
    replaced = "replaced" if finding.name_b is not None else f"replaced{at}"
    if finding.parses is False:
        replaced += ", but the replacement does not parse: inspect it manually"
    if finding.label is None:
        return f"{replaced}; see the diff"
    same = "still" if finding.label == finding.label_after else "then"
    return f"{replaced}; the model {same} predicts label {finding.label_after}"
