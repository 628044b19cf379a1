"""Every case of the page has a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ledger-cases.md").read_text()
WANTED = {*range(15, 18), *range(19, 44), *range(47, 51), *range(52, 71)}


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def rows() -> dict[int, list[tuple[str, str]]]:
    found = {}
    for line in PAGE.splitlines():
        if match := re.match(r"\| (\d+) .*\|([^|]*)\|$", line):
            assert int(match[1]) not in found
            found[int(match[1])] = re.findall(r"`(tests/[^`:]+)::(\w+)`", match[2])
    return found


def test_every_case_is_answered_by_a_test_that_exists() -> None:
    found = rows()
    assert WANTED - set(found) == set()
    for case, named in found.items():
        assert named, case
        for path, name in named:
            assert name in functions(path), f"case {case}: {path}::{name}"
