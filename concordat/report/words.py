"""How numbers and sentences are written: one way each, in two languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Both(NamedTuple):
    """The same words in English and in simplified Chinese."""

    en: str
    zh: str


Words = str | Both
"""Words in two languages, or what is the same in both: a name, a number."""


def same(words: Words) -> Both:
    """Return words in both languages."""
    return words if isinstance(words, Both) else Both(words, words)


def joined(names: Sequence[str]) -> Both:
    """Write a list of names."""
    if len(names) < 2:
        return same("".join(names))
    return Both(f"{', '.join(names[:-1])} and {names[-1]}", f"{'、'.join(names[:-1])}和{names[-1]}")


def figure(value: float) -> str:
    """Write a figure such as an AUC, three decimals."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """Write a difference of figures with its sign; a true minus."""
    shown = f"{abs(value):.3f}"
    if shown == "0.000":
        return "0.000"
    return ("+" if value > 0 else "−") + shown


def percent(share: float) -> str:
    """Write a share in per cent, one decimal."""
    return f"{100 * share:.1f} %"


def count(value: int) -> str:
    """Write a count with thousands separated."""
    return f"{value:,}"


def seconds(value: float) -> str:
    """Write seconds: two decimals below ten, one above."""
    return f"{value:.2f} s" if round(value, 2) < 10 else f"{value:,.1f} s"


def size(value: int) -> str:
    """Write bytes in decimal units."""
    if value < 1000:
        return f"{value} B"
    for unit, scale in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if round(value / scale, 1) < 1000 or unit == "GB":
            return f"{value / scale:,.1f} {unit}"
    raise AssertionError("unreachable")


def band(lower: float, upper: float) -> str:
    """Write a range of PD."""
    return f"{100 * lower:.1f}–{100 * upper:.1f} %"


def short(digest: str) -> str:
    """Write the beginning of a digest."""
    return f"{digest[:12]}…" if len(digest) > 12 else digest


def clipped(name: str, most: int = 20) -> str:
    """Write a name in a chart; the table beside it has the whole one."""
    return name if len(name) <= most else name[: most - 1] + "…"
