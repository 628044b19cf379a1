"""Charts as geometry: where lines, dots, bars and labels stand, in SVG units; a template draws them.

Every dot and bar carries the very text that stands in the table beside its chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from concordat.report.words import Both, Words, figure

WIDTH = 440.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 16.0, 12.0, 48.0


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    place: float
    label: str


@dataclass(frozen=True)
class Line:
    """A polyline; ``style`` names its series."""

    points: str
    style: str


@dataclass(frozen=True)
class Dot:
    """A measured point and the number that it stands for."""

    x: float
    y: float
    style: str
    shown: str


@dataclass(frozen=True)
class Bar:
    """A bar and the number that it stands for."""

    x: float
    y: float
    width: float
    height: float
    style: str
    shown: str


@dataclass(frozen=True)
class Label:
    """Words in a chart; ``anchor`` as in SVG."""

    x: float
    y: float
    anchor: str
    words: Words
    style: str = "label"


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its size, axes and marks."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_label: Words = ""
    y_label: Words = ""
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    areas: Sequence[Line] = ()
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    dots: Sequence[Dot] = ()
    labels: Sequence[Label] = ()

    @property
    def middle_x(self) -> float:
        """Middle of the plot."""
        return (self.left + self.right) / 2

    @property
    def middle_y(self) -> float:
        """Middle of the plot."""
        return (self.top + self.bottom) / 2


Scale = Callable[[float], float]


@dataclass
class Plot:
    """A plot with two scales, onto which marks are put.

    Attributes:
        height: of the whole chart.
        x: from a value to its share of the width.
        y: from a value to its share of the height.
        left: room for labels at the left.
    """

    height: float
    x: Scale
    y: Scale
    left: float = LEFT
    lines: list[Line] = field(default_factory=list)
    areas: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Return where a value stands across."""
        return round(self.left + self.x(value) * (WIDTH - RIGHT - self.left), 2)

    def py(self, value: float) -> float:
        """Return where a value stands down."""
        return round(self.height - BOTTOM - self.y(value) * (self.height - BOTTOM - TOP), 2)

    def _path(self, points: Sequence[Sequence[float]]) -> str:
        return " ".join(f"{self.px(x)},{self.py(y)}" for x, y in points)

    def line(self, points: Sequence[Sequence[float]], style: str) -> None:
        """Put a line through points."""
        self.lines.append(Line(self._path(points), style))

    def area(self, points: Sequence[Sequence[float]], style: str) -> None:
        """Put a filled shape."""
        self.areas.append(Line(self._path(points), style))

    def dot(self, x: float, y: float, style: str, shown: str) -> None:
        """Put a dot."""
        self.dots.append(Dot(self.px(x), self.py(y), style, shown))

    def label(
        self,
        x: float,
        y: float,
        words: Words,
        anchor: str = "start",
        style: str = "label",
        dx: float = 0.0,
        dy: float = 0.0,
    ) -> None:
        """Put words at a point, shifted by (dx, dy) SVG units."""
        self.labels.append(Label(self.px(x) + dx, self.py(y) + dy, anchor, words, style))

    def drawn(
        self,
        x_label: Words,
        y_label: Words,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
    ) -> Chart:
        """Return the finished chart."""
        return Chart(
            width=WIDTH,
            height=self.height,
            left=self.left,
            right=WIDTH - RIGHT,
            top=TOP,
            bottom=self.height - BOTTOM,
            x_label=x_label,
            y_label=y_label,
            x_ticks=[Tick(self.px(value), label) for value, label in x_ticks],
            y_ticks=[Tick(self.py(value), label) for value, label in y_ticks],
            areas=self.areas,
            lines=self.lines,
            bars=self.bars,
            dots=self.dots,
            labels=self.labels,
        )


def linear(low: float, high: float) -> Scale:
    """Return a scale that is even between two values."""
    return lambda value: (value - low) / (high - low)


