"""Consent codes: what an enterprise fetched from a partner and gave to its bank, as a small file at either end.

Specification: training protocol, step B8. CSV, UTF-8, a header. At a bank: ``id, partner, code``. At a partner:
``id, bank, code, state`` with the state ``given`` or ``withdrawn``. A code is 16 bytes as 32 hexadecimal digits.
Under a job that demands consent a bank can ask only for enterprises whose code it holds, and a row whose consent was
withdrawn is missing from the next publication.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from node.config import NodeConfig
from protocol.errors import DataError
from protocol.voprf import CONSENT_BYTES

BANK_FIELDS = ("id", "partner", "code")
PARTNER_FIELDS = ("id", "bank", "code", "state")
GIVEN, WITHDRAWN = "given", "withdrawn"


def of_bank(config: NodeConfig) -> dict[str, dict[str, bytes]]:
    """Return a bank's codes by partner and id; none where the configuration names no file."""
    found: dict[str, dict[str, bytes]] = {}
    for path, line, row in _rows(config, BANK_FIELDS):
        found.setdefault(row["partner"], {})[row["id"]] = _code(path, line, row["code"])
    return found


def of_partner(config: NodeConfig) -> dict[str, dict[str, bytes | None]]:
    """Return a partner's codes by bank and id, None where consent was withdrawn."""
    found: dict[str, dict[str, bytes | None]] = {}
    for path, line, row in _rows(config, PARTNER_FIELDS):
        if row["state"] not in (GIVEN, WITHDRAWN):
            raise DataError(
                "CONSENT_STATE", f"{path.name}, line {line}: state is neither {GIVEN} nor {WITHDRAWN}"
            )
        code = _code(path, line, row["code"])
        found.setdefault(row["bank"], {})[row["id"]] = None if row["state"] == WITHDRAWN else code
    return found


def _rows(config: NodeConfig, fields: tuple[str, ...]) -> Iterator[tuple[Path, int, dict[str, str]]]:
    if config.data is None or config.data.consents is None:
        return
    path = config.path(config.data.consents)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != fields:
                raise DataError(
                    "CONSENT_FIELDS",
                    f"{path.name}: the header must be {', '.join(fields)}",
                    "Correct the first line.",
                )
            for row in reader:
                yield path, reader.line_num, row
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "CONSENT_UNREADABLE", f"{path.name} can't be read: {type(error).__name__}", "Check data.consents."
        ) from None


def _code(path: Path, line: int, text: str) -> bytes:
    try:
        code = bytes.fromhex(text)
    except ValueError:
        code = b""
    if len(code) != CONSENT_BYTES:
        raise DataError(
            "CONSENT_CODE",
            f"{path.name}, line {line}: a code has {2 * CONSENT_BYTES} hexadecimal digits",
            "Fetch the code from the partner anew.",
        )
    return code
