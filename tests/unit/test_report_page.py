"""The page: valid, self-contained, escaped, and each chart's numbers in the table beside it."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordat import report
from protocol.errors import DataError

RESULT = json.loads((Path(__file__).parent / "report_result.json").read_text("utf-8"))
VOID = {"meta", "input", "br", "link", "img", "hr"}
MARKS = {"title"}


class Page(HTMLParser):
    """A strict reader: every element must be closed in its order, every id be unique."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refs: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.figure = ""
        self.shown: dict[str, set[str]] = {}
        self.cells: dict[str, set[str]] = {}
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given_names = [name for name, _ in attrs]
        assert len(set(given_names)) == len(given_names)
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in values.items()]
        if "id" in values:
            self.ids.append(values["id"])
        self.refs += values.get("aria-labelledby", "").split() + values.get("for", "").split()
        if tag == "figure":
            self.figure = values["id"]
        if tag in ("td", "th"):
            self.cells.setdefault(self.figure, set())
        if tag == "th":
            assert values["scope"] in ("col", "row")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag == "figure":
            self.figure = ""

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "title" in self.open and "svg" in self.open:
            self.shown.setdefault(self.figure, set()).add(data)
        if {"td", "th"} & set(self.open):
            self.cells[self.figure].add(data)


def changed(**keys: Any) -> dict[str, Any]:
    made = copy.deepcopy(RESULT)
    for path, value in keys.items():
        *parents, last = path.split("__")
        place = made
        for name in parents:
            place = place[name]
        place[last] = value
    return made


def test_page_is_well_formed_and_labelled() -> None:
    page = Page(report.html(RESULT))
    assert len(page.ids) == len(set(page.ids))
    assert set(page.refs) <= set(page.ids)
    assert page.tags.count("figure") == 7
    assert page.tags.count("h1") == 1
    assert page.tags.count("caption") == page.tags.count("table") == 10


def test_every_chart_shows_the_numbers_of_its_table() -> None:
    page = Page(report.html(RESULT))
    assert set(page.shown) == {"comparison", "roc", "ks", "calibration", "distribution", "links", "steps"}
    for name, shown in page.shown.items():
        assert shown, name
        assert shown <= page.cells[name], name


def test_page_asks_for_nothing() -> None:
    text = report.html(RESULT)
    page = Page(text)
    assert {"script", "link", "img", "iframe", "object", "form", "base", "a", "use", "image"}.isdisjoint(
        page.tags
    )
    assert not [
        a for a in page.attributes if a[1] in ("src", "href", "xlink:href", "action", "style", "srcset")
    ]
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert re.search(r"://|url\(|@import|@font-face", text) is None
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_registered_figures_are_written_as_they_are() -> None:
    page = Page(report.html(RESULT))
    cells = page.cells["comparison"]
    assert f"{RESULT['auc']['federated']:.3f}" in cells
    assert f"{RESULT['auc']['pooled']:.3f}" in cells
    assert f"{RESULT['ks']['federated']:.3f}" in cells


EVIL = "<script>alert(1)</script>\"'&{{7*7}}\u202e"


def test_every_string_is_escaped() -> None:
    made = copy.deepcopy(RESULT)

    def poison(value: Any, path: str = "") -> Any:
        if isinstance(value, str):
            return EVIL if not path.endswith(".kind") else value
        if isinstance(value, list):
            return [poison(item, path) for item in value]
        if isinstance(value, dict):
            return {key: poison(item, f"{path}.{key}") for key, item in value.items()}
        return value

    for name in ("name", "consortium", "steps", "links", "egress", "model", "card", "release", "privacy"):
        made[name] = poison(made[name], name)
    made["data"]["parties"] = poison(made["data"]["parties"])
    made["auc"]["bank_only"] = {EVIL: 0.7}
    made["egress"] = {EVIL: made["egress"]["bank-1"]}
    made["verified"] = {EVIL: True}
    page = Page(report.html(made))
    assert "script" not in page.tags
    assert "<script>" not in report.html(made)
    assert any("{{7*7}}" in word for word in page.words)
    assert "<script>" not in report.card_markdown(made)


@settings(max_examples=12, deadline=None)
@given(st.text(max_size=60), st.text(max_size=30))
def test_any_name_leaves_the_page_well_formed(name: str, step: str) -> None:
    made = changed(consortium=name)
    made["steps"][0]["step"] = step
    made["card"]["title"] = name
    page = Page(report.html(made))
    assert page.tags.count("figure") == 7
    assert "script" not in page.tags


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 200)), min_size=1, max_size=40))
def test_any_histogram_makes_a_page(cells: list[tuple[int, int]]) -> None:
    good, bad = [g for g, _ in cells], [b for _, b in cells]
    edges = [i / len(cells) for i in range(len(cells) + 1)]
    made = changed(figures__histogram={"edges": edges, "good": good, "bad": bad})
    if sum(good) == 0 or sum(bad) == 0:
        with pytest.raises(DataError, match="one kind"):
            report.html(made)
        return
    page = Page(report.html(made))
    assert page.shown["distribution"] <= page.cells["distribution"]
    assert not [v for _, n, v in page.attributes if n in ("points", "x", "y", "width", "cx") and "nan" in v]


def test_log_with_unknown_class_is_not_called_clean() -> None:
    made = copy.deepcopy(RESULT)
    made["egress"]["bank-1"][0]["field_class"] = "table"
    text = report.html(made)
    assert "does not know (table)" in text
    assert "<strong>0</strong>" not in text
    assert "<strong>0</strong>" in report.html(RESULT)


def test_log_that_does_not_verify_is_named() -> None:
    text = report.html(changed(verified={**RESULT["verified"], "bank-2": False}))
    assert "NOT VERIFIED" in text
    assert "4 of 5 of these logs verify" in text
    assert "<strong>0</strong>" not in text


def test_simulated_run_claims_nothing_of_what_was_sent() -> None:
    made = changed(model__state="simulated", links=[], egress={}, verified={})
    text = report.html(made)
    assert "A simulated run" in text
    assert "of these logs verify" not in text
    assert "must not be used" in text


@pytest.mark.parametrize(
    ("path", "value"),
    [("auc__federated", 1.2), ("figures__ks", float("nan")), ("steps", None), ("auc__bank_only", {})],
)
def test_wrong_result_is_refused_by_its_place(path: str, value: Any) -> None:
    with pytest.raises(DataError) as error:
        report.html(changed(**{path: value}))
    assert error.value.code == "REPORT_RESULT"
    assert path.replace("__", ".") in str(error.value)
