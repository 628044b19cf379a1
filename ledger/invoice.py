"""A simple invoice: read from JSON or from a row of CSV into one canonical form.

Specification: the official number decides what a document is, whatever it looks like. Text is folded by Unicode NFKC
(full-width digits, ideographic spaces), numbers and identifiers lose spaces, amounts are exact decimals, dates are
``2026-03-01``, ``2026/3/1``, ``20260301`` or ``2026年3月1日``. Schemes of numbers:

    ``cn``   a Chinese VAT invoice: 20 digits (数电票), or code (10 or 12 digits) and number (8 digits). A 12 + 8
             pair is the same document as the 20 digits that it joins to. Eight digits alone name no document.
    ``own``  the seller's own numbering, which restarts: the year of issue is part of the number.

Invariants: two spellings of one document give equal `Invoice.identity`; amount, dates and buyer are no part of it.
Errors name file, row and field, never a value.

This reads what a desk types or exports. Documents as they are traded (UBL, CII, OFD) are another module's task.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from protocol import uscc
from protocol.errors import DataError

MAX_BYTES = 1 << 20
MAX_ALIASES = 3
"""Official numbers beside the first; a claim holds at most four tags an epoch."""

_MINOR = {"JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "KWD": 3, "OMR": 3, "TND": 3, "JOD": 3}
"""Decimals of a currency where they are not two (ISO 4217)."""

_FIELDS = {
    "seller": ("seller", "seller_id", "销售方", "销售方识别号", "销方税号"),
    "buyer": ("buyer", "buyer_id", "购买方", "购买方识别号", "购方税号"),
    "code": ("code", "invoice_code", "发票代码"),
    "number": ("number", "invoice_number", "发票号码", "数电票号码"),
    "kind": ("kind", "type", "type_code", "发票类型"),
    "issued": ("issued", "issue_date", "开票日期"),
    "due": ("due", "due_date", "到期日", "付款日期"),
    "currency": ("currency", "币种"),
    "amount": ("amount", "payable", "价税合计", "应付金额"),
    "account": ("account", "收款账号"),
    "aliases": ("aliases",),
}
_NAMES = {spelling: field for field, spellings in _FIELDS.items() for spelling in spellings}
_OPTIONAL = frozenset({"code", "kind", "currency", "account", "aliases"})

_INVOICES = frozenset({"", "invoice", "发票", "380", "384", "386", "389", "751"})
_CREDITS = frozenset({"credit-note", "credit note", "红字发票", "381", "396", "83"})

_DATE = re.compile(r"^(\d{4})(?:-|/|年)(\d{1,2})(?:-|/|月)(\d{1,2})日?$|^(\d{4})(\d{2})(\d{2})$")


@dataclass(frozen=True, slots=True)
class Invoice:
    """One document in its canonical form.

    Attributes:
        scheme: whose numbering, ``cn`` or ``own``.
        seller: Unified Social Credit Code.
        buyer: Unified Social Credit Code; never the seller's.
        numbers: official numbers, the first one first.
        issued: date of issue.
        due: date of payment.
        currency: ISO 4217.
        payable: minor units of the currency, at least 1.
        account: collection account, or "".
    """

    scheme: str
    seller: str
    buyer: str
    numbers: tuple[str, ...]
    issued: date
    due: date
    currency: str
    payable: int
    account: str = ""

    @property
    def identity(self) -> tuple[tuple[str, str, str, str, str], ...]:
        """(scheme, seller, type class, number, year or "") of each official number; see `ledger.tags`."""
        year = str(self.issued.year) if self.scheme == "own" else ""
        return tuple((self.scheme, self.seller, "invoice", number, year) for number in self.numbers)

    @property
    def amount(self) -> str:
        """The payable as a decimal text, such as ``1234.50``."""
        decimals = minor_digits(self.currency)
        text = str(self.payable).rjust(decimals + 1, "0")
        return f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text

    def to_json(self) -> dict[str, Any]:
        """Return the canonical form as a JSON object; `from_json` reads it back."""
        return {
            "scheme": self.scheme,
            "seller": self.seller,
            "buyer": self.buyer,
            "numbers": list(self.numbers),
            "issued": self.issued.isoformat(),
            "due": self.due.isoformat(),
            "currency": self.currency,
            "payable": self.payable,
            "account": self.account,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Invoice:
        """Read the canonical form back.

        Raises:
            DataError: ``INVOICE_FORM``.
        """
        try:
            return cls(
                scheme=str(found["scheme"]),
                seller=uscc.validate(str(found["seller"])),
                buyer=uscc.validate(str(found["buyer"])),
                numbers=tuple(str(each) for each in found["numbers"]),
                issued=date.fromisoformat(found["issued"]),
                due=date.fromisoformat(found["due"]),
                currency=str(found["currency"]),
                payable=int(found["payable"]),
                account=str(found["account"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("INVOICE_FORM", "An invoice is not in its canonical form.") from error


def minor_digits(currency: str) -> int:
    """Return how many decimals a currency has."""
    return _MINOR.get(currency, 2)


def minor_units(text: str, currency: str) -> int:
    """Return an amount in minor units.

    Raises:
        ValueError: no number, below zero, or finer than the currency.
    """
    try:
        value = Decimal(_folded(text).replace(",", "").replace(" ", ""))
    except InvalidOperation as error:
        raise ValueError("no number") from error
    scaled = value.scaleb(minor_digits(currency)) if value.is_finite() else Decimal(-1)
    if scaled < 0 or scaled != scaled.to_integral_value() or scaled > 10**15:
        raise ValueError("no amount")
    return int(scaled)


def read(data: bytes, source: str, row: int = 1) -> Invoice:
    """Read an invoice from a file's bytes: a JSON object, or CSV with a head line.

    Args:
        data: the file.
        source: what errors call it: a file's name.
        row: which row of a CSV file, from 1.

    Raises:
        DataError: the file, a row or a field is wrong; names them.
    """
    if len(data) > MAX_BYTES:
        raise DataError("INVOICE_SIZE", f"{source}: a file of more than 1 MiB is no single invoice.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "INVOICE_TEXT", f"{source}: the file is not UTF-8 text.", "Save it as UTF-8."
        ) from error
    if text.lstrip().startswith("{"):
        return of(_json(text, source), source)
    return of(_row(text, source, row), f"{source}, row {row}")


def _json(text: str, source: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise DataError("INVOICE_JSON", f"{source}: the file is not valid JSON.") from error
    if not isinstance(found, dict):
        raise DataError("INVOICE_JSON", f"{source}: one JSON object describes one invoice.")
    return found


def _row(text: str, source: str, row: int) -> Mapping[str, Any]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for number, found in enumerate(reader, 1):
            if number == row:
                if None in found or None in found.values():
                    raise DataError("INVOICE_ROW", f"{source}, row {row}: it has another number of cells.")
                return dict(found)
    except csv.Error as error:
        raise DataError("INVOICE_CSV", f"{source}: the file is not readable as CSV.") from error
    raise DataError("INVOICE_ROW", f"{source}: there is no row {row} under the head line.")


def of(found: Mapping[str, Any], source: str) -> Invoice:
    """Return the invoice that named cells describe.

    Raises:
        DataError: a field is missing, unknown or wrong.
    """
    cells: dict[str, Any] = {}
    for name, value in found.items():
        field = _NAMES.get(_folded(str(name)).lower()) or _NAMES.get(str(name).strip())
        if field is None:
            known = ", ".join(sorted(_FIELDS))
            raise DataError(
                "INVOICE_UNKNOWN_FIELD", f"{source}: a field has an unknown name.", f"Known: {known}."
            )
        if field in cells:
            raise DataError("INVOICE_TWICE", f"{source}, field {field}: it is given twice.")
        cells[field] = value if field == "aliases" else _folded(str(value))
    for field in _FIELDS:
        if field not in _OPTIONAL and not cells.get(field):
            raise DataError("INVOICE_MISSING", f"{source}, field {field}: it is missing or empty.")
    return _invoice(cells, source)


def _invoice(cells: Mapping[str, Any], source: str) -> Invoice:
    kind = str(cells.get("kind", "")).lower()
    if kind in _CREDITS:
        raise DataError(
            "INVOICE_CREDIT_NOTE",
            f"{source}, field kind: a credit note is no receivable.",
            "It lowers one: `concordat ledger credit-note`.",
        )
    if kind not in _INVOICES:
        raise DataError("INVOICE_KIND", f"{source}, field kind: this type of document is not known.")
    seller, buyer = (_party(cells[name], name, source) for name in ("seller", "buyer"))
    if seller == buyer:
        raise DataError("INVOICE_PARTIES", f"{source}, field buyer: seller and buyer are one enterprise.")
    issued, due = (_date(cells[name], name, source) for name in ("issued", "due"))
    if due < issued:
        raise DataError("INVOICE_DUE", f"{source}, field due: it lies before the date of issue.")
    currency = str(cells.get("currency") or "CNY").upper()
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise DataError("INVOICE_CURRENCY", f"{source}, field currency: it is no code of three letters.")
    try:
        payable = minor_units(str(cells["amount"]), currency)
    except ValueError:
        payable = 0
    if payable < 1:
        raise DataError(
            "INVOICE_AMOUNT",
            f"{source}, field amount: it is no positive amount of this currency.",
            f"{currency} has {minor_digits(currency)} decimals.",
        )
    scheme, numbers = _numbers(cells, source)
    account = re.sub(r"\s", "", str(cells.get("account", "")))
    return Invoice(scheme, seller, buyer, numbers, issued, due, currency, payable, account)


def _numbers(cells: Mapping[str, Any], source: str) -> tuple[str, tuple[str, ...]]:
    aliases = cells.get("aliases") or []
    if not isinstance(aliases, list) or len(aliases) > MAX_ALIASES:
        raise DataError(
            "INVOICE_ALIASES",
            f"{source}, field aliases: it lists at most {MAX_ALIASES} more official numbers.",
        )
    scheme, first = _number(str(cells.get("code", "")), str(cells["number"]), source)
    others = [_number("", _folded(str(each)), source) for each in aliases]
    if any(each[0] != scheme for each in others):
        raise DataError("INVOICE_ALIASES", f"{source}, field aliases: they are numbers of another scheme.")
    return scheme, tuple(dict.fromkeys([first, *(each[1] for each in others)]))


def _number(code: str, number: str, source: str) -> tuple[str, str]:
    digits = re.sub(r"[\s\-]", "", code) + re.sub(r"[\s\-]", "", number)
    if code:
        if not re.fullmatch(r"\d{18}|\d{20}", digits):
            raise DataError(
                "INVOICE_NUMBER",
                f"{source}, field number: code and number don't have 10 or 12 and 8 digits.",
            )
        return "cn", digits
    if re.fullmatch(r"\d{18}|\d{20}", digits):
        return "cn", digits
    if re.fullmatch(r"\d{8}", digits):
        raise DataError(
            "INVOICE_CODE",
            f"{source}, field code: eight digits alone name no document.",
            "Give the invoice's code (发票代码) too, or the full number of 20 digits.",
        )
    cleaned = re.sub(r"\s", "", number).upper()
    if not 1 <= len(cleaned) <= 64:
        raise DataError("INVOICE_NUMBER", f"{source}, field number: it is empty or too long.")
    return "own", cleaned


def _party(text: str, field: str, source: str) -> str:
    try:
        return uscc.validate(text)
    except DataError as error:
        raise DataError(error.code, f"{source}, field {field}: {error.message}.", error.hint) from None


def _date(text: str, field: str, source: str) -> date:
    match = _DATE.match(re.sub(r"\s", "", text))
    try:
        if match is None:
            raise ValueError
        year, month, day = (int(part) for part in match.groups() if part)
        return date(year, month, day)
    except ValueError:
        raise DataError(
            "INVOICE_DATE", f"{source}, field {field}: it is no date.", "Write 2026-03-01."
        ) from None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()
