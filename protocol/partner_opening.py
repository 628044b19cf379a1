"""Opening of v to one partner: complete or void, once per job and partner.

Specification: training protocol, step B6. With Σ a·z = 2·Σ a·bit − Σ a, every share of Σ a·bit is doubled. For the
components ::

    bank b sends     1 ‖ 2·Σ a·u − Σ a + noise_b + masks        T sends   1 ‖ 2·Σ_b (sums over D) + noise_T + masks
    partner adds         2·Σ_b (sums over U)

with the pairwise masks of `protocol.masking` between all banks of the roster and T, under labels of this job,
attempt and partner; the low K bits of a share cross. A `ReleaseRoster` names job, attempt, banks, T and partner.
Banks store their masked share, then send it to the partner; all banks and T sign the roster, which charges ε;
then T, once per (job, partner), sends its share. The partner adds everything up and reads the low K bits in two's
complement.

Invariants:
    - Until T's share is out nothing can be read: every other share carries a mask with T.
    - T gives one share per (job, partner), over one roster, which all of its banks and T have signed. The same
      roster again gets the stored bytes, another roster nothing: two totals over unlike rosters would differ
      by the banks that are in one of them only. (A second release over a roster that differs by at least
      three banks, which the protocol would allow when charged, is not offered.)
    - A bank masks one share per (job, attempt, partner). A new attempt masks the same weights and the same noise
      under new labels, so that attempts can't be averaged; a share of a void attempt keeps its masks for good.
    - Signing and charging are one step (`sign`); what is signed is charged, opened or not.
    - A share has K bits an element, never more. D crosses modulo 2^K, so T's sums carry borrows above bit K
      that depend on single rows; a total modulo 2^64 would show them to the partner without noise.
    - Element 0 counts the shares: masks that didn't cancel are noticed with probability 1 − 2^-K.

What each party learns: the partner v plus noise of variance 2σ², T and the banks nothing. Not protected: a bank
or T can make the attempt void, or v wrong, by what it sends; all banks but one together with the partner read
the last one's v plus noise; T with the partner reads v with the banks' noise only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import canonical, document, masking, ring
from protocol.errors import JobVoid, ProtocolError
from protocol.identity import IdentityKey, PublicKey, check_name
from protocol.labels import Label
from protocol.opening import Opening, Roster, checked, with_count
from protocol.product import WIDTH
from protocol.release import Charge, SpentPrivacy

KIND = "release-roster"
_FIELDS = {"job", "attempt", "banks", "compute", "partner"}


@dataclass(frozen=True)
class ReleaseRoster:
    """Who takes part in one opening to a partner.

    Attributes:
        roster: job, attempt and banks, at least three.
        compute: T's name.
        partner: who reads the result.
    """

    roster: Roster
    compute: str
    partner: str

    def __post_init__(self) -> None:
        names = {check_name(self.compute), check_name(self.partner), *self.roster.banks}
        if len(names) != len(self.roster.banks) + 2:
            raise ProtocolError("ROSTER_MALFORMED", "Banks, compute party and partner are different parties.")

    @property
    def parties(self) -> tuple[str, ...]:
        """Banks and T, sorted: who masks and who signs."""
        return tuple(sorted((*self.roster.banks, self.compute)))

    @property
    def shares(self) -> Roster:
        """The roster of the shares that are added up, T among them."""
        return Roster(self.roster.job, self.roster.attempt, self.parties)

    @property
    def label(self) -> Label:
        """The label of the masks."""
        return Label("release/share", self.roster.job, self.roster.attempt, partner=self.partner)

    @property
    def body(self) -> dict[str, Any]:
        """The roster as the body of a signed document."""
        return {**self.roster.body, "compute": self.compute, "partner": self.partner}

    @property
    def digest(self) -> str:
        """The roster's digest, which names the release in the record of spent privacy."""
        return canonical.digest(KIND, self.body)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> ReleaseRoster:
        """Read a document's body.

        Raises:
            ProtocolError: ``ROSTER_MALFORMED``, ``ROSTER_TOO_SMALL`` or ``PARTY_NAME``.
        """
        if not isinstance(body, Mapping) or set(body) != _FIELDS:
            raise ProtocolError(
                "ROSTER_MALFORMED", "A roster names job, attempt, banks, compute and partner."
            )
        inner = Roster.from_body({name: body[name] for name in ("job", "attempt", "banks")})
        return cls(inner, body["compute"], body["partner"])

    @classmethod
    def verified(cls, signed: Mapping[str, Any], keys: Mapping[str, PublicKey]) -> ReleaseRoster:
        """Return the roster of a document that all of its banks and T have signed.

        Args:
            signed: the document.
            keys: the keys of the job's parties, by name.

        Raises:
            ProtocolError: as `from_body` and `protocol.document.verify`.
        """
        roster = cls.from_body(signed.get("body") or {})
        return cls.from_body(document.verify(signed, KIND, keys, roster.parties))