def root(high: float) -> Scale:
    """Return a square-root scale from 0, which gives small rates room."""
    return lambda value: math.sqrt(max(value, 0.0) / high)


def shares(step: float = 0.2) -> list[tuple[float, str]]:
    """Return ticks of an axis from 0 to 100 %."""
    return [(i * step, f"{100 * i * step:.0f} %") for i in range(round(1 / step) + 1)]


def round_ticks(high: float, most: int = 5) -> list[float]:
    """Return round values from 0 to at most ``high``."""
    if high <= 0:
        return [0.0]
    magnitude = 10.0 ** math.floor(math.log10(high))
    step = (
        next(s for s in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0) if high / (s * magnitude) <= most)
        * magnitude
    )
    return [round(i * step, 12) for i in range(int(high / step + 1e-9) + 1)]


def standing(
    rows: Sequence[tuple[Words, float, str]],
    x_label: Words,
    *,
    guide: float,
    whiskers: Mapping[int, tuple[float, float]],
    left: float = 150.0,
) -> Chart:
    """Return models side by side: (name, figure, style) from the top, each a dot with its number.

    Args:
        rows: what is compared.
        x_label: name of the figure.
        guide: where a line stands across all rows.
        whiskers: intervals by row.
        left: room for the names.
    """
    values = [value for _, value, _ in rows] + [end for ends in whiskers.values() for end in ends]
    low = max(0.0, int(min(values) * 50 - 0.25) / 50)
    high = min(1.0, int(max(values) * 50 + 1.25) / 50)
    plot = Plot(TOP + 30.0 * len(rows) + BOTTOM, linear(low, high), linear(len(rows), 0), left=left)
    plot.line([(guide, 0), (guide, len(rows))], "guide")
    for row, (lower, upper) in whiskers.items():
        plot.line([(lower, row + 0.5), (upper, row + 0.5)], "whisker shared")
    for row, (name, value, style) in enumerate(rows):
        plot.label(low, row + 0.5, name, "end", dx=-8, dy=4)
        plot.dot(value, row + 0.5, style, figure(value))
        plot.label(value, row + 0.5, figure(value), "middle", "number", dy=-8)
    steps = round((high - low) * 50)
    every = 0.02 if steps <= 5 else 0.04 if steps <= 10 else 0.1
    ticks = [(low + i * every, f"{low + i * every:.2f}") for i in range(int((high - low) / every + 1e-9) + 1)]
    return plot.drawn(x_label, "", ticks, [])


def ranking(
    rows: Sequence[tuple[str, float, str]],
    x_label: Words,
    tick: Callable[[float], str],
    left: float = 150.0,
    style: str = "main",
) -> Chart:
    """Return horizontal bars from 0: (name, value, number as shown) from the top."""
    pitch, thick = 23.0, 13.0
    height = TOP + pitch * len(rows) + BOTTOM
    most = max((value for _, value, _ in rows), default=0.0)
    ticks = round_ticks(most, 3)
    room = 56.0  # for the number at the longest bar's end
    across = WIDTH - RIGHT - room - left
    bars, labels = [], []
    for i, (name, value, shown) in enumerate(rows):
        top = TOP + pitch * i + (pitch - thick) / 2
        width = round(across * value / most, 2) if most > 0 else 0.0
        bars.append(Bar(left, top, max(width, 1.0), thick, style, shown))
        labels.append(Label(left - 8, top + thick - 2.5, "end", name))
        labels.append(Label(left + max(width, 1.0) + 6, top + thick - 2.5, "start", shown, "number"))
    return Chart(
        width=WIDTH,
        height=height,
        left=left,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=height - BOTTOM,
        x_label=x_label,
        x_ticks=[Tick(round(left + across * (v / most if most else 0), 2), tick(v)) for v in ticks],
        bars=bars,
        labels=labels,
    )


GOOD, BAD = Both("without default", "未违约"), Both("with default", "违约")
