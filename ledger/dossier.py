"""A dossier: what the parties to one receivable know of it and the ledger does not.

Specification: ledger protocol, sections 1 to 3. The ledger sees three salted commitments ::

    terms hash = SHA-256(lp("concordat/ledger-terms/v1", salt, canonical JSON of parties, payable, dates, account))
    doc root   = root of the salted fields (`ledger.proofs.fields`)
    claim id   = RFC 6962 leaf hash of the draft (owner, tags, terms, documents, framework contract, draft salt)

Invariants: every salt is 32 fresh bytes, so equal invoices give unrelated commitments; whoever gets a dossier
recomputes all three and the tags, and signs nothing that does not match.

What each party learns: whoever gets the dossier reads the invoice. Not protected: a dossier is as secret as those who
have it; it travels between supplier, obligor and banks only, and lies encrypted in each one's database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ledger.commitments import NO_CONTRACT, Draft, TagSet, due_week, new_salt, tags_hash
from ledger.invoice import Invoice
from ledger.proofs.fields import SaltedFields
from protocol import canonical
from protocol.canonical import lp
from protocol.errors import ProtocolError

_TERMS = "concordat/ledger-terms/v1"
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Dossier:
    """One receivable in the clear.

    Attributes:
        invoice: the document.
        file: SHA-256 of the document's file, 32 bytes, or b"".
        terms_salt: 32 bytes.
        field_salts: 32 bytes by field name.
        draft_salt: 32 bytes.
        contract_tag: tag of a framework contract, or ``NO_CONTRACT``.
    """

    invoice: Invoice
    file: bytes
    terms_salt: bytes = field(repr=False)
    field_salts: Mapping[str, bytes] = field(repr=False)
    draft_salt: bytes = field(repr=False)
    contract_tag: bytes = NO_CONTRACT

    @classmethod
    def new(cls, invoice: Invoice, file: bytes = b"", contract_tag: bytes = NO_CONTRACT) -> Dossier:
        """Draw salts for an invoice."""
        names = _fields(invoice, file)
        return cls(invoice, file, new_salt(), {name: new_salt() for name in names}, new_salt(), contract_tag)

    @property
    def fields(self) -> dict[str, str]:
        """The document's fields by name, as the document tree holds them."""
        return _fields(self.invoice, self.file)

    @property
    def terms_hash(self) -> bytes:
        """Salted commitment to the terms, 32 bytes."""
        invoice = self.invoice
        terms = {
            "seller": invoice.seller,
            "buyer": invoice.buyer,
            "payable": str(invoice.payable),
            "currency": invoice.currency,
            "issued": invoice.issued.isoformat(),
            "due": invoice.due.isoformat(),
            "account": invoice.account,
        }
        return hashlib.sha256(lp(_TERMS, self.terms_salt, canonical.encode(terms))).digest()

    @property
    def doc_root(self) -> bytes:
        """Root of the document tree, 32 bytes."""
        return SaltedFields.of(self.fields, dict(self.field_salts)).root()

    @property
    def due_week(self) -> int:
        """The public due week: weeks since 1970, rounded up over the whole day of payment."""
        due = self.invoice.due
        return due_week(int(datetime(due.year, due.month, due.day, tzinfo=UTC).timestamp()) + _DAY)

    def draft(self, owner: bytes, sets: Sequence[TagSet]) -> Draft:
        """Return the draft under an owner's key id and the document's tags."""
        return Draft(
            owner, tags_hash(sets), self.terms_hash, self.doc_root, self.contract_tag, self.draft_salt
        )

    def to_json(self) -> dict[str, Any]:
        """Return the dossier as a JSON object; private."""
        return {
            "version": 1,
            "invoice": self.invoice.to_json(),
            "file": self.file.hex(),
            "terms_salt": self.terms_salt.hex(),
            "field_salts": {name: salt.hex() for name, salt in sorted(self.field_salts.items())},
            "draft_salt": self.draft_salt.hex(),
            "contract_tag": self.contract_tag.hex(),
        }

    @classmethod
    def from_json(cls, found: Any) -> Dossier:
        """Read a dossier.

        Raises:
            ProtocolError: ``DOSSIER_MALFORMED``.
            DataError: its invoice is malformed.
        """
        try:
            if found["version"] != 1:
                raise ValueError
            made = cls(
                invoice=Invoice.from_json(found["invoice"]),
                file=bytes.fromhex(found["file"]),
                terms_salt=bytes.fromhex(found["terms_salt"]),
                field_salts={name: bytes.fromhex(salt) for name, salt in found["field_salts"].items()},
                draft_salt=bytes.fromhex(found["draft_salt"]),
                contract_tag=bytes.fromhex(found["contract_tag"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(
                "DOSSIER_MALFORMED", "A dossier lacks a field, or one has a wrong form."
            ) from error
        salts = [made.terms_salt, made.draft_salt, *made.field_salts.values()]
        sound = (
            set(made.field_salts) == set(made.fields)
            and all(len(salt) == 32 for salt in salts)
            and len(set(salts)) == len(salts)
            and len(made.contract_tag) == 32
            and len(made.file) in (0, 32)
        )
        if not sound:
            raise ProtocolError("DOSSIER_MALFORMED", "A dossier breaks a rule on salts, fields or lengths.")
        return made


def _fields(invoice: Invoice, file: bytes) -> dict[str, str]:
    plain = invoice.to_json()
    fields = {name: str(value) for name, value in plain.items() if name not in ("numbers", "payable")}
    fields["amount"] = invoice.amount
    fields.update({f"number.{place}": number for place, number in enumerate(invoice.numbers)})
    if file:
        fields["file"] = file.hex()
    return fields