def sign(
    roster: ReleaseRoster, *, signer: str, key: IdentityKey, spent: SpentPrivacy, cohort: str, mu: float
) -> dict[str, Any]:
    """Charge a release and sign its roster; the caller stores ``spent`` before the signature leaves.

    Args:
        roster: what is signed.
        signer: this bank, or T.
        key: its identity key.
        spent: its record.
        cohort: which enterprises the release is about.
        mu: μ of the release.

    Raises:
        NotApproved: ``PRIVACY_SPENT``; nothing is signed.
        ProtocolError: ``ROSTER_STRANGER`` if the signer takes no part.
    """
    if signer not in roster.parties:
        raise ProtocolError("ROSTER_STRANGER", "A party signs a roster that it is not on.")
    spent.charge(Charge(roster.partner, cohort, roster.digest, mu))
    return document.sign(KIND, roster.body, signer, key)


def gather(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one document with the signatures of all; `ReleaseRoster.verified` checks them.

    Raises:
        ProtocolError: ``ROSTER_SECOND`` if the documents are not of one roster, ``ROSTER_MALFORMED`` for none.
    """
    if not documents:
        raise ProtocolError("ROSTER_MALFORMED", "There is no signed roster.")
    if any(one.get("body") != documents[0].get("body") for one in documents):
        raise ProtocolError("ROSTER_SECOND", "The parties have signed unlike rosters.")
    return {**documents[0], "signatures": [entry for one in documents for entry in one["signatures"]]}


def _masked(
    roster: ReleaseRoster, own: str, vector: NDArray[np.uint64], pair_keys: Mapping[str, bytes], width: int
) -> bytes:
    masked = masking.mask(
        with_count(vector),
        own=own,
        banks=roster.parties,
        pair_keys=pair_keys,
        group_key=None,
        label=roster.label,
    )
    return ring.pack(masked, width)


def _check_vectors(*vectors: NDArray[np.uint64]) -> None:
    if any(one.dtype != np.uint64 or one.ndim != 1 or one.shape != vectors[0].shape for one in vectors):
        raise ProtocolError("OPENING_LENGTH", "Sums and noise are rows of ring elements, of one length.")


class _Stored:
    """Shares as they were made: one per place, the same roster gets the same bytes."""

    def __init__(self) -> None:
        self._made: dict[tuple[str | int, ...], tuple[str, bytes]] = {}

    def known(self, place: tuple[str | int, ...], roster: ReleaseRoster) -> bytes | None:
        """Return the bytes made at a place, None if none were.

        Raises:
            ProtocolError: ``ROSTER_SECOND`` if they were made over another roster.
        """
        digest, data = self._made.get(place, ("", b""))
        if digest and digest != roster.digest:
            raise ProtocolError(
                "ROSTER_SECOND",
                f"A share toward {roster.partner} was given over another roster already.",
                "A second roster would let the difference of the two totals show single banks.",
            )
        return data if digest else None

    def keep(self, place: tuple[str | int, ...], roster: ReleaseRoster, data: bytes) -> bytes:
        """Note the bytes of a place and return them."""
        self._made[place] = (roster.digest, data)
        return data

    def to_state(self) -> list[list[str | int]]:
        """Return the shares as a JSON value; the caller stores it before one leaves."""
        return [[*place, digest, data.hex()] for place, (digest, data) in self._made.items()]

    def restore(self, state: Iterable[Sequence[str | int]]) -> None:
        """Take up a stored record."""
        for *place, digest, data in state:
            self._made[tuple(place)] = (str(digest), bytes.fromhex(str(data)))


class BankShares(_Stored):
    """A bank's shares: one per (job, attempt, partner)."""

    def share(
        self,
        roster: ReleaseRoster,
        *,
        own: str,
        sums: NDArray[np.uint64],
        values: NDArray[np.int64],
        noise: NDArray[np.uint64],
        pair_keys: Mapping[str, bytes],
        width: int = WIDTH,
    ) -> bytes:
        """Return the bank's masked share; the caller stores `to_state` before sending it.

        Args:
            roster: who takes part.
            own: this bank.
            sums: Σ a·u, shape (k,), of `product.bank_sums`.
            values: a·2^f of the covered rows, shape (c,).
            noise: the bank's noise, shape (k,); the same in every attempt of a job.
            pair_keys: key from `MaskKey.agree` for every other bank and for T.
            width: K.

        Raises:
            ProtocolError: ``ROSTER_SECOND`` if this attempt has a share over another roster,
                ``OPENING_LENGTH``, or as `masking.mask`.
        """
        place = (roster.roster.job, roster.roster.attempt, roster.partner)
        known = self.known(place, roster)
        if known is not None:
            return known
        if own not in roster.roster.banks:
            raise ProtocolError("ROSTER_STRANGER", "A bank gives no share over a roster without it.")
        _check_vectors(sums, noise)
        total = values.view(np.uint64).sum(dtype=np.uint64)
        return self.keep(place, roster, _masked(roster, own, sums + sums - total + noise, pair_keys, width))


class ComputeShares(_Stored):
    """T's shares: one per (job, partner)."""

    def share(
        self,
        signed: Mapping[str, Any],
        *,
        keys: Mapping[str, PublicKey],
        own: str,
        sums: Mapping[str, NDArray[np.uint64]],
        noise: NDArray[np.uint64],
        pair_keys: Mapping[str, bytes],
        width: int = WIDTH,
    ) -> bytes:
        """Return T's masked share over a completely signed roster; the caller stores `to_state` first.

        Args:
            signed: the roster, signed by all of its banks and T.
            keys: the keys of the job's parties.
            own: T's name.
            sums: T's sums of `product.ComputeSums` toward this partner, by bank, shape (k,) each.
            noise: T's noise, shape (k,).
            pair_keys: key from `MaskKey.agree` for every bank of the roster.
            width: K.

        Raises:
            ProtocolError: ``ROSTER_SECOND`` if the partner has T's share over another roster already,
                ``ROSTER_STRANGER`` if the roster names another compute party, ``OPENING_LENGTH``, or as
                `ReleaseRoster.verified`.
            JobVoid: ``OPENING_INCOMPLETE`` if a bank of the roster has sent no product.
        """
        roster = ReleaseRoster.verified(signed, keys)
        place = (roster.roster.job, roster.partner)
        known = self.known(place, roster)
        if known is not None:
            return known
        if own != roster.compute:
            raise ProtocolError("ROSTER_STRANGER", "A roster names another compute party.")
        missing = [bank for bank in roster.roster.banks if bank not in sums]
        if missing:
            raise JobVoid(
                "OPENING_INCOMPLETE",
                f"There is no product of {', '.join(missing)} toward {roster.partner}.",
                "The attempt is void; the next one runs with the banks that remain.",
            )
        chosen = [sums[bank] for bank in roster.roster.banks]
        _check_vectors(noise, *chosen)
        vector = noise.copy()
        for one in chosen:
            vector += one + one
        return self.keep(place, roster, _masked(roster, own, vector, pair_keys, width))


class PartnerOpening:
    """The partner's side: collects the shares, reads v once all of them are there."""

    def __init__(self, roster: ReleaseRoster, components: int, width: int = WIDTH) -> None:
        """Begin.

        Args:
            roster: the signed roster.
            components: k.
            width: K of the product.
        """
        self._roster = roster
        self._width = width
        self._components = components
        self._opening = Opening(roster.shares, "the release", 0, components + 1)

    @property
    def missing(self) -> tuple[str, ...]:
        """Who has not sent a share yet."""
        return self._opening.missing

    def add(self, sender: str, data: bytes) -> None:
        """Take a share; the same one again changes nothing.

        Raises:
            ProtocolError: ``RING_LENGTH``, or as `Opening.add`.
        """
        self._opening.add(sender, ring.unpack(data, self._width, self._components + 1))

    def result(self, sums: Mapping[str, NDArray[np.uint64]]) -> NDArray[np.int64]:
        """Return v plus noise in units of 2^−f, shape (k,).

        Args:
            sums: the partner's sums of `product.partner_sums`, by bank.

        Raises:
            JobVoid: ``OPENING_INCOMPLETE`` if a share is missing.
            ProtocolError: ``OPENING_COUNT`` if the masks did not cancel, ``OPENING_LENGTH`` if the partner's
                sums are not those of the roster's banks.
        """
        if not set(self._roster.roster.banks) <= set(sums):
            raise ProtocolError("OPENING_LENGTH", "The partner lacks its sums toward a bank of the roster.")
        low = np.uint64(2**self._width - 1)
        total = checked(self._opening.total() & low, self._roster.shares)
        for bank in self._roster.roster.banks:
            _check_vectors(total, sums[bank])
            total += sums[bank] + sums[bank]
        return ring.signed_low(total, self._width)
