"""The page in a real Chromium: nothing asked for, nothing complained of, nothing wider than the screen."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from concordat.report import html

CHROMIUM = "/usr/bin/chromium"
UNIT = Path(__file__).parents[1] / "unit"
RESULT, PARTNERS = UNIT / "report_result.json", UNIT / "report_partners.json"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    file = tmp_path / "report.html"
    file.write_text(html(json.loads(RESULT.read_text("utf-8"))), "utf-8")
    return file.as_uri()


@pytest.fixture
def joint(tmp_path: Path) -> str:
    file = tmp_path / "partners.html"
    file.write_text(html(json.loads(PARTNERS.read_text("utf-8"))), "utf-8")
    return file.as_uri()


def opened(browser: Browser, address: str, width: int, scheme: str) -> tuple[Page, list[str]]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page, faults = context.new_page(), list[str]()
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("request", lambda asked: faults.append(asked.url) if asked.url != address else None)
    page.goto(address)
    return page, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_page_loads_alone_and_fits(
    browser: Browser, address: str, tmp_path: Path, width: int, scheme: str
) -> None:
    page, faults = opened(browser, address, width, scheme)
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("figure")).to_have_count(7)
    for figure in page.locator("figure").all():
        expect(figure.locator("svg[role=img]")).to_be_visible()
        expect(figure.locator("table")).to_be_visible()
    shots = Path(os.environ.get("CONCORDAT_SHOTS", tmp_path))
    page.screenshot(path=shots / f"report-{width}-{scheme}.png", full_page=True)
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (800, "dark"), (1400, "light")])
def test_page_of_a_job_with_partners_loads_alone_and_fits(
    browser: Browser, joint: str, tmp_path: Path, width: int, scheme: str
) -> None:
    page, faults = opened(browser, joint, width, scheme)
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("figure")).to_have_count(11)
    for name in ("models", "coverage", "parts", "kinds"):
        expect(page.locator(f"figure#{name} svg[role=img]")).to_be_visible()
        expect(page.locator(f"figure#{name} table")).to_be_visible()
    # No name or number in a chart of these reaches beyond the chart's own edge.
    outside = page.evaluate(
        "['comparison', 'models', 'coverage', 'links', 'parts', 'kinds'].flatMap(name => {"
        "  const chart = document.querySelector(`figure#${name} svg[role=img]`);"
        "  const edge = chart.getBoundingClientRect();"
        "  return [...chart.querySelectorAll('text:not([lang=zh-CN])')].filter(text => {"
        "    const box = text.getBoundingClientRect();"
        "    return box.width && (box.left < edge.left - 1 || box.right > edge.right + 1);"
        "  }).map(text => text.textContent);"
        "})"
    )
    assert outside == []
    shots = Path(os.environ.get("CONCORDAT_SHOTS", tmp_path))
    page.screenshot(path=shots / f"partners-{width}-{scheme}.png", full_page=True)
    page.context.close()


def test_language_changes_without_script(browser: Browser, address: str) -> None:
    page, faults = opened(browser, address, 1000, "light")
    expect(page.locator('h2 [lang="en"]').first).to_be_visible()
    expect(page.locator('h2 [lang="zh-CN"]').first).to_be_hidden()
    page.get_by_text("中文").click()
    expect(page.locator('h2 [lang="zh-CN"]').first).to_be_visible()
    expect(page.locator('h2 [lang="en"]').first).to_be_hidden()
    assert faults == []
    page.context.close()
