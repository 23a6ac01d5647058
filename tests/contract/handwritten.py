"""Pure functions with constructs that renaming and insertion can get wrong; ``INPUTS`` has arguments for them."""

from __future__ import annotations

from collections.abc import Callable


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def ackermann(m, n):
    """ackermann(m, n)"""
    if m == 0:
        return n + 1
    if n == 0:
        return ackermann(m - 1, 1)
    return ackermann(m - 1, ackermann(m, n - 1))


def counter(start):
    total = start

    def add(step=1):
        nonlocal total
        total += step
        return total

    return [add(), add(2), total]


def pairs(items, *rest, key=None, **named):
    for item in items:
        yield item, len(rest), key, named


def keywords(value):
    record = dict(value=value, other="value")  # noqa: C408
    value = record["value"]
    return record, f"value={value!r:>{len(str(value))}}", "value".upper()


def shadowed(x):
    squares = [x * x for x in range(x)]
    return squares, x, (lambda x: x + 1)(x)


def attempt(text):
    try:
        number = int(text)
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)
    else:
        return number
    finally:
        text = None


def search(numbers, target):
    low, high = 0, len(numbers)
    while low < high:
        if numbers[(mid := (low + high) // 2)] < target:
            low = mid + 1
        else:
            high = mid
    else:
        target = -target
    return low, target


def text(text="text"):
    class Holder:
        text = "class"

        def get(self, text):
            return self.text + text

    return Holder().get(text) + Holder.text


def answer():
    return 42


def one_line(a, b): return a or b  # fmt: skip


def unpack(first, /, second, *, third=3):
    (first, *second), third = [first, second], third
    del first
    return second, third


def matched(point):
    match point:
        case (0, y):
            return y
        case {"x": x, **rest}:
            return x, rest
        case [point]:
            return point
        case _:
            return None


def typed(count: int, label: "str" = "a") -> list:  # noqa: UP037
    result: list[str] = []
    for _ in range(count):
        result += [label]
    assert len(result) == count, f"{count=}"
    return result


def lines(text):
    """Docs with 'quotes'."""
    body = """a
  b
"""  # a comment: text
    return (text +
            body).split("\n")  # fmt: skip


INPUTS: list[tuple[Callable[..., object], list[tuple[object, ...]]]] = [
    (factorial, [(0,), (5,), (20,)]),
    (ackermann, [(0, 0), (1, 2), (2, 3)]),
    (counter, [(0,), (10,), ("x",)]),
    (pairs, [([1, 2],), ([1], 2, 3), ([],)]),
    (keywords, [(1,), ("abc",)]),
    (shadowed, [(0,), (4,)]),
    (attempt, [("12",), ("x",), (None,)]),
    (search, [([1, 3, 5], 3), ([], 1), ([1], 9)]),
    (text, [(), ("x",)]),
    (answer, [()]),
    (one_line, [(0, 1), ("", None), (2, 3)]),
    (unpack, [([1, 2], 3), ("ab", "cd")]),
    (matched, [((0, 1),), ({"x": 1, "y": 2},), ([3],), (4,)]),
    (typed, [(0,), (2, "b")]),
    (lines, [("x",), ("",)]),
]
