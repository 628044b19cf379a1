"""Consent codes as files: what is read, what is refused, and that a demonstration's codes agree at both ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from concordat.consents import Consents
from node import consents
from protocol.errors import DataError

CODE = "0f" * 16


def config(file: Path | None) -> Any:
    data = None if file is None else SimpleNamespace(consents=file)
    return SimpleNamespace(data=data, path=lambda path: path)


def written(folder: Path, text: str) -> Any:
    file = folder / "consents.csv"
    file.write_text(text, "utf-8")
    return config(file)


class TestFiles:
    def test_a_banks_codes_come_by_partner(self, tmp_path: Path) -> None:
        found = consents.of_bank(written(tmp_path, f"id,partner,code\nA,shop,{CODE}\nA,tax,{CODE}\n"))
        assert found == {"shop": {"A": bytes.fromhex(CODE)}, "tax": {"A": bytes.fromhex(CODE)}}

    def test_a_partners_withdrawn_code_is_none(self, tmp_path: Path) -> None:
        text = f"id,bank,code,state\nA,bank-1,{CODE},given\nB,bank-1,{CODE},withdrawn\n"
        assert consents.of_partner(written(tmp_path, text)) == {
            "bank-1": {"A": bytes.fromhex(CODE), "B": None}
        }

    def test_without_a_file_there_are_none(self) -> None:
        assert consents.of_bank(config(None)) == {}
        assert consents.of_partner(config(None)) == {}

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            (f"id,bank,code\nA,shop,{CODE}\n", "CONSENT_FIELDS"),
            ("id,partner,code\nA,shop,0f\n", "CONSENT_CODE"),
            ("id,partner,code\nA,shop,not hexadecimal at all, but longer\n", "CONSENT_CODE"),
        ],
    )
    def test_mistakes_name_the_line_and_no_enterprise(self, tmp_path: Path, text: str, code: str) -> None:
        with pytest.raises(DataError, match=rf"\[{code}\]") as caught:
            consents.of_bank(written(tmp_path, text))
        assert "consents.csv" in str(caught.value)
        assert "A," not in str(caught.value)

    def test_an_unknown_state_and_a_missing_file_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"line 2.*\[CONSENT_STATE\]"):
            consents.of_partner(written(tmp_path, f"id,bank,code,state\nA,bank-1,{CODE},maybe\n"))
        with pytest.raises(DataError, match=r"\[CONSENT_UNREADABLE\]"):
            consents.of_bank(config(tmp_path / "nowhere.csv"))


class TestDemonstration:
    MADE = Consents(
        {"bank-1": frozenset(f"e{i}" for i in range(2000))},
        {"shop": frozenset(f"e{i}" for i in range(500, 2500))},
        refused=0.1,
        withdrawn=0.2,
    )

    def test_both_ends_hold_the_same_codes(self) -> None:
        bank, partner = self.MADE.of_bank("bank-1")["shop"], self.MADE.of_partner("shop")["bank-1"]
        assert set(bank) == set(partner) <= {f"e{i}" for i in range(500, 2000)}
        assert {one for one, code in partner.items() if code is not None and bank[one] != code} == set()

    def test_the_stated_shares_refuse_and_withdraw(self) -> None:
        partner = self.MADE.of_partner("shop")["bank-1"]
        assert 0.87 < len(partner) / 1500 < 0.93
        assert 0.17 < sum(code is None for code in partner.values()) / 1500 < 0.23

    def test_files_say_what_the_objects_say(self, tmp_path: Path) -> None:
        for party in ("bank-1", "shop"):
            self.MADE.write(party, tmp_path / f"{party}.csv")
        assert consents.of_bank(config(tmp_path / "bank-1.csv")) == self.MADE.of_bank("bank-1")
        assert consents.of_partner(config(tmp_path / "shop.csv")) == self.MADE.of_partner("shop")
