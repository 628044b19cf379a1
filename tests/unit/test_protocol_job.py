"""Proposal, approval, enlistment, manifest: every rule kept and broken; the schemas published for them."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from protocol import job
from protocol.errors import ConcordatError, ProtocolError, Replayed, SignatureInvalid
from protocol.identity import Directory, IdentityKey, Party, Role
from protocol.job import (
    Approval,
    Deadlines,
    DpRecipe,
    Enlistment,
    Manifest,
    PartnerTerms,
    Proposal,
    Recipe,
    Release,
    SeenJobs,
    SharedRecipe,
    Vertical,
)
from protocol.job import verify_manifest as verify

ROLES = {"bank-a": Role.BANK, "bank-b": Role.BANK, "bank-c": Role.BANK, "compute": Role.COMPUTE}
KEYS = {name: IdentityKey.generate() for name in ROLES}
DIRECTORY = Directory(Party(name, role, KEYS[name].public, "", 0, 10, 0) for name, role in ROLES.items())
CODE = "c" * 64


def _refused(code: str, error: type[ConcordatError] = ProtocolError) -> Any:
    return pytest.raises(error, match=rf"\[{code}\]")


def _proposal(**change: Any) -> Proposal:
    body: dict[str, Any] = {
        "consortium": "demo",
        "title": "Bank score, spring",
        "purpose": "credit risk of small enterprises",
        "banks": ("bank-a", "bank-b", "bank-c"),
        "witnesses": ("compute",),
        "contract": "a" * 64,
        "code": CODE,
        "submitted_by": "bank-a",
        "submitted_at": 1_700_000_000,
        "nonce": "b" * 64,
    }
    return Proposal(**(body | change))


PROPOSAL = _proposal()
VERTICAL = Vertical(partners=("shop",), compute="compute", epoch="2026-4", base_rate=0.2, rows=1000)
KEYS_OF_BANKS = dict.fromkeys(PROPOSAL.banks, "e" * 64)
TERMS = PartnerTerms(slots=1024, components=20, training=KEYS_OF_BANKS, serving=KEYS_OF_BANKS)


def _enlistment(party: str, **change: Any) -> Enlistment:
    place = sorted(ROLES).index(party)
    body: dict[str, Any] = {
        "proposal": PROPOSAL.digest,
        "party": party,
        "nonce": f"{place:064x}",
        "mask_key": f"{place + 16:064x}",
        "sealing_key": f"{place + 32:064x}",
        "cohort_commitment": "" if party == "compute" else "d" * 64,
        "code": CODE,
    }
    return Enlistment(**(body | change))


def _signed(party: str, **change: Any) -> dict[str, Any]:
    return _enlistment(party, **change).sign(party, KEYS[party])


def _manifest(**replaced: dict[str, Any]) -> Manifest:
    return Manifest.assemble(
        PROPOSAL,
        [replaced.get(party.replace("-", "_"), _signed(party)) for party in sorted(ROLES, reverse=True)],
    )


def _verify(manifest: Manifest, **change: Any) -> str:
    options: dict[str, Any] = {"own": _enlistment("bank-a"), "code": CODE, "directory": DIRECTORY}
    return verify(manifest, **(options | change))


class TestModels:
    @pytest.mark.parametrize(
        "model", [PROPOSAL, Recipe(), DpRecipe(), Release(), Deadlines(), _enlistment("compute")]
    )
    def test_round_trip_through_bytes(self, model: Any) -> None:
        again = type(model).parse(json.loads(json.dumps(model.body)))
        assert again == model
        assert again.digest == model.digest

    def test_recipe_is_the_one_that_was_found(self) -> None:
        assert Recipe().body == {
            "bins": 12,
            "hidden": [64, 64],
            "dropout": 0.1,
            "learning_rate": 0.003,
            "weight_decay": 0.1,
            "betas": [0.9, 0.99],
            "rounds": 5,
            "local_steps": 150,
            "min_batch": 32,
            "batch_divisor": 50,
            "initialisations": 2,
            "halves": 2,
        }
        dp = DpRecipe()
        assert (dp.bins, dp.hidden, dp.momentum, dp.clip, dp.learning_rate) == (8, (32,), 0.9, 3.0, 0.6)
        assert (dp.batch, dp.rounds, dp.local_epochs) == (512, 5, 8)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("bins", 1),
            ("bins", 65),
            ("bins", "12"),
            ("bins", 12.5),
            ("hidden", []),
            ("hidden", [0]),
            ("hidden", [64] * 5),
            ("dropout", 1.0),
            ("dropout", -0.1),
            ("learning_rate", 0.0),
            ("betas", [0.9]),
            ("betas", [0.9, 1.0]),
            ("rounds", 0),
            ("local_steps", 0),
            ("min_batch", True),
            ("halves", 3),
            ("initialisations", 0),
            ("unknown", 1),
        ],
    )
    def test_recipe_out_of_bounds(self, field: str, value: Any) -> None:
        with _refused("JOB_MALFORMED"):
            Recipe.parse(Recipe().body | {field: value})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", 2),
            ("consortium", ""),
            ("title", "x" * 201),
            ("title", "two\nlines"),
            ("purpose", "bell\x07"),
            ("banks", ["bank-a", "bank-b"]),
            ("banks", ["bank-b", "bank-a", "bank-c"]),
            ("banks", ["bank-a", "bank-a", "bank-b", "bank-c"]),
            ("banks", ["bank-a", "bank-b", "Bank"]),
            ("banks", ["bank-a", "bank-b", "bank-c\n"]),
            ("witnesses", ["bank-a"]),
            ("witnesses", ["shop", "compute"]),
            ("contract", "A" * 64),
            ("contract", "a" * 63),
            ("code", "a" * 64 + "\n"),
            ("holdout", 0.0),
            ("holdout", 1.0),
            ("seed", -1),
            ("seed", 2**53 - 1 + 0.5),
            ("min_rows", 0),
            ("submitted_at", -1),
            ("submitted_by", ""),
            ("nonce", ""),
            ("deadlines", {"round": 0}),
            ("release", {"kind": "dp", "epsilon": 8.0}),
            ("release", {"kind": "dp", "epsilon": 0.0, "delta": 1e-5}),
            ("release", {"kind": "dp", "epsilon": 8.0, "delta": 0.5}),
            ("release", {"kind": "none", "epsilon": 8.0, "delta": 1e-5}),
            ("release", {"kind": "none", "delta": 1e-5}),
            ("release", {"kind": "secret"}),
            ("unknown", 1),
        ],
    )
    def test_proposal_out_of_bounds(self, field: str, value: Any) -> None:
        with _refused("JOB_MALFORMED"):
            Proposal.parse(PROPOSAL.body | {field: value})

    def test_missing_field(self) -> None:
        body = PROPOSAL.body
        del body["nonce"]
        with _refused("JOB_MALFORMED"):
            Proposal.parse(body)
        others: list[Any] = [[], "text", None, 5]
        for other in others:
            with _refused("JOB_MALFORMED"):
                Proposal.parse(other)

    def test_no_stated_seed_with_a_private_release(self) -> None:
        private = {"kind": "dp", "epsilon": 8.0, "delta": 1e-5}
        assert Proposal.parse(PROPOSAL.body | {"release": private}).release.epsilon == 8.0
        assert Proposal.parse(PROPOSAL.body | {"seed": 7}).seed == 7
        with _refused("JOB_MALFORMED"):
            Proposal.parse(PROPOSAL.body | {"release": private, "seed": 7})

    def test_message_names_the_field_and_not_its_value(self) -> None:
        with pytest.raises(ProtocolError) as caught:
            Proposal.parse(PROPOSAL.body | {"title": "secret\x00text"})
        assert "title" in caught.value.message
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_models_are_frozen(self) -> None:
        with pytest.raises(ValidationError):
            setattr(PROPOSAL, "seed", 5)  # noqa: B010 - mypy would refuse the assignment

    def test_every_field_is_in_the_digest(self) -> None:
        changes: list[dict[str, Any]] = [
            {"title": "x"},
            {"purpose": "x"},
            {"witnesses": ()},
            {"contract": "0" * 64},
            {"code": "0" * 64},
            {"recipe": Recipe(bins=13)},
            {"dp_recipe": DpRecipe(clip=2.0)},
            {"release": Release(kind="dp", epsilon=1.0, delta=1e-5)},
            {"holdout": 0.2},
            {"seed": 1},
            {"min_rows": 501},
            {"deadlines": Deadlines(round=601)},
            {"submitted_by": "bank-b"},
            {"submitted_at": 1},
            {"nonce": "0" * 64},
        ]
        digests = {_proposal(**change).digest for change in changes}
        assert len(digests | {PROPOSAL.digest}) == len(changes) + 1

    def test_approval_is_verified_under_the_party_s_key(self) -> None:
        approval = Approval(
            proposal=PROPOSAL.digest, party="bank-a", decision="approve", by="risk committee", at=5
        )
        signed = approval.sign("bank-a", KEYS["bank-a"])
        assert Approval.verified(signed, DIRECTORY, "bank-a") == approval
        with _refused("DOCUMENT_SIGNER_MISSING", SignatureInvalid):
            Approval.verified(signed, DIRECTORY, "bank-b")
        with _refused("DOCUMENT_KIND"):
            Enlistment.verified(signed, DIRECTORY, "bank-a")
        with _refused("JOB_MALFORMED"):
            Approval.parse(approval.body | {"decision": "maybe"})


class TestManifest:
    def test_all_parties_get_the_same_digest(self) -> None:
        manifest = Manifest.parse(json.loads(json.dumps(_manifest().body)))
        digests = {_verify(manifest, own=_enlistment(party)) for party in ROLES}
        assert digests == {manifest.digest}
        assert manifest.enlistment("bank-b") == _enlistment("bank-b")
        with _refused("MANIFEST_PARTIES"):
            manifest.enlistment("bank-d")

    def test_signatures_do_not_change_the_digest_but_bodies_do(self) -> None:
        other = _manifest(bank_b=_signed("bank-b", nonce="e" * 64))
        assert other.digest != _manifest().digest

    def test_roster(self) -> None:
        manifest = _manifest()
        assert manifest.roster(0).banks == PROPOSAL.banks
        assert manifest.roster(0).job == manifest.digest
        with _refused("ROSTER_STRANGER"):
            manifest.roster(1, ["bank-a", "bank-b", "compute"])
        with _refused("ROSTER_TOO_SMALL"):
            manifest.roster(1, ["bank-a", "bank-b"])

    @pytest.mark.parametrize(
        "parties",
        [
            ["bank-a", "bank-b", "bank-c"],
            ["bank-a", "bank-a", "bank-b", "bank-c", "compute"],
        ],
    )
    def test_parties_must_match(self, parties: list[str]) -> None:
        with _refused("MANIFEST_PARTIES"):
            Manifest.assemble(PROPOSAL, [_signed(party) for party in parties])
        unchecked = Manifest.parse({"proposal": PROPOSAL.body, "enlistments": [_signed(p) for p in parties]})
        with _refused("MANIFEST_PARTIES"):
            _verify(unchecked)

    def test_order_is_fixed(self) -> None:
        signed = [_signed(party) for party in ("bank-b", "bank-a", "bank-c", "compute")]
        with _refused("MANIFEST_PARTIES"):
            _verify(Manifest.parse({"proposal": PROPOSAL.body, "enlistments": signed}))

    def test_another_proposal(self) -> None:
        dearer = _proposal(release=Release(kind="dp", epsilon=9.0, delta=1e-5))
        with _refused("MANIFEST_PROPOSAL"):
            _verify(Manifest.assemble(dearer, [_signed(party) for party in ROLES]))
        with _refused("MANIFEST_PROPOSAL"):
            _verify(_manifest(bank_b=_signed("bank-b", proposal=dearer.digest)))

    def test_own_enlistment_exchanged(self) -> None:
        """The coordinator plays back an enlistment that this party made for an earlier try."""
        with _refused("MANIFEST_OWN"):
            _verify(_manifest(bank_a=_signed("bank-a", nonce="f" * 64)))

    def test_peer_s_keys_exchanged(self) -> None:
        forged = _enlistment("bank-b", mask_key="f" * 64)
        with _refused("DOCUMENT_KEY", SignatureInvalid):
            _verify(_manifest(bank_b=forged.sign("bank-b", IdentityKey.generate())))
        changed = _signed("bank-b")
        changed["body"]["mask_key"] = "f" * 64
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            _verify(_manifest(bank_b=changed))
        with _refused("DOCUMENT_SIGNER_MISSING", SignatureInvalid):
            _verify(_manifest(bank_b=_enlistment("bank-b").sign("bank-c", KEYS["bank-c"])))

    def test_one_signature_each(self) -> None:
        from protocol import document

        twice = document.add_signature(_signed("bank-b"), "bank-c", KEYS["bank-c"])
        with _refused("DOCUMENT_MALFORMED"):
            _verify(_manifest(bank_b=twice))
        with _refused("DOCUMENT_MALFORMED"):
            _verify(_manifest(bank_b=_signed("bank-b") | {"signatures": []}))

    def test_code(self) -> None:
        with _refused("MANIFEST_CODE"):
            _verify(_manifest(bank_b=_signed("bank-b", code="0" * 64)))
        with _refused("MANIFEST_CODE"):
            _verify(_manifest(), code="0" * 64)

    def test_roles(self) -> None:
        def directory(**roles: Role) -> Directory:
            return Directory(
                Party(n, roles.get(n.replace("-", "_"), r), KEYS[n].public, "", 0, 10, 0)
                for n, r in ROLES.items()
            )

        for wrong in (directory(bank_b=Role.ECOMMERCE), directory(compute=Role.BANK)):
            with _refused("MANIFEST_ROLE"):
                _verify(_manifest(), directory=wrong)

    def test_bank_must_commit_to_a_cohort(self) -> None:
        with _refused("MANIFEST_COHORT"):
            _verify(_manifest(bank_c=_signed("bank-c", cohort_commitment="")))

    @pytest.mark.parametrize("field", ["nonce", "mask_key", "sealing_key"])
    def test_repeated_key(self, field: str) -> None:
        taken = getattr(_enlistment("bank-a"), field)
        with _refused("MANIFEST_KEY_REPEATED"):
            _verify(_manifest(bank_c=_signed("bank-c", **{field: taken})))

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda body: body.pop("proposal"),
            lambda body: body.update(more=1),
            lambda body: body.update(enlistments=[]),
            lambda body: body["enlistments"].__setitem__(0, {"body": {"party": "bank-a"}}),
            lambda body: body["enlistments"].__setitem__(0, {}),
            lambda body: body["proposal"].update(more=1),
        ],
    )
    def test_malformed(self, spoil: Callable[[dict[str, Any]], object]) -> None:
        body = json.loads(json.dumps(_manifest().body))
        spoil(body)
        with _refused("JOB_MALFORMED"):
            _verify(Manifest.parse(body))

    def test_assemble_refuses_what_is_no_enlistment(self) -> None:
        for entry in ({}, {"body": None}, {"body": {"party": 5}}):
            with _refused("JOB_MALFORMED"):
                Manifest.assemble(PROPOSAL, [entry])

    def test_a_known_job_is_refused(self) -> None:
        seen = SeenJobs()
        seen.admit("j1")
        seen.admit("j2")
        assert "j1" in seen
        assert "j3" not in seen
        for record in (seen, SeenJobs.from_state(json.loads(json.dumps(seen.to_state())))):
            with _refused("JOB_SEEN", Replayed):
                record.admit("j1")


class TestPartners:
    def test_partners_and_the_compute_party_are_among_the_others(self) -> None:
        made = _proposal(witnesses=("compute", "shop"), vertical=VERTICAL)
        assert made.rounds == made.recipe.rounds + VERTICAL.recipe.rounds
        assert _proposal().rounds == Recipe().rounds

    @pytest.mark.parametrize(
        "change",
        [
            {"partners": ("shop", "shop")},
            {"partners": ("tax", "shop")},
            {"partners": ("compute",)},
            {"partners": ("stranger",)},
            {"compute": "bank-a"},
            {"base_rate": 0.0},
            {"base_rate": 1.0},
            {"epsilon": 0.0},
            {"components": 31},
        ],
    )
    def test_terms_that_make_no_sense_are_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            _proposal(witnesses=("compute", "shop", "tax"), vertical=VERTICAL.body | change)

    def test_a_private_model_takes_no_partners_yet(self) -> None:
        with pytest.raises(ValidationError):
            _proposal(
                witnesses=("compute", "shop"),
                vertical=VERTICAL,
                release=Release(kind="dp", epsilon=8.0, delta=1e-5),
            )


class TestSchemas:
    def test_schemas_are_valid_and_describe_the_models(self) -> None:
        schemas = job.schemas()
        approval = Approval(
            proposal="a" * 64, party="bank-a", decision="reject", by="rule", at=1, reason="no"
        )
        samples: dict[str, Any] = {
            "proposal": PROPOSAL.body,
            "approval": approval.body,
            "enlistment": _enlistment("bank-a").body,
            "manifest": _manifest().body,
            "recipe": Recipe().body,
            "dp-recipe": DpRecipe().body,
            "release": Release().body,
            "shared-recipe": SharedRecipe().body,
            "vertical": VERTICAL.body,
            "partner-terms": TERMS.body,
            "document": _signed("bank-a"),
        }
        assert set(schemas) == set(samples)
        for kind, schema in schemas.items():
            jsonschema.Draft202012Validator.check_schema(schema)
            validator = jsonschema.Draft202012Validator(schema)
            assert validator.is_valid(samples[kind]), kind
            assert not validator.is_valid(samples[kind] | {"surprise": 1}), kind

    def test_the_package_stays_sans_io(self) -> None:
        """The modules import in a fresh process, and bring no network, framework or database with them."""
        modules = [
            "canonical",
            "document",
            "envelope",
            "errors",
            "identity",
            "job",
            "keys",
            "labels",
            "masking",
            "metrics",
            "opening",
            "ring",
            "sealing",
        ]
        forbidden = [
            "flwr",
            "fastapi",
            "web3",
            "nats",
            "sqlalchemy",
            "torch",
            "pandas",
            "sqlite3",
            "requests",
            "httpx",
            "asyncio",
        ]
        code = (
            f"import sys\nfor name in {modules!r}: __import__('protocol.' + name)\n"
            f"print([name for name in {forbidden!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")
