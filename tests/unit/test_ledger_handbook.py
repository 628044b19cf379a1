"""The ledger's handbook against its configuration and its words: every key is described, every state is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.abi import Refusal, ledger_abi
from ledger.page.words import CHINESE, ENGLISH, preferred, speaker
from ledger.service import words
from ledger.service.config import ServiceConfig, load
from ledger.webhooks import EVENTS
from protocol.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def test_every_key_is_described_and_no_other() -> None:
    wanted = set()
    for name, field in ServiceConfig.model_fields.items():
        if field.exclude:
            continue
        text = str(field.annotation)
        inner = re.search(r"config\.(\w+Section)", text)
        if inner is None:
            wanted.add(name)
            continue
        import ledger.service.config as module

        prefix = f"{name}.NAME" if text.startswith("dict") else name
        wanted |= {f"{prefix}.{key}" for key in getattr(module, inner[1]).model_fields}
    page = (ROOT / "docs/handbook/ledger.md").read_text()
    section = page.split("## A service of one's own", 1)[1].split("\n**Keys.**", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`([\w.]+)`", row)} == wanted
    assert len(wanted) > 30


def test_a_wrong_configuration_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    with pytest.raises(ConfigurationError, match=r"\[CONFIG_UNREADABLE\]"):
        load(file)
    file.write_text('[institution]\nname = "Bank A"\nroles = ["banker"]\n[chain]\ngateways = "x"\n')
    with pytest.raises(ConfigurationError) as refused:
        load(file)
    for part in ("service.toml", "institution.name", "chain.gateways", "did you mean gateway?", "tags"):
        assert part in refused.value.message


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = ServiceConfig.model_validate(
        {"institution": {"name": "bank-a", "roles": ["bank"]}, "chain": {}, "tags": {"keeper": "x"}}
    ).model_copy(update={"base": tmp_path})
    for content, mode, code in (
        (None, 0, "SECRET_UNREADABLE"),
        ("x" * 40, 0o644, "SECRET_EXPOSED"),
        ("short", 0o600, "SECRET_SHORT"),
    ):
        if content is not None:
            (tmp_path / "token").write_text(content)
            (tmp_path / "token").chmod(mode)
        with pytest.raises(ConfigurationError, match=rf"\[{code}\]"):
            config.secret(Path("token"))


def test_every_refusal_of_the_contract_has_a_code_and_words() -> None:
    for entry in ledger_abi():
        if entry["type"] == "error":
            code = Refusal(entry["name"], {}).code
            english, chinese = words.refusal(code, {})
            assert english
            assert chinese
            assert "{" not in english + chinese


def test_a_refusal_says_what_is_free_and_names_nobody() -> None:
    english, chinese = words.refusal("LEDGER_OVER_CAPACITY", {"free": 400_001})
    assert "40.0001 %" in english
    assert "40.0001 %" in chinese
    assert words.told({"free": 5, "claimId": b"\1" * 32, "tag": "aa", "yes": True}) == {"free": 5}
    assert "short, hold" in words.refusal("LEDGER_FROZEN", {"flags": 9})[0]
    assert words.refusal("LEDGER_SOMETHING_NEW", {})[0] == "The ledger refused: something new."


def test_every_word_of_a_page_is_known_in_both_languages() -> None:
    chinese = speaker(CHINESE)
    templates = (ROOT / "ledger/page/templates").glob("*.html")
    used = {word for path in templates for word in re.findall(r'\bt\("([\w-]+)"\)', path.read_text())}
    assert len(used) > 40
    for word in used:
        assert re.search(r"[\u4e00-\u9fff]", chinese(word)), word
    assert [name for name in EVENTS if chinese(name) == name] == []


def test_no_template_holds_a_script_a_style_or_a_handler() -> None:
    for path in (ROOT / "ledger/page/templates").glob("*.html"):
        text = path.read_text()
        assert not re.search(
            r"<script(?![^>]*\bsrc=\"/static/)|<style|\sstyle=|\son\w+=|hx-on|js:|\|\s*safe", text
        ), path


def test_the_language_is_the_cookies_or_the_browsers() -> None:
    assert preferred("", "zh-CN,zh;q=0.9") == CHINESE
    assert preferred("", "de") == ENGLISH
    assert preferred(ENGLISH, "zh-CN") == ENGLISH
    assert preferred("<script>", "") == ENGLISH
