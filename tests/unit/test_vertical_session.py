"""Stages V and P over real sessions of all parties, in one process: what is opened equals the plaintext."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bank_node.data import split_salt
from bank_node.subscores import MISSING, SubScores
from bank_node.training import is_holdout
from concordat import dataset
from concordat.economy import write_economy
from concordat.simulate import Simulation, _Relay, proposal_for
from data_partner_node.tables import PartnerTable
from node.ingest import Table
from node.keep import MemoryKeep
from node.privacy import PrivacyBook
from protocol import product, subscore
from protocol.errors import ConfigurationError, JobVoid, NotApproved, ProtocolError
from protocol.identity import Role
from protocol.job import Proposal
from protocol.subscore import Basis, sign_bits

BASE_RATE, ROWS, COMPONENTS = 0.2, 2048, 6


@pytest.fixture(scope="module")
def economy(tmp_path_factory: pytest.TempPathFactory) -> dataset.Dataset:
    home = tmp_path_factory.mktemp("economy")
    write_economy(home, count=2400, banks=3, seed=11, kind="parquet", replace=True)
    return dataset.load(home)


def banks_of(data: dataset.Dataset) -> dict[str, Table]:
    return {party.name: data.table(party.name) for party in data.parties if party.role == "bank"}


def partners_of(data: dataset.Dataset) -> dict[str, tuple[Role, Table]]:
    found = [party for party in data.parties if party.role != "bank"]
    return {party.name: (Role(party.role), data.table(party.name)) for party in found}


def proposal(data: dataset.Dataset, **terms: Any) -> Proposal:
    partners = sorted(partners_of(data))
    vertical = {
        "partners": tuple(partners),
        "compute": "compute",
        "epoch": "2026-4",
        "base_rate": BASE_RATE,
        "rows": ROWS,
        "components": COMPONENTS,
        "epsilon": None,
        **terms,
    }
    return proposal_for(
        sorted(banks_of(data)),
        data.contract(),
        "test",
        seed=5,
        min_rows=50,
        witnesses=tuple(sorted([*partners, "compute"])),
        vertical=vertical,
    )


def run(
    data: dataset.Dataset, home: Path, partners: Mapping[str, tuple[Role, Table]] | None = None, **more: Any
) -> Simulation:
    made = Simulation(
        more.pop("proposal", None) or proposal(data),
        data.contract(),
        banks_of(data),
        home,
        partners=partners or partners_of(data),
        **more,
    )
    made.told = made.session()  # type: ignore[attr-defined]
    return made


@pytest.fixture(scope="module")
def keeps() -> dict[str, MemoryKeep]:
    """What the parties keep beyond the first job."""
    return {}


@pytest.fixture(scope="module")
def exact(
    economy: dataset.Dataset, tmp_path_factory: pytest.TempPathFactory, keeps: dict[str, MemoryKeep]
) -> Simulation:
    return run(economy, tmp_path_factory.mktemp("exact"), keeps=keeps)


def plain(data: dataset.Dataset, job: Simulation, partner: str) -> NDArray[np.int64]:
    """Return Σ a·sign over the training rows of all banks that the partner lists, from the plaintext."""
    role, table = partners_of(data)[partner]
    own = PartnerTable(table, data.contract().dataset_for(role.value), MemoryKeep(), {})
    basis = Basis.fit(own.columns, COMPONENTS)
    signs = 2 * np.concatenate([sign_bits(z) for z in basis.blocks(own.columns)]).astype(np.int64) - 1
    row = {one: at for at, one in enumerate(table.frame.index)}
    good, bad = product.label_weights(BASE_RATE)
    total = np.zeros(basis.components, dtype=np.int64)
    salt = split_salt(job.proposal, job.manifest.digest)
    for bank in banks_of(data).values():
        held = is_holdout(list(bank.frame.index), salt, job.proposal.holdout)
        assert bank.label is not None
        for one, outcome, out in zip(bank.frame.index, bank.label, held, strict=True):
            if not out and one in row:
                total += (bad if outcome else good) * signs[row[one]]
    return total


class TestDirection:
    def test_the_opened_sums_equal_the_plaintext_to_the_bit(
        self, economy: dataset.Dataset, exact: Simulation
    ) -> None:
        for partner in partners_of(economy):
            opened = np.frombuffer(exact.channels[partner].recall("opened") or b"", dtype=np.int64)
            assert opened.tolist() == plain(economy, exact, partner).tolist()

    def test_a_private_release_adds_the_drawn_noise_and_nothing_else(
        self, economy: dataset.Dataset, tmp_path: Path
    ) -> None:
        made = run(economy, tmp_path, proposal=proposal(economy, epsilon=1.0))
        for partner in partners_of(economy):
            opened = np.frombuffer(made.channels[partner].recall("opened") or b"", dtype=np.int64)
            drawn = np.zeros(len(opened), dtype=np.uint64)
            for party in (*made.proposal.banks, "compute"):
                noise = made.channels[party].recall(f"noise.{partner}")
                assert noise is not None
                drawn += np.frombuffer(noise, dtype=np.uint64)
            assert drawn.any()
            assert (opened - drawn.view(np.int64)).tolist() == plain(economy, made, partner).tolist()

    def test_a_null_partner_publishes_nothing(self, economy: dataset.Dataset, tmp_path: Path) -> None:
        role, table = partners_of(economy)["government"]
        order = np.random.Generator(np.random.PCG64(1)).permutation(len(table.frame))
        shuffled = table.frame.iloc[order].set_axis(table.frame.index)
        null = Table(**{**vars(table), "frame": shuffled})
        made = run(
            economy,
            tmp_path,
            {**partners_of(economy), "government": (role, null)},
            proposal=proposal(economy, epsilon=1.0),
        )
        assert made.told["government"]["published"] is False  # type: ignore[attr-defined]
        kept = SubScores.from_bytes(made.channels["bank-1"].recall("subscores.0") or b"")
        assert "government" not in kept.partners


class TestOneTableAnAttempt:
    def test_a_second_table_is_refused_before_anything_follows_from_it(
        self, economy: dataset.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A session begun anew in the same attempt: the partner comes with another key, hence other slots."""
        made = run(economy, tmp_path)
        self._anew(made)
        made.channels["government"]._kept["K_tab.bank-1.0"] = bytes(32)
        sent = made.channels["bank-1"]._kept["masked.government.0"]
        with pytest.raises(ProtocolError, match=r"\[OPENING_REFUSED\]"):
            made.session()
        assert "no direction for government: TABLE_SECOND" in caplog.text
        assert made.channels["bank-1"]._kept["masked.government.0"] == sent

    def test_the_same_table_is_taken_again(self, economy: dataset.Dataset, tmp_path: Path) -> None:
        made = run(economy, tmp_path)
        self._anew(made)
        assert made.session()["government"]["published"]

    @staticmethod
    def _anew(made: Simulation) -> None:
        made._relay = _Relay(made._roster)
        for channel in made.channels.values():
            channel._relay = made._relay
        del made.channels["government"]._kept["opened"]


