"""Opening to a partner: exact, complete or void, one roster, one share of T."""

from typing import Any

import numpy as np
import pytest
from vertical_world import BANKS, COMPUTE, IDENTITIES, PARTNER, PUBLIC, World, pair_keys, roster_of, signed_by

from protocol import document, product, release, ring
from protocol.errors import JobVoid, NotApproved, ProtocolError, SignatureInvalid
from protocol.join import Matched
from protocol.opening import Roster
from protocol.partner_opening import (
    BankShares,
    ComputeShares,
    PartnerOpening,
    ReleaseRoster,
    gather,
    sign,
)
from protocol.release import Release, SpentPrivacy

THREE = BANKS[:3]
FIELDS = ("rows", "slots", "shares")


@pytest.fixture(scope="module")
def world() -> World:
    return World.random(1).join_and_multiply(BANKS)


class TestResult:
    @pytest.mark.parametrize("coverage", [0.0, 0.5, 1.0])
    def test_v_is_the_plaintext_sum_to_the_bit(self, coverage: float) -> None:
        """Test 11: an absent partner is coverage zero at every bank."""
        one = World.random(2, coverage=coverage).join_and_multiply()
        assert one.opened(roster_of()).tolist() == one.plain(THREE).tolist()
        assert coverage > 0 or one.plain(THREE).tolist() == [0] * one.k

    def test_v_plus_exactly_the_noise_that_was_drawn(self, world: World) -> None:
        drawn = {name: release.noise(1e5, world.k) for name in (*THREE, COMPUTE)}
        noise = sum(one.view(np.int64) for one in drawn.values())
        assert (world.opened(roster_of(), drawn) - noise).tolist() == world.plain(THREE).tolist()

    def test_a_later_attempt_with_fewer_banks_reads_their_sum(self, world: World) -> None:
        later = roster_of(BANKS[1:], attempt=1)
        assert world.opened(later).tolist() == world.plain(BANKS[1:]).tolist()

    def test_red_a_share_that_is_not_doubled_is_off(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = product.bank_sums
        monkeypatch.setattr(product, "bank_sums", lambda m, v: honest(m, v) >> np.uint64(1))
        assert world.opened(roster_of()).tolist() != world.plain(THREE).tolist()


class TestHighBits:
    """A share has K bits: the borrows of D above them depend on rows, and no noise covers them."""

    def test_shares_have_k_bits_an_element(self, world: World) -> None:
        for data in (world.bank_share("bank-a", roster_of()), world.compute_share(signed_by(roster_of()))):
            assert len(data) == 5 * (world.k + 1)

    def test_red_a_total_of_64_bits_shows_borrows_that_no_noise_covers(self) -> None:
        """The partner predicts T's sum as if nobody had a row; the borrows that are off tell of the one row."""

        def borrows(seed: int, outcome: bool) -> list[int]:
            one = World.random(seed, rows=1, coverage=1.0, width=16)
            one.outcomes = {bank: np.array([outcome]) for bank in BANKS}
            seen = one.join_and_multiply(["bank-a"]).compute["bank-a"].view(np.int64)
            one.outcomes["bank-a"] = np.zeros(0, dtype=np.bool_)
            one.matches["bank-a"] = Matched(*(getattr(one.matches["bank-a"], f)[:0] for f in FIELDS))
            one.send_dense("bank-a")
            one.at_compute("bank-a")
            # Noise below 2^15 moves none of these, as the real one moves none of the bits above 40.
            return np.rint((seen - one.compute["bank-a"].view(np.int64)) / 2**16).astype(int).tolist()

        assert any(borrows(seed, True) != borrows(seed, False) for seed in range(40))


class TestCompleteOrVoid:
    def test_nothing_without_every_share(self, world: World) -> None:
        roster = roster_of()
        partner = PartnerOpening(roster, world.k)
        for bank in THREE:
            partner.add(bank, world.bank_share(bank, roster))
        assert partner.missing == (COMPUTE,)
        with pytest.raises(JobVoid, match="OPENING_INCOMPLETE"):
            partner.result(world.partner_sums(THREE))

    def test_a_share_of_another_attempt_or_roster_is_noticed(self, world: World) -> None:
        roster = roster_of()
        for other in (roster_of(attempt=1), roster_of(BANKS)):
            partner = PartnerOpening(roster, world.k)
            partner.add("bank-a", world.bank_share("bank-a", other))
            for bank in THREE[1:]:
                partner.add(bank, world.bank_share(bank, roster))
            partner.add(COMPUTE, world.compute_share(signed_by(roster)))
            with pytest.raises(ProtocolError, match="OPENING_COUNT"):
                partner.result(world.partner_sums(THREE))

    def test_changed_bytes_strangers_and_lengths_are_refused(self, world: World) -> None:
        roster = roster_of()
        partner = PartnerOpening(roster, world.k)
        data = world.bank_share("bank-a", roster)
        partner.add("bank-a", data)
        partner.add("bank-a", data)
        for sender, sent, code in (
            ("bank-a", bytes(len(data)), "OPENING_CHANGED"),
            ("bank-d", data, "OPENING_STRANGER"),
            (PARTNER, data, "OPENING_STRANGER"),
            ("bank-b", data[:-1], "RING_LENGTH"),
            ("bank-b", data + b"\0", "RING_LENGTH"),
        ):
            with pytest.raises(ProtocolError, match=code):
                partner.add(sender, sent)

    def test_a_partner_without_its_own_sums_reads_nothing(self, world: World) -> None:
        roster = roster_of()
        partner = PartnerOpening(roster, world.k)
        with pytest.raises(ProtocolError, match="OPENING_LENGTH"):
            partner.result(world.partner_sums(THREE[:2]))
        for bank in THREE:
            partner.add(bank, world.bank_share(bank, roster))
        partner.add(COMPUTE, world.compute_share(signed_by(roster)))
        with pytest.raises(ProtocolError, match="OPENING_LENGTH"):
            partner.result({bank: np.zeros(1, dtype=np.uint64) for bank in THREE})


class TestCompute:
    """Test 5, T's part: before the roster, twice, with a second roster."""

    @pytest.mark.parametrize("absent", [*THREE, COMPUTE])
    def test_no_share_before_the_roster_is_complete(self, world: World, absent: str) -> None:
        roster = roster_of()
        signers = [name for name in roster.parties if name != absent]
        with pytest.raises(SignatureInvalid, match="DOCUMENT_SIGNER_MISSING"):
            world.compute_share(signed_by(roster, signers))

    def test_a_forged_signature_is_refused(self, world: World) -> None:
        roster = roster_of()
        forged = document.sign("release-roster", roster.body, "bank-c", IDENTITIES["bank-d"])
        parts = [signed_by(roster, [name]) for name in ("bank-a", "bank-b", COMPUTE)]
        with pytest.raises(SignatureInvalid):
            world.compute_share(gather([*parts, forged]))

    def test_the_same_roster_gets_the_stored_bytes(self, world: World) -> None:
        book, signed = ComputeShares(), signed_by(roster_of())
        first = world.compute_share(signed, release.noise(1e5, world.k), book)
        again = ComputeShares()
        again.restore(book.to_state())
        assert world.compute_share(signed, release.noise(1e5, world.k), again) == first
        assert world.compute_share(signed, None, ComputeShares()) != first

    @pytest.mark.parametrize("other", [roster_of(BANKS), roster_of(attempt=1), roster_of(BANKS[1:])])
    def test_a_second_roster_is_refused(self, world: World, other: ReleaseRoster) -> None:
        book = ComputeShares()
        world.compute_share(signed_by(roster_of()), None, book)
        again = ComputeShares()
        again.restore(book.to_state())
        with pytest.raises(ProtocolError, match="ROSTER_SECOND"):
            world.compute_share(signed_by(other), None, again)

    def test_another_partner_has_its_own_share(self, world: World) -> None:
        book = ComputeShares()
        world.compute_share(signed_by(roster_of()), None, book)
        world.compute_share(signed_by(roster_of(partner="state")), None, book)

    def test_a_bank_without_a_product_voids_the_attempt(self, world: World) -> None:
        one = World.random(4).join_and_multiply(THREE)
        with pytest.raises(JobVoid, match="OPENING_INCOMPLETE"):
            one.compute_share(signed_by(roster_of(BANKS)))

    def test_another_compute_party_refuses(self, world: World) -> None:
        with pytest.raises(ProtocolError, match="ROSTER_STRANGER"):
            ComputeShares().share(
                signed_by(roster_of()),
                keys=PUBLIC,
                own="other",
                sums=world.compute,
                noise=world.zero,
                pair_keys=pair_keys(COMPUTE),
            )

    def test_sums_and_noise_have_one_length(self, world: World) -> None:
        with pytest.raises(ProtocolError, match="OPENING_LENGTH"):
            world.compute_share(signed_by(roster_of()), np.zeros(world.k + 1, dtype=np.uint64))


class TestBank:
    def test_one_share_an_attempt(self, world: World) -> None:
        book = BankShares()
        first = world.bank_share("bank-a", roster_of(), release.noise(1e5, world.k), book)
        again = BankShares()
        again.restore(book.to_state())
        assert world.bank_share("bank-a", roster_of(), None, again) == first
        with pytest.raises(ProtocolError, match="ROSTER_SECOND"):
            world.bank_share("bank-a", roster_of(BANKS), None, again)
        assert world.bank_share("bank-a", roster_of(BANKS, attempt=1), None, again) != first

    def test_a_bank_that_is_not_on_the_roster_gives_nothing(self, world: World) -> None:
        with pytest.raises(ProtocolError, match="ROSTER_STRANGER"):
            world.bank_share("bank-d", roster_of())

    def test_a_missing_pair_key_is_named(self, world: World) -> None:
        with pytest.raises(ProtocolError, match="MASK_PAIR_MISSING"):
            BankShares().share(
                roster_of(),
                own="bank-a",
                sums=world.zero,
                values=np.zeros(0, dtype=np.int64),
                noise=world.zero,
                pair_keys={},
            )


class TestRoster:
    def test_parties_and_digest(self) -> None:
        roster = roster_of()
        assert roster.parties == (*THREE, COMPUTE)
        assert ReleaseRoster.from_body(roster.body) == roster
        others = [roster_of(BANKS), roster_of(attempt=1), roster_of(partner="state")]
        assert len({roster.digest, *(other.digest for other in others)}) == 4
        assert ReleaseRoster.verified(signed_by(roster), PUBLIC) == roster

    @pytest.mark.parametrize(
        ("compute", "partner"), [("bank-a", "shop"), ("compute", "bank-b"), ("shop", "shop")]
    )
    def test_roles_are_apart(self, compute: str, partner: str) -> None:
        with pytest.raises(ProtocolError, match="ROSTER_MALFORMED"):
            ReleaseRoster(Roster.of("job-1", 0, THREE), compute, partner)

    def test_three_banks_beside_t(self) -> None:
        with pytest.raises(ProtocolError, match="ROSTER_TOO_SMALL"):
            roster_of(BANKS[:2])

    @pytest.mark.parametrize(
        "change", [{"more": 1}, {"compute": None}, {"banks": "bank-a"}, {"attempt": "0"}]
    )
    def test_malformed_bodies_are_refused(self, change: dict[str, Any]) -> None:
        body = {**roster_of().body, **change}
        body = {name: value for name, value in body.items() if value is not None}
        with pytest.raises(ProtocolError, match="ROSTER_MALFORMED"):
            ReleaseRoster.from_body(body)
        for broken in ({}, {"body": None}, {"body": []}):
            with pytest.raises(ProtocolError):
                ReleaseRoster.verified(broken, PUBLIC)

    def test_unlike_rosters_are_not_gathered(self) -> None:
        with pytest.raises(ProtocolError, match="ROSTER_SECOND"):
            gather([signed_by(roster_of(), ["bank-a"]), signed_by(roster_of(BANKS), ["bank-b"])])
        with pytest.raises(ProtocolError, match="ROSTER_MALFORMED"):
            gather([])


class TestCharging:
    ONE = Release(20, 0.22, 3, 1.0, 1e-5)

    def _sign(self, spent: SpentPrivacy, attempt: int = 0, signer: str = "bank-a") -> dict[str, Any]:
        return sign(
            roster_of(attempt=attempt),
            signer=signer,
            key=IDENTITIES["bank-a"],
            spent=spent,
            cohort="cohort-1",
            mu=self.ONE.mu,
        )

    def test_signing_charges_and_a_repeat_does_not(self) -> None:
        spent = SpentPrivacy()
        assert self._sign(spent) == self._sign(spent)
        assert spent.spent(PARTNER, {"cohort-1"}) == self.ONE.mu
        assert spent.charges[0].release == roster_of().digest
        self._sign(spent, attempt=1)  # another roster is another release
        assert spent.spent(PARTNER) == pytest.approx(2**0.5 * self.ONE.mu)

    def test_nothing_is_signed_beyond_the_limit(self) -> None:
        spent = SpentPrivacy({PARTNER: self.ONE.mu})
        self._sign(spent)
        with pytest.raises(NotApproved, match="PRIVACY_SPENT"):
            self._sign(spent, attempt=1)

    def test_a_stranger_signs_nothing(self) -> None:
        spent = SpentPrivacy()
        with pytest.raises(ProtocolError, match="ROSTER_STRANGER"):
            self._sign(spent, signer="bank-d")
        assert spent.charges == ()


class TestWrap:
    def test_v_is_exact_up_to_half_the_ring(self) -> None:
        """The result of K bits reads as a signed number to the limit, doubling and all."""
        values = np.array([2**39 - 1, -(2**39) + 1, 0], dtype=np.int64)
        assert ring.signed_low(values.view(np.uint64), 40).tolist() == values.tolist()
