"""The desk's pages in a real Chromium: a receivable's whole life, by people at five institutions."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from ledger_stands import running
from playwright.sync_api import Browser, Page, expect, sync_playwright

from concordat.ledger_stand import Stand
from ledger.engine.packages import directory

CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=30_000)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.skipif(
        not (directory() / "node_modules/@nomicfoundation/edr").exists(),
        reason="the engine's npm packages are not installed: python -m ledger.engine install",
    ),
]


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with running("ls-") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def invoice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    today = date.today()
    content = {
        "seller": "91350100M000100Y43",
        "buyer": "91440300708461136T",
        "number": "24312000000087654321",
        "issued": today.isoformat(),
        "due": (today + timedelta(days=60)).isoformat(),
        "amount": "80000.00",
    }
    file = tmp_path_factory.mktemp("documents") / "invoice.json"
    file.write_text(json.dumps(content), "utf-8")
    return file


class Operator:
    """An operator's browser at one institution; whatever the page complains of is kept."""

    def __init__(self, browser: Browser, stand: Stand, name: str, locale: str = "en-US") -> None:
        self.home = stand.service(name).url
        self.faults: list[str] = []
        self.context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(self.home)
        token = (stand.directory / name / "operator.token").read_text()
        self.page.locator("input[name=token]").fill(token)
        self.page.locator("main button").click()
        expect(self.page.locator("#lists")).to_be_visible()

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.home):
            self.faults.append(request.url)

    def accept(self, kind: str) -> None:
        """Sign the open request of a kind."""
        self.page.goto(self.home)
        row = (
            self.page.locator("#requests tbody tr")
            .filter(has_text=kind)
            .filter(has=self.page.locator("button"))
        )
        row.first.get_by_role("button", name="Sign and submit").click()
        expect(self.page.locator("#standing, .refusal").first).to_be_visible()

    def ask(self, claim: str, kind: str, to: str, **fields: str) -> None:
        """Ask another institution from a receivable's page."""
        self.page.goto(f"{self.home}/receivables/{claim}")
        form = self.page.locator(f"#ask-{kind}")
        form.locator("select").select_option(to)
        for name, value in fields.items():
            form.locator(f"input[name={name}]").fill(value)
        form.get_by_role("button").click()
        expect(self.page.locator("#standing")).to_be_visible()

    def state(self, claim: str, text: str) -> None:
        """Wait until the page, by itself, shows a state."""
        self.page.goto(f"{self.home}/receivables/{claim}")
        expect(self.page.locator("#state")).to_have_text(text)

    def shot(self, name: str) -> None:
        folder = os.environ.get("CONCORDAT_SHOTS")
        if folder:
            self.page.screenshot(path=Path(folder) / f"ledger-{name}.png", full_page=True)

    def close(self) -> None:
        assert self.faults == []
        self.context.close()


def test_a_receivables_life_on_the_page(browser: Browser, stand: Stand, invoice: Path) -> None:
    supplier, core = Operator(browser, stand, "supplier"), Operator(browser, stand, "core")
    bank_a, bank_b = Operator(browser, stand, "bank-a"), Operator(browser, stand, "bank-b")

    supplier.page.locator("input[name=document]").set_input_files(invoice)
    supplier.page.get_by_role("button", name="Register a document").click()
    expect(supplier.page.locator("h1")).to_have_text("24312000000087654321")
    claim = supplier.page.url.rsplit("/", 1)[1]
    supplier.state(claim, "draft")
    supplier.ask(claim, "confirm", "core")
    core.accept("Confirm the debt")
    supplier.state(claim, "confirmed")

    supplier.ask(claim, "pledge", "bank-a", share="60")
    supplier.ask(claim, "pledge", "bank-b", share="60")
    bank_a.accept("Pledge")
    bank_a.state(claim, "confirmed")
    expect(bank_a.page.locator("#pledged")).to_have_text("60 %")
    expect(bank_a.page.locator(".own")).to_have_text("ours")
    bank_b.accept("Pledge")
    bank_b.page.goto(f"{bank_b.home}/receivables/{claim}")
    refusal = bank_b.page.locator("#requests .refusal")
    expect(refusal).to_contain_text("40 % can still be pledged")
    expect(refusal).not_to_contain_text("bank-a")
    expect(bank_b.page.locator("body")).not_to_contain_text("Bank A")
    bank_b.shot("refused")

    core.ask(claim, "settle", "bank-a", amount="8000")
    bank_a.accept("Payment to the bank")
    bank_a.page.goto(f"{bank_a.home}/receivables/{claim}")
    expect(bank_a.page.locator("#pledged")).to_have_text("50 %")
    bank_a.page.get_by_role("button", name="Release the lien").click()
    bank_a.page.goto(f"{bank_a.home}/receivables/{claim}")
    expect(bank_a.page.locator("#timeline")).to_contain_text("A lien was released")

    supplier.ask(claim, "transfer", "bank-b")
    bank_b.accept("Transfer")
    bank_b.page.goto(f"{bank_b.home}/receivables/{claim}")
    expect(bank_b.page.locator("#timeline li strong")).to_have_text(
        [
            "The obligor confirmed",
            "Pledged to a bank",
            "Paid to a bank",
            "A lien was released",
            "Transferred",
        ],
    )
    bank_b.shot("receivable")
    for each in (supplier, core, bank_a, bank_b):
        each.close()