class TestPublication:
    def test_the_bins_are_the_partners_own(self, economy: dataset.Dataset, exact: Simulation) -> None:
        for bank, table in banks_of(economy).items():
            kept = SubScores.from_bytes(exact.channels[bank].recall("subscores.0") or b"")
            assert kept.partners
            for at, partner in enumerate(kept.partners):
                _, other = partners_of(economy)[partner]
                score = exact.roles[partner]
                own = score._table()  # type: ignore[union-attr]
                basis = own.basis(COMPONENTS)
                opened = np.frombuffer(exact.channels[partner].recall("opened") or b"", dtype=np.int64)
                found = subscore.direction(
                    basis, np.ldexp(opened.astype(float), -12), rows=ROWS, noise_sd=0.0, base_rate=BASE_RATE
                )
                bins = subscore.SubScore.fit(basis, found, own.columns).bins(own.columns)
                by_id = dict(zip(other.frame.index, bins.tolist(), strict=True))
                expected = [by_id.get(one, MISSING) for one in table.frame.index]
                assert kept.bins[:, at].tolist() == expected
                assert (kept.bins[:, at] == MISSING).any()

    def test_all_banks_have_the_same_partners(self, exact: Simulation) -> None:
        found = {
            SubScores.from_bytes(exact.channels[bank].recall("subscores.0") or b"").partners
            for bank in exact.proposal.banks
        }
        assert len(found) == 1


class TestEpoch:
    @pytest.mark.usefixtures("exact")
    def test_a_retraining_asks_only_for_new_ids(
        self, economy: dataset.Dataset, tmp_path: Path, keeps: dict[str, MemoryKeep]
    ) -> None:
        again = run(economy, tmp_path, keeps=keeps)
        for bank in again.proposal.banks:
            for partner in partners_of(economy):
                assert again.channels[bank].recall(f"asked.{partner}.serving.0") == b""
                assert again.channels[bank].recall(f"asked.{partner}.training.0") == b""
        assert SubScores.from_bytes(again.channels["bank-1"].recall("subscores.0") or b"").partners

    @pytest.mark.usefixtures("exact")
    def test_another_epoch_asks_for_everything(
        self, economy: dataset.Dataset, tmp_path: Path, keeps: dict[str, MemoryKeep]
    ) -> None:
        again = run(economy, tmp_path, keeps=keeps, proposal=proposal(economy, epoch="2027-1"))
        assert again.channels["bank-1"].recall("asked.government.serving.0")


