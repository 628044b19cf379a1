"""Simple invoices: one document in many clothes, and what is refused in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.invoice import Invoice, minor_units, read
from protocol.errors import DataError

SELLER, BUYER, NUMBER = "91350100M000100Y43", "91440300708461136T", "24312000000012345678"
FIELDS = {
    "seller": SELLER,
    "buyer": BUYER,
    "number": NUMBER,
    "issued": "2026-11-01",
    "due": "2027-02-28",
    "amount": "100000.00",
}
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def of(**changes: Any) -> Invoice:
    return read(json.dumps({**FIELDS, **changes}).encode(), "a.json")


def code(data: bytes, row: int = 1) -> str:
    with pytest.raises(DataError) as refused:
        read(data, "a.csv", row)
    return refused.value.code


@pytest.mark.parametrize(
    "changes",
    [
        {"number": NUMBER.translate(WIDE)},
        {"number": f"{NUMBER[:4]} {NUMBER[4:12]}\u3000{NUMBER[12:]}\u00a0"},
        {"code": NUMBER[:12], "number": NUMBER[12:]},
        {"code": NUMBER[:12].translate(WIDE), "number": f" {NUMBER[12:]}"},
        {"seller": SELLER.lower(), "buyer": f"{BUYER[:6]}-{BUYER[6:]}"},
        {"amount": 100000, "currency": "cny"},
        {"amount": "１００，０００．００"},
        {"issued": "2026年11月1日", "due": "2027/2/28"},
        {"issued": "20261101", "kind": "发票"},
        {"kind": "380"},
    ],
)
def test_cases_3_and_4_one_document_in_other_clothes(changes: dict[str, Any]) -> None:
    assert of(**changes) == of()


def test_a_row_of_csv_is_the_same_document() -> None:
    text = "﻿销售方,购买方,发票代码,发票号码,开票日期,到期日,价税合计,币种\n"
    row = f'{SELLER},{BUYER},{NUMBER[:12]},{NUMBER[12:]},2026年11月1日,2027-02-28,"100,000",CNY\n'
    assert read((text + row.replace(SELLER, BUYER) + row).encode(), "a.csv", 2) == of()


def test_what_identifies_and_what_does_not() -> None:
    same = (of().identity, of(amount="1.00").identity, of(due="2027-03-01").identity)
    assert len(set(same)) == 1, "amount and dates are no part of it"
    assert of(issued="2025-11-01").identity == of().identity, "the digits hold the year already"
    own = [of(number="INV-1", issued=f"{year}-11-01").identity for year in (2025, 2026)]
    assert own[0] != own[1], "case 11: where numbering restarts, the year counts"
    assert of(number="inv-1 ").identity == of(number="INV-1").identity
    assert of(number="INV1").identity != of(number="INV-1").identity, "case 7 is a loose match"
    assert of(seller=BUYER, buyer=SELLER).identity != of().identity, "case 10"


def test_case_19_minor_units_of_each_currency() -> None:
    assert of(amount="1234", currency="JPY").payable == 1234
    assert of(amount="1.234", currency="BHD").payable == 1234
    assert of(amount="12.34").amount == "12.34"
    assert of(amount="5", currency="JPY").amount == "5"
    assert of(amount="0.05").amount == "0.05"
    for text, currency in (
        ("1.5", "JPY"),
        ("1.2345", "BHD"),
        ("0.001", "CNY"),
        ("NaN", "CNY"),
        ("-1", "CNY"),
    ):
        with pytest.raises(ValueError):
            minor_units(text, currency)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"number": "12345678"}, "INVOICE_CODE"),
        ({"code": "123", "number": "12345678"}, "INVOICE_NUMBER"),
        ({"seller": "91350100M000100Y4Z"}, "DATA_INVALID_ID"),
        ({"buyer": SELLER}, "INVOICE_PARTIES"),
        ({"due": "2026-10-31"}, "INVOICE_DUE"),
        ({"due": "2026-02-30"}, "INVOICE_DATE"),
        ({"amount": "0.00"}, "INVOICE_AMOUNT"),
        ({"amount": "1e99"}, "INVOICE_AMOUNT"),
        ({"amount": "abc"}, "INVOICE_AMOUNT"),
        ({"currency": "¥"}, "INVOICE_CURRENCY"),
        ({"kind": "381"}, "INVOICE_CREDIT_NOTE"),
        ({"kind": "contract"}, "INVOICE_KIND"),
        ({"total": "1"}, "INVOICE_UNKNOWN_FIELD"),
        ({"invoice_number": "1"}, "INVOICE_TWICE"),
        ({"amount": ""}, "INVOICE_MISSING"),
        ({"aliases": ["1", "2", "3", "4"]}, "INVOICE_ALIASES"),
        ({"aliases": ["INV-9"]}, "INVOICE_ALIASES"),
    ],
)
def test_refusals_name_the_field_and_quote_no_value(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError) as refused:
        of(**changes)
    assert refused.value.code == expected
    assert refused.value.message.startswith("a.json")
    for value in changes.values():
        assert not value or len(str(value)) < 4 or str(value) not in str(refused.value)


def test_files_that_are_none() -> None:
    assert code(b"\xff\xfe") == "INVOICE_TEXT"
    assert code(b"{") == "INVOICE_JSON"
    assert code(b"a,b\n1,2\n", 2) == "INVOICE_ROW"
    assert code(b"a,b\n1\n") == "INVOICE_ROW"
    assert code(b"a,b\n1,2,3\n") == "INVOICE_ROW"
    assert code(b'a,b\n"1,2\n') == "INVOICE_CSV"
    assert code(b"a" * (1 << 20) + b"a") == "INVOICE_SIZE"
    assert code(b"{" + b'"a":[' * 100_000) == "INVOICE_JSON"


def test_the_canonical_form_reads_back() -> None:
    made = of(aliases=[str(int(NUMBER) + 1)], account="6222 0000 1111")
    assert Invoice.from_json(made.to_json()) == made
    assert len(made.identity) == 2
    for field in made.to_json():
        broken = {name: value for name, value in made.to_json().items() if name != field}
        with pytest.raises(DataError):
            Invoice.from_json(broken)


@given(st.integers(min_value=1, max_value=10**13), st.sampled_from(["CNY", "JPY", "BHD"]))
def test_an_amount_and_its_text_are_one(minor: int, currency: str) -> None:
    text = of(amount="1", currency=currency)
    again = Invoice(**{**{name: getattr(text, name) for name in Invoice.__slots__}, "payable": minor}).amount
    assert minor_units(again, currency) == minor


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read(data, "a")
    except DataError:
        return
