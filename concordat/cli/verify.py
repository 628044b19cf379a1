"""``concordat verify``: what a proof file proves, checked on this machine alone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from concordat.cli.output import Format, FormatOption, show

if TYPE_CHECKING:
    from ledger.proofs.trust import Trust

REVOKED = 8
"""Exit code where a file is whole, and shows that what it shows was revoked."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def verify(
    file: Annotated[Path, typer.Argument(help="The proof.")],
    trust: Annotated[
        str,
        typer.Option(
            envvar="CONCORDAT_LEDGER_TRUST",
            help="The ledger's signed genesis document (a file), or its fingerprint of 64 digits.",
        ),
    ] = "",
    max_age: Annotated[
        str, typer.Option(help="How old the block may be that it speaks of: seconds, 12h, 7d, or any.")
    ] = "1d",
    distrust: Annotated[
        list[str] | None, typer.Option(help="A member whose signature no longer counts; may be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag that it must be about, 64 digits; give all of them.")
    ] = None,
    format: FormatOption = Format.text,  # noqa: A002 - the option's name
) -> None:
    """Verify a proof file offline, and say what it proves and what it doesn't.

    Exit code 0 if the file holds, 8 if it shows a revoked document or the opposite of its statement, 4 if it
    was changed, is too old, or lacks signatures.

    \b
    Examples:
      concordat verify proof.json --trust genesis.json
      concordat verify proof.json --trust genesis.json --max-age any --format json
    """
    from ledger.proofs.verifying import verify as check

    data = file.read_bytes()
    verdict = check(
        data,
        _trust(trust, data),
        now=int(time.time()),
        max_age=_age(max_age),
        removed=tuple(distrust or ()),
        tags=tuple(_tag(each) for each in tag or ()),
    )
    show(format, verdict.to_json(), verdict.text)
    if verdict.status == "REVOKED":
        raise typer.Exit(REVOKED)


def _trust(given: str, data: bytes) -> Trust | str:
    from ledger.engine import genesis
    from ledger.proofs.trust import Trust
    from ledger.proofs.verifying import Proof
    from protocol.errors import ConfigurationError, SignatureInvalid

    if not given:
        raise SignatureInvalid(
            "PROOF_NO_TRUST",
            "A proof names the ledger it is of, and anybody can found a ledger. This one's fingerprint is "
            f"{Proof.decode(data).ledger.fingerprint}.",
            "Compare it with your consortium by telephone, then give it (or the genesis document) with --trust.",
        )
    if _FINGERPRINT.fullmatch(given) and not Path(given).exists():
        return given
    try:
        signed = json.loads(Path(given).read_bytes())
    except ValueError as error:
        raise ConfigurationError(
            "TRUST_UNREADABLE", "What --trust names is neither a genesis document nor a fingerprint."
        ) from error
    return Trust.of(genesis.check(signed))


def _age(text: str) -> int | None:
    from protocol.errors import ConfigurationError

    if text == "any":
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None:
        raise ConfigurationError("MAX_AGE", "An age must be seconds, or a number with m, h or d, or any.")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]]


def _tag(text: str) -> bytes:
    from protocol.errors import ConfigurationError

    if not _FINGERPRINT.fullmatch(text):
        raise ConfigurationError("TAG", "A tag must be 64 lower-case hexadecimal digits.")
    return bytes.fromhex(text)