class TestConsent:
    def test_only_consented_rows_are_opened_and_withdrawn_ones_are_gone(
        self, economy: dataset.Dataset, tmp_path: Path
    ) -> None:
        ids = {bank: list(table.frame.index) for bank, table in banks_of(economy).items()}
        code = {(bank, one): bytes([at % 256, *[7] * 15]) for bank in ids for at, one in enumerate(ids[bank])}
        # A third never consented, a tenth withdrew; the bank still holds the withdrawn code.
        given = {bank: [one for at, one in enumerate(ids[bank]) if at % 3] for bank in ids}
        gone = {bank: set(given[bank][::10]) for bank in ids}
        consents: dict[str, Any] = {
            bank: {p: {one: code[bank, one] for one in given[bank]} for p in partners_of(economy)}
            for bank in ids
        }
        for partner in partners_of(economy):
            consents[partner] = {
                bank: {one: None if one in gone[bank] else code[bank, one] for one in given[bank]}
                for bank in ids
            }
        made = run(economy, tmp_path, proposal=proposal(economy, consent=True), consents=consents)
        for bank in ids:
            kept = SubScores.from_bytes(made.channels[bank].recall("subscores.0") or b"")
            assert kept.partners
            for one, bins in zip(ids[bank], kept.bins, strict=True):
                if one not in given[bank] or one in gone[bank]:
                    assert (bins == MISSING).all()
            assert (kept.bins != MISSING).any()


class TestTerms:
    def test_an_exact_release_is_refused_outside_tests(
        self, economy: dataset.Dataset, tmp_path: Path
    ) -> None:
        made = Simulation(
            proposal(economy), economy.contract(), banks_of(economy), tmp_path, partners=partners_of(economy)
        )
        for role in made.roles.values():
            role._exact = False
            with pytest.raises(NotApproved, match=r"\[RELEASE_EXACT\]"):
                role.check(made.proposal)
            role.check(proposal(economy, epsilon=1.0))

    def test_a_partner_with_codes_serves_no_job_that_asks_for_none(
        self, economy: dataset.Dataset, tmp_path: Path
    ) -> None:
        codes: dict[str, Any] = {"government": {"bank-1": {"somebody": bytes(16)}}}
        with pytest.raises(NotApproved, match=r"\[CONSENT_REQUIRED\]"):
            Simulation(
                proposal(economy),
                economy.contract(),
                banks_of(economy),
                tmp_path,
                partners=partners_of(economy),
                consents=codes,
            )

    @pytest.mark.parametrize("epsilon", [None, 1.0])
    def test_terms_that_could_wrap_are_refused_before_anybody_enlists(
        self, economy: dataset.Dataset, tmp_path: Path, epsilon: float | None
    ) -> None:
        made = Simulation(
            proposal(economy), economy.contract(), banks_of(economy), tmp_path, partners=partners_of(economy)
        )
        with pytest.raises(ProtocolError, match=r"\[RING_WRAP\]"):
            made.roles["bank-1"].check(proposal(economy, rows=1 << 30, epsilon=epsilon))

    def test_more_training_rows_than_allowed_end_the_job(
        self, economy: dataset.Dataset, tmp_path: Path
    ) -> None:
        with pytest.raises(JobVoid, match=r"\[VERTICAL_ROWS\]"):
            run(economy, tmp_path, proposal=proposal(economy, rows=1024))

    def test_a_party_takes_the_part_of_its_role_only(self, economy: dataset.Dataset, tmp_path: Path) -> None:
        swapped = {name: (Role.COMPUTE, table) for name, (_, table) in partners_of(economy).items()}
        with pytest.raises((ProtocolError, ConfigurationError)):
            run(economy, tmp_path, swapped)

    def test_beyond_the_budget_nothing_is_signed_and_nobody_waits(
        self, economy: dataset.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = Simulation(
            proposal(economy, epsilon=1.0),
            economy.contract(),
            banks_of(economy),
            tmp_path,
            partners=partners_of(economy),
        )
        book = made.roles["bank-1"]._book = PrivacyBook(MemoryKeep(), (0.5, 1e-5))
        # Told by the bank that they are left out; a share that never came would be waited for.
        with pytest.raises(ProtocolError, match=r"leaves this partner out.*\[OPENING_REFUSED\]"):
            made.session()
        assert "PRIVACY_SPENT" in caplog.text
        assert book.spent().charges == ()

    def test_every_signer_is_charged_once(self, economy: dataset.Dataset, tmp_path: Path) -> None:
        made = run(economy, tmp_path, proposal=proposal(economy, epsilon=1.0))
        for party in (*made.proposal.banks, "compute"):
            book = made.roles[party]._book if party != "compute" else None  # type: ignore[union-attr]
            if book is not None:
                assert sorted(charge.partner for charge in book.spent().charges) == sorted(
                    partners_of(economy)
                )
