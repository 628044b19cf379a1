"""How the figures of ``benchmarks.vertical`` grow with the rows: ratios, and a chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "first job": lambda size: size["first"]["job_seconds"],
    "stage V": lambda size: size["first"]["stage_v_seconds"],
    "stage V less own outputs": lambda size: size["first"]["stage_v_less_own_outputs_seconds"],
    "serving": lambda size: size["first"]["serving_seconds"],
    "retraining, stage V": lambda size: size["retraining"]["stage_v_seconds"],
    "largest party's peak memory, 100 MB": lambda size: (
        max(m for who, m in size["first"]["peak_memory_mb"].items() if who != "coordinator") / 100
    ),
}


def growth(sizes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, from each size to the next, by how much a measure grew for every doubling's worth of rows.

    1.0 is linear; below it fixed costs still weigh, above it something grows faster than the rows.
    """
    found = []
    for before, after in pairwise(sizes):
        rows = sum(after["rows"].values()) / sum(before["rows"].values())
        found.append(
            {
                "from": before["rows_per_bank"],
                "to": after["rows_per_bank"],
                "rows": round(rows, 2),
                "per_row": {
                    what: round(of(after) / max(of(before), 0.01) / rows, 2) for what, of in MEASURES.items()
                },
            }
        )
    return found


def chart(sizes: Sequence[dict[str, Any]]) -> str:
    """Return an SVG of the measures over rows per bank, both axes logarithmic."""
    width, height, pad = 760, 440, 60
    rows = [size["rows_per_bank"] for size in sizes]
    series = {what: [max(of(size), 0.1) for size in sizes] for what, of in MEASURES.items()}
    top, low = max(max(v) for v in series.values()) * 1.5, 0.1

    def x(value: float) -> float:
        span = math.log(max(rows) / min(rows)) or 1.0
        return pad + math.log(value / min(rows)) / span * (width - 2 * pad)

    def y(value: float) -> float:
        return height - pad - math.log(value / low) / math.log(top / low) * (height - 2 * pad)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        'font-family="sans-serif" font-size="12">',
    ]
    for value in rows:
        parts.append(f'<text x="{x(value):.0f}" y="{height - 38}" text-anchor="middle">{value:,}</text>')
    for exponent in range(-1, math.ceil(math.log10(top))):
        line = 10.0**exponent
        parts.append(
            f'<line x1="{pad}" x2="{width - pad}" y1="{y(line):.0f}" y2="{y(line):.0f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{pad - 8}" y="{y(line) + 4:.0f}" text-anchor="end">{line:g} s</text>')
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#555555")
    for place, (colour, (name, values)) in enumerate(zip(colours, series.items(), strict=True)):
        points = " ".join(f"{x(r):.1f},{y(v):.1f}" for r, v in zip(rows, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{pad + 8}" y="{20 + 15 * place}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 14}" text-anchor="middle">rows per bank</text></svg>')
    return "\n".join(parts)