def test_a_file_is_hashed_in_the_browser_and_judged(browser: Browser, stand: Stand, invoice: Path) -> None:
    core, uploaded = Operator(browser, stand, "core"), []
    core.page.on("request", lambda asked: uploaded.append(asked) if asked.method != "GET" else None)
    core.page.locator("#verify-file").set_input_files(invoice)
    verdict = core.page.locator("#verdicts")
    digest = hashlib.sha256(invoice.read_bytes()).hexdigest()
    expect(verdict).to_contain_text(digest)
    expect(verdict).to_contain_text("intact: the committed document")
    expect(verdict).to_contain_text("the owner's certified key")
    expect(verdict.locator("dd").nth(3)).to_have_text("confirmed")
    other = invoice.with_name("other.json")
    other.write_text(invoice.read_text() + " ")
    core.page.locator("#verify-file").set_input_files(other)
    expect(verdict).to_contain_text("No receivable of this institution has this document")
    assert uploaded == []
    core.shot("verify")
    core.close()


def test_the_page_speaks_chinese(browser: Browser, stand: Stand, invoice: Path) -> None:
    supplier = Operator(browser, stand, "supplier", "zh-CN")
    expect(supplier.page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(supplier.page.locator("#receivables")).to_contain_text("已确权")
    supplier.page.locator("input[name=document]").set_input_files(invoice)
    supplier.page.get_by_role("button", name="登记单据").click()
    expect(supplier.page.locator("[role=alert]")).to_have_text("该单据已被登记，另一笔债权占用其标签。")
    expect(supplier.page.locator("code")).to_have_text("LEDGER_TAG_TAKEN")
    supplier.page.get_by_role("link", name="English").click()
    expect(supplier.page.locator("h2").first).to_have_text("Receivables")
    supplier.shot("english")
    # The refused form is the one answer with an error status; the browser says so itself.
    supplier.faults = [each for each in supplier.faults if "409" not in each]
    supplier.close()


def test_a_wrong_file_is_one_sentence(browser: Browser, stand: Stand, tmp_path: Path) -> None:
    supplier = Operator(browser, stand, "supplier")
    file = tmp_path / "half.json"
    file.write_text('{"seller": "91350100M000100Y43", "number": "12345678"}')
    supplier.page.locator("input[name=document]").set_input_files(file)
    supplier.page.get_by_role("button", name="Register a document").click()
    expect(supplier.page.locator("[role=alert]")).to_have_text(
        "half.json, field buyer: it is missing or empty."
    )
    supplier.context.close()


def test_the_door_is_locked(stand: Stand) -> None:
    home = stand.service("supplier").url
    token = (stand.directory / "supplier/operator.token").read_text().strip()
    site = {"Origin": home, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=home, trust_env=False) as client:
        assert client.get("/").headers["location"] == "/login"
        assert client.get("/fragments/overview").status_code == 303
        login = client.get("/login")
        policy = login.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=", login.text)
        assert client.post("/login", data={"token": token}).status_code == 403, "without an origin"
        wrong = {**site, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/login", data={"token": token}, headers=wrong).status_code == 403
        assert client.post("/login", data={"token": token[:-1] + "~"}, headers=site).status_code == 403
        answer = client.post("/login", data={"token": token}, headers=site)
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/").status_code == 200
        refused = client.post("/logout", data={"csrf": "x"}, headers=site)
        assert refused.status_code == 403
        assert "FORM_STALE" in refused.text
        assert client.get("/v1/receivables").status_code == 403, "the page's cookie opens no route of the API"
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/").text)
        assert csrf is not None
        assert client.post("/logout", data={"csrf": csrf[1]}, headers=site).headers["location"] == "/login"
        assert client.get("/").status_code == 303
        for _ in range(10):
            client.post("/login", data={"token": "wrong"}, headers=site)
        assert "LOGIN_WAIT" in client.post("/login", data={"token": token}, headers=site).text
