"""The documentation keeps its word: links resolve, every claim's test exists, every decision is listed."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md")
    for path in ROOT.glob(pattern)
    if not path.is_relative_to(ROOT / ".venv")
)
RECORDS = sorted(path for path in (ROOT / "docs/adr").glob("[0-9]*.md") if path.name != "0000-template.md")
LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
CODE = re.compile(r"```.*?```", re.S)
FILE = re.compile(
    r"`((?:protocol|node|bank_node|data_partner_node|coordinator|ledger|concordat|tests|docs|deploy)/[\w./-]+\.\w+)`"
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def found_in(path: Path) -> frozenset[str]:
    """The tests of a file: ``test_x`` or ``TestX::test_y``."""
    found = set()
    for entry in ast.parse(path.read_text()).body:
        if isinstance(entry, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(entry.name)
        elif isinstance(entry, ast.ClassDef):
            methods = (m for m in entry.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef))
            found.update(f"{entry.name}::{method.name}" for method in methods)
    return frozenset(found)


def faults(page: Path, text: str) -> list[str]:
    """What a page promises and the repository doesn't hold."""
    found = []
    prose = CODE.sub("", text)
    for match in LINK.finditer(prose):
        label, target = match["text"], match["target"]
        if re.match(r"[a-z]+:", target):
            if not target.startswith(("https://", "mailto:")):
                found.append(f"not https: {target}")
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or not there.is_relative_to(ROOT):
            found.append(f"no such file: {target}")
            continue
        if anchor and anchor not in anchors(there):
            found.append(f"no such heading: {target}")
        test = re.fullmatch(r"`((?:Test\w+::)?test_\w+)`", label)
        if test and test[1] not in found_in(there):
            found.append(f"no such test: {test[1]} in {file}")
    found += [f"no such file: {path}" for path in FILE.findall(prose) if not (ROOT / path).exists()]
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_files_and_tests_of_a_page_exist(page: Path) -> None:
    assert faults(page, page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[x](nowhere.md)", "no such file: nowhere.md"),
        ("[x](README.md#no-such-heading)", "no such heading: README.md#no-such-heading"),
        ("[x](../../etc/passwd)", "no such file: ../../etc/passwd"),
        ("[`test_gone`](tests/unit/test_docs.py)", "no such test: test_gone in tests/unit/test_docs.py"),
        (
            "[`TestX::test_y`](tests/unit/test_docs.py)",
            "no such test: TestX::test_y in tests/unit/test_docs.py",
        ),
        ("see `protocol/nothing.py`", "no such file: protocol/nothing.py"),
        ("[x](http://example.org)", "not https: http://example.org"),
    ],
)
def test_a_broken_promise_is_found(text: str, fault: str) -> None:
    assert faults(ROOT / "README.md", text) == [fault]


def test_a_kept_promise_is_none() -> None:
    text = "[`test_a_kept_promise_is_none`](tests/unit/test_docs.py) [x](LICENSE) `protocol/ring.py`"
    text += " [y](#rules-of-the-house)"
    assert faults(ROOT / "CONTRIBUTING.md", text) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_developers_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:work|opt|home|root|Users)/", page.read_text())


class TestClaims:
    def rows(self, page: str, heading: str) -> list[str]:
        text = (ROOT / page).read_text()
        section = text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
        table = [line for line in section.splitlines() if line.startswith("| ")]
        assert len(table) > 5
        return table[1:]

    @pytest.mark.parametrize(
        ("page", "heading"),
        [
            ("docs/threat-model.md", "## Attacks, and the tests that make them"),
            ("docs/protocols/training.md", "## Openings"),
        ],
    )
    def test_every_one_links_a_test(self, page: str, heading: str) -> None:
        for row in self.rows(page, heading):
            if not row.startswith("|-"):
                assert re.search(r"\[`(Test\w+::)?test_\w+`\]\([^)]*tests/", row), row


class TestDecisions:
    def test_each_is_listed_under_its_title_and_nothing_else_is(self) -> None:
        index = (ROOT / "docs/adr/README.md").read_text()
        listed = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|$", index, re.M)
        expected = []
        for record in RECORDS:
            number, title = re.match(r"# (\d{4}) (.+)\n", record.read_text()).groups()  # type: ignore[union-attr]
            expected.append((number, record.name, title))
        assert listed == expected

    @pytest.mark.parametrize("record", RECORDS, ids=name_of)
    def test_each_has_its_number_a_state_and_its_parts(self, record: Path) -> None:
        text = record.read_text()
        assert text.startswith(f"# {record.name[:4]} ")
        status = re.search(r"^Status: (.+)$", text, re.M)
        assert status is not None
        assert re.fullmatch(r"proposed|accepted|superseded by \d{4}", status[1])
        assert "\n## Decision\n" in text
        assert "\n## Consequences\n" in text

    def test_no_number_is_taken_twice(self) -> None:
        numbers = [record.name[:4] for record in RECORDS]
        assert len(set(numbers)) == len(numbers)


def test_the_licence_is_the_one_that_the_project_names() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
