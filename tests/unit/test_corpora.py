"""From a pinned archive to a corpus: only verified bytes, only usable functions, each and its clones once."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from codebackdoor.cli import main
from codebackdoor.corpora.archives import ARCHIVES, Archive
from codebackdoor.corpora.mining import MinedFunction, clone_key, mine, split_of, unique
from codebackdoor.corpora.stage import read_functions
from codebackdoor.files import write_rows
from codebackdoor.syntax import lexing

SHORT = "def {}(item):\n    item += 1\n    return item\n"
METHOD = '''
class Cart:
    @property
    @cached(limit=3)
    def total(self):
        """Sum of the items.

        In cents.
        """
        return sum(self.items)  # slow
'''
NAME, FILE = "corner-shop-1.0", "corner_shop-1.0-py3-none-any.whl"


def wheel(files: Mapping[str, str | bytes]) -> bytes:
    """Return a wheel that pip, too, takes for one."""
    about = {"METADATA": "Metadata-Version: 2.1\nName: corner-shop\nVersion: 1.0\n", "WHEEL": "Wheel-Version: 1.0\n"}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, content in [*files.items(), *((f"corner_shop-1.0.dist-info/{key}", about[key]) for key in about)]:
            archive.writestr(path, content)
    return stream.getvalue()


WHEEL = wheel({"shop/cart.py": METHOD})
SHOP = Archive("corner-shop", "1.0", FILE, hashlib.sha256(WHEEL).hexdigest(), "MIT")
DAMAGED = {"changed": WHEEL[:-1] + b"!", "truncated": WHEEL[:-1], "missing": None}
damages = pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHIVES, NAME, SHOP)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def put(path: Path, data: bytes | None) -> Path:
    path.parent.mkdir()
    if data is not None:
        path.write_bytes(data)
    return path


def assert_refused(result: Result, out: Path, name: str = "corner-shop") -> None:
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")
    assert name in result.stderr
    assert not out.parent.exists() or not list(out.parent.iterdir())


def mined(source: str) -> list[MinedFunction]:
    return list(mine(SHOP, wheel({"shop/cart.py": source})))


def names(source: str) -> list[str]:
    return [function.name for function in mined(source)]


def key(source: str) -> str:
    return clone_key(lexing.words(source, "python"))


def test_an_archive_comes_whole_from_the_mirror(tmp_path: Path) -> None:
    mirror, out = put(tmp_path / "mirror" / FILE, WHEEL).parent, tmp_path / "out" / "shop.whl"
    assert run("fetch", NAME, "--mirror", mirror, "--out", out).exit_code == 0
    assert [path.name for path in out.parent.iterdir()] == ["shop.whl"]
    assert out.read_bytes() == WHEEL


@damages
def test_a_wrong_archive_of_the_mirror_is_refused(data: bytes | None, tmp_path: Path) -> None:
    mirror, out = put(tmp_path / "mirror" / FILE, data).parent, tmp_path / "out" / "shop.whl"
    assert_refused(run("fetch", NAME, "--mirror", mirror, "--out", out), out)


def test_what_the_index_gives_is_verified_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(put(tmp_path / "index" / FILE, WHEEL).parent))
    monkeypatch.delenv("CODEBACKDOOR_MIRROR", raising=False)
    out, bad = tmp_path / "out" / "shop.whl", tmp_path / "bad" / "shop.whl"
    # a mirror is instead of the index, not beside it
    assert_refused(run("fetch", NAME, "--mirror", tmp_path, "--out", bad), bad)
    assert run("fetch", NAME, "--out", out).exit_code == 0
    assert out.read_bytes() == WHEEL
    monkeypatch.setitem(ARCHIVES, NAME, replace(SHOP, sha256="0" * 64))
    assert_refused(run("fetch", NAME, "--out", bad), bad)


@damages
def test_a_wrong_archive_is_not_mined(data: bytes | None, tmp_path: Path) -> None:
    path, out = put(tmp_path / "in" / "a.whl", data), tmp_path / "out" / "mined.jsonl"
    assert_refused(run("mine", NAME, "--archive", path, "--out", out), out, NAME)


def test_a_mining_that_breaks_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHIVES, NAME, replace(SHOP, sha256=hashlib.sha256(b"no zip").hexdigest()))
    path, out = put(tmp_path / "in" / "a.whl", b"no zip"), tmp_path / "out" / "mined.jsonl"
    assert run("mine", NAME, "--archive", path, "--out", out).exit_code != 0
    assert not list(out.parent.iterdir())


def test_a_function_is_mined_without_decorators_comments_and_docstring(tmp_path: Path) -> None:
    path, out = put(tmp_path / "in" / "a.whl", WHEEL), tmp_path / "out" / "mined.jsonl"
    assert run("mine", NAME, "--archive", path, "--out", out).exit_code == 0
    code = "def total ( self ) : <indent> return sum ( self . items ) <dedent>"
    words, source_path, split = code.split(), "shop/cart.py", split_of("corner-shop", "shop/cart.py")
    about = (clone_key(words), "corner-shop", "1.0", source_path, "Cart.total", split, len(words))
    assert read_functions(out) == [MinedFunction(*about, code, "Sum of the items.\n\nIn cents.")]
    assert mined(SHORT.format("f"))[0].docstring is None


@pytest.mark.parametrize("word", ["locals", "vars", "globals", "eval", "exec", "dir"])
def test_a_function_that_depends_on_local_names_is_left_out(word: str) -> None:
    bodies = {"call": f"{word}(x)", "alias": f"[{word}]", "method": f"self.{word}()", "part": f"{word}ectory"}
    source = "".join(f"def {name}(self, x):\n    x = {body}\n    return x\n" for name, body in bodies.items())
    assert names(source) == ["method", "part"]


def test_a_form_feed_is_no_line_end() -> None:
    [function] = mined("x = 1\n\x0c\n" + SHORT.format("f"))
    assert function.code == mined(SHORT.format("f"))[0].code
    assert function.code.endswith("return item <dedent>")


def test_functions_of_3_to_60_lines_are_mined() -> None:
    source = [["@cached", f"def f{count}(x):", *["    x += 1"] * (count - 1)] for count in (2, 3, 60, 61)]
    assert names("\n".join(line for lines in source for line in lines)) == ["f3", "f60"]


def test_nested_functions_are_not_mined_on_their_own() -> None:
    inner = SHORT.format("inner").replace("\n", "\n    ")
    [outer] = mined(f"async def outer():\n    {inner}\n    class Local:\n        {inner.replace('    ', '        ')}\n")
    assert outer.name == "outer"
    assert outer.code.startswith("async def outer ( )")
    assert outer.code.count("def inner ( item )") == 2
    source = f"class A:\n    {inner}\nif x:\n    {inner}\ntry:\n    {inner}\nfinally:\n    pass\n"
    assert names(source) == ["A.inner", "inner", "inner"]


@pytest.mark.filterwarnings("error:invalid escape sequence")
def test_a_file_that_cannot_be_read_costs_no_other() -> None:
    good = SHORT.format("f")
    bad: dict[str, str | bytes] = {"syntax.py": f"{good}def f(:\n", "null.py": f"{good}\0", "text.txt": good}
    bad |= {"latin.py": good.replace("item", "é").encode("latin-1"), "deep.py": f"{good}x{'.x' * 20_000}\n"}
    data = wheel({"z.py": good, **bad, "escape.py": good.replace("1", r"'\d'"), "a.py": good})
    assert [function.path for function in mine(SHOP, data)] == ["a.py", "escape.py", "z.py"]


def test_a_function_with_a_reserved_mark_costs_no_other() -> None:
    assert names(SHORT.format("f").replace("1", "'<nl>'") + SHORT.format("g")) == ["g"]


BASE = "def f(a, b):\n    c = a.size + 1\n    return c, b, 'x', True\n"
RENAMED = "def g(x, size):\n    _ = x.length + 1\n    return _, size, 'x', True\n"


@pytest.mark.parametrize("number", ["2", "0x1F", ".5", "1e9"])
@pytest.mark.parametrize("text", ["''", '"some words"', "b'x'", "'''x\ny'''"])
def test_clones_differ_only_in_names_and_literals(number: str, text: str) -> None:
    assert key(BASE) == key(RENAMED) == key(RENAMED.replace("1", number).replace("'x'", text))


CHANGES = [("+", "-"), ("True", "False"), ("c, b", "c, a"), ("'x'", "1"), ("'x'", "b"), ("1", "...")]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_another_operator_keyword_or_use_is_no_clone(old: str, new: str) -> None:
    assert key(BASE) != key(BASE.replace(old, new))


def test_of_clones_the_same_one_is_kept_in_every_order() -> None:
    [first] = mined(BASE)
    clones = [replace(first, version="2.0"), replace(first, name="g", version="0.9")]
    clones.append(replace(first, path="shop/till.py", name="e", version="0.9"))
    clones.append(replace(first, package="mall", path="shop/a.py", name="e", version="0.9"))
    distinct = [replace(first, id=id, path=path) for id, path in (("y", "z.py"), ("z", "y.py"))]
    for order in permutations([first, *clones, *distinct]):
        assert unique(order) == [first, *distinct]


def test_a_corpus_is_the_same_from_archives_in_any_order(tmp_path: Path) -> None:
    first, second, outs = tmp_path / "1.jsonl", tmp_path / "2.jsonl", [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write_rows(first, (function.row() for function in mined(BASE + SHORT.format("f"))))
    write_rows(second, (replace(function, version="2.0").row() for function in mined(RENAMED.replace("g", "f"))))
    assert run("corpus", first, second, "--out", outs[0]).exit_code == 0
    assert run("corpus", second, first, "--out", outs[1]).exit_code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert [function.version for function in read_functions(outs[0])] == ["1.0", "1.0"]


@pytest.mark.parametrize(("text", "message"), [("", "no usable function"), ('\n{"code": "x"}\n', "a.jsonl:2: not a")])
def test_a_corpus_of_nothing_or_of_other_rows_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path, out = put(tmp_path / "in" / "a.jsonl", text.encode()), tmp_path / "out" / "corpus.jsonl"
    assert_refused(run("corpus", path, "--out", out), out, message)


def test_two_releases_of_a_package_share_their_splits() -> None:
    data = wheel({f"shop/{number:02}.py": SHORT.format("f") for number in range(60)})
    old, new = (
        [function.split for function in mine(replace(SHOP, version=version), data)] for version in ("1.0", "2.0")
    )
    assert old == new == [split_of("corner-shop", f"shop/{number:02}.py") for number in range(60)]
    assert old != [split_of("mall", f"shop/{number:02}.py") for number in range(60)]


def test_splits_hold_their_shares_of_the_files() -> None:
    for many in ([("shop", f"{number}.py") for number in range(5000)], [(f"{n}", "shop.py") for n in range(5000)]):
        shares = {split: count / 5000 for split, count in Counter(split_of(*file) for file in many).items()}
        assert shares == pytest.approx({"train": 0.8, "valid": 0.1, "test": 0.1}, abs=0.015)
