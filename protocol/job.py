"""What the parties of a job agree on: proposal, approvals, enlistments, manifest.

Specification: training protocol, "Conventions" and B1. An institution approves a *proposal*, which holds
everything that decides what happens to its rows. `enlist` then collects from every party, signed, a fresh
nonce, its keys for this job and (banks) a salted commitment to its cohort; proposal and enlistments make the
*manifest*, whose digest J goes into every label, envelope and roster.

Invariants:
    - J covers the proposal and every enlistment, hence every key; a changed byte gives another J.
    - A party takes part only if the manifest holds its own enlistment unchanged, is of the proposal that it
      approved, holds exactly the parties of the proposal, each signed by the key in the party's own
      directory, and runs the approved code.
    - A J seen before is refused (`SeenJobs`): nonces are fresh, so an honest job never repeats one.

What each party learns: everybody in the job reads proposal and enlistments; the commitment is salted and
tells nothing about the cohort. Not protected: the coordinator decides whom it puts together; parties see it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from protocol import canonical, document
from protocol.errors import ProtocolError, Replayed
from protocol.identity import NAME, Directory, Role
from protocol.keys import IdentityKey
from protocol.opening import Roster

Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Hex32 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seconds = Annotated[int, Field(ge=1, le=7 * 86_400)]
Time = Annotated[int, Field(ge=0, lt=1 << 53)]


class Wire(BaseModel):
    """A message body: frozen, without unknown fields, with a digest of its canonical bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    KIND: ClassVar[str]

    @property
    def body(self) -> dict[str, Any]:
        """The model as a JSON object."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 under the model's kind."""
        return canonical.digest(self.KIND, self.body)

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a JSON object strictly.

        Raises:
            ProtocolError: ``JOB_MALFORMED``, naming the fields but not their values.
        """
        try:
            return cls.model_validate_json(canonical.encode(body), strict=True)
        except ValidationError as error:
            faults = [
                f"{'.'.join(str(p) for p in e['loc']) or cls.KIND}: {e['type']}" for e in error.errors()
            ]
            raise ProtocolError(
                "JOB_MALFORMED",
                f"A {cls.KIND} is malformed ({'; '.join(faults[:5])}).",
                "All parties must run versions that agree on the schema.",
            ) from None

    def sign(self, signer: str, key: IdentityKey) -> dict[str, Any]:
        """Return the model as a signed document of its kind."""
        return document.sign(self.KIND, self.body, signer, key)

    @classmethod
    def verified(cls, signed: Mapping[str, Any], directory: Directory, signer: str) -> Self:
        """Return the model of a document that a party signed.

        Raises:
            ProtocolError: as `protocol.document.verify` and `parse`.
        """
        return cls.parse(document.verify(signed, cls.KIND, directory.keys_by_name, {signer}))


class Recipe(Wire):
    """How the shared bank score is trained (stage H)."""

    KIND: ClassVar[str] = "recipe"

    bins: int = Field(default=12, ge=2, le=64, description="Quantile bins of a number's encoding.")
    hidden: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(64, 64), min_length=1, max_length=4, description="Widths of the hidden layers."
    )
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    learning_rate: float = Field(default=3e-3, gt=0.0, le=1.0)
    weight_decay: float = Field(default=0.1, ge=0.0, le=10.0)
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (
        0.9,
        0.99,
    )
    rounds: int = Field(default=5, ge=1, le=100, description="Flower rounds.")
    local_steps: int = Field(
        default=150, ge=1, le=10_000, description="Optimiser steps a round at each bank."
    )
    min_batch: int = Field(default=32, ge=1, le=65_536)
    batch_divisor: int = Field(
        default=50, ge=1, le=10_000, description="Batch = max(min_batch, rows / this)."
    )
    initialisations: int = Field(default=2, ge=1, le=8)
    halves: Literal[2] = Field(default=2, description="Halves of the cohort, for out-of-fold scores.")


class DpRecipe(Wire):
    """How the shared bank score is trained with DP-SGD."""

    KIND: ClassVar[str] = "dp-recipe"

    bins: int = Field(default=8, ge=2, le=64)
    hidden: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(32,), min_length=1, max_length=4
    )
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    learning_rate: float = Field(default=0.6, gt=0.0, le=10.0)
    clip: float = Field(default=3.0, gt=0.0, le=100.0, description="Bound on a row's gradient (L2).")
    batch: int = Field(default=512, ge=1, le=65_536, description="Expected size of a Poisson batch.")
    rounds: int = Field(default=5, ge=1, le=100)
    local_epochs: int = Field(default=8, ge=1, le=100)


class Release(Wire):
    """The privacy that the trained model is released under."""

    KIND: ClassVar[str] = "release"

    kind: Literal["none", "dp"] = "none"
    epsilon: float | None = Field(default=None, gt=0.0, le=100.0, description="Per enterprise, all banks.")
    delta: float | None = Field(default=None, gt=0.0, lt=1e-2)
    memberships: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Most banks that may hold one enterprise; all banks of the job if not stated.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "dp") != (self.epsilon is not None and self.delta is not None) or (
            self.kind == "none" and (self.epsilon is not None or self.delta is not None)
        ):
            raise ValueError("a dp release states epsilon and delta, any other neither")
        return self


class SharedRecipe(Wire):
    """How the shared risk model is trained on top of the bank score (stage S), and H+ beside it."""

    KIND: ClassVar[str] = "shared-recipe"

    dropout: float = Field(default=0.25, ge=0.0, lt=1.0)
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    weight_decay: float = Field(default=0.3, ge=0.0, le=10.0)
    rounds: int = Field(default=5, ge=1, le=100)
    local_steps: int = Field(default=150, ge=1, le=10_000)


class Vertical(Wire):
    """What data partners bring into a job (stages V, P and S)."""

    KIND: ClassVar[str] = "vertical"

    partners: tuple[Name, ...] = Field(min_length=1, max_length=20, description="Sorted names.")
    compute: Name = Field(description="The compute party T: independent of every partner and bank.")
    epoch: Text = Field(description="Epoch of the VOPRF keys; values are cached within it.")
    base_rate: float = Field(gt=0.0, lt=1.0, description="b0, a configured constant, public.")
    rows: int = Field(ge=1, le=1 << 40, description="Bound on the training rows of all banks together.")
    epsilon: float | None = Field(
        default=1.0, gt=0.0, le=100.0, description="Of the release to each partner; null: exact, tests only."
    )
    delta: float = Field(default=1e-5, gt=0.0, lt=1e-2)
    memberships: int | None = Field(
        default=None, ge=1, le=100, description="Most banks that may hold one enterprise; all if not stated."
    )
    components: int = Field(default=20, ge=1, le=30, description="Most components of a partner's table.")
    consent: bool = Field(default=False, description="Whether queries need an enterprise's consent code.")
    patience: Seconds = Field(default=300, description="After which a silent partner is left out.")
    heads: bool = Field(default=True, description="Whether banks keep a boosted-tree head of their own.")
    recipe: SharedRecipe = SharedRecipe()


class Deadlines(Wire):
    """Seconds after which a stage is given up."""

    KIND: ClassVar[str] = "deadlines"

    enlist: Seconds = 600
    session: Seconds = 1800
    round: Seconds = 600
    finish: Seconds = 600


class Proposal(Wire):
    """What an institution approves: everything that decides what happens to its rows."""

    KIND: ClassVar[str] = "proposal"

    version: Literal[1] = 1
    consortium: Text
    title: Text
    purpose: Text = Field(description="The use that the parties agree to, in words.")
    banks: tuple[Name, ...] = Field(min_length=3, max_length=100, description="Sorted names of the banks.")
    witnesses: tuple[Name, ...] = Field(default=(), max_length=100, description="Other parties, sorted.")
    contract: Hex32 = Field(description="Digest of the data contract.")
    code: Hex32 = Field(description="Hash of the code that the nodes run.")
    recipe: Recipe = Recipe()
    dp_recipe: DpRecipe = DpRecipe()
    release: Release = Release()
    vertical: Vertical | None = Field(default=None, description="What partners bring; null without them.")
    holdout: float = Field(default=0.3, gt=0.0, lt=1.0, description="Fraction of rows kept for evaluation.")
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 53,
        description="A stated seed, for reproduction; never with a private release.",
    )
    min_rows: int = Field(
        default=500, ge=1, le=1 << 40, description="Fewest rows with which a bank takes part."
    )
    deadlines: Deadlines = Deadlines()
    submitted_by: Name
    submitted_at: Time
    nonce: Hex32 = Field(description="32 random bytes, so that no two proposals are equal.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for names in (self.banks, self.witnesses):
            if list(names) != sorted(set(names)):
                raise ValueError("parties are sorted, each named once")
        if set(self.banks) & set(self.witnesses):
            raise ValueError("a party is a bank or a witness, not both")
        if self.seed is not None and self.release.kind == "dp":
            # A known seed tells which rows a Poisson batch holds; the accounting needs them unknown.
            raise ValueError("a private release takes no stated seed")
        self._check_vertical()
        return self

    def _check_vertical(self) -> None:
        vertical = self.vertical
        if vertical is None:
            return
        if list(vertical.partners) != sorted(set(vertical.partners)) or vertical.compute in vertical.partners:
            raise ValueError("partners are sorted, each named once, and the compute party is none of them")
        if not {*vertical.partners, vertical.compute} <= set(self.witnesses):
            raise ValueError("partners and the compute party are among the job's other parties")
        if self.release.kind == "dp":
            raise ValueError("a job with partners doesn't offer a private release of the model yet")

    @property
    def rounds(self) -> int:
        """Flower rounds of the whole job: those of the bank score, then those of the shared risk model."""
        if self.release.kind == "dp":
            return self.dp_recipe.rounds
        return self.recipe.rounds + (self.vertical.recipe.rounds if self.vertical else 0)

    @property
    def parties(self) -> tuple[str, ...]:
        """All parties, sorted."""
        return tuple(sorted((*self.banks, *self.witnesses)))


class Approval(Wire):
    """An institution's decision on a proposal."""

    KIND: ClassVar[str] = "approval"

    proposal: Hex32 = Field(description="Digest of the proposal.")
    party: Name
    decision: Literal["approve", "reject"]
    by: Text = Field(description="Who decided, by name or office; a person, or a rule of the institution.")
    at: Time
    reason: Annotated[str, StringConstraints(max_length=500)] = ""


class PartnerTerms(Wire):
    """What a data partner states about its table and keys when it enlists."""

    KIND: ClassVar[str] = "partner-terms"

    slots: int = Field(ge=1, le=1 << 40, description="Rows of its table, rounded to three significant bits.")
    components: int = Field(ge=1, le=256, description="Bits a row that enter the product.")
    training: dict[Name, Hex32] = Field(description="VOPRF public key for the join, by bank.")
    serving: dict[Name, Hex32] = Field(description="VOPRF public key for the publication, by bank.")


class Enlistment(Wire):
    """What a party brings into a job, signed by its identity."""

    KIND: ClassVar[str] = "enlistment"

    proposal: Hex32 = Field(description="Digest of the proposal.")
    party: Name
    nonce: Hex32 = Field(description="32 fresh random bytes.")
    mask_key: Hex32 = Field(description="X25519 key for pairwise masks.")
    sealing_key: Hex32 = Field(description="X25519 key for sealed payloads.")
    cohort_commitment: Annotated[str, StringConstraints(pattern="^([0-9a-f]{64})?$")] = Field(
        default="", description="Salted SHA-256 over the cohort; empty for a party without a cohort."
    )
    code: Hex32 = Field(description="Hash of the code that the party runs.")
    partner: PartnerTerms | None = Field(default=None, description="Of a data partner in a vertical job.")


class Manifest(Wire):
    """A proposal with the enlistments of all its parties."""

    KIND: ClassVar[str] = "manifest"

    proposal: Proposal
    enlistments: tuple[dict[str, Any], ...] = Field(
        min_length=3, description="Signed documents of kind enlistment, sorted by party."
    )

    @classmethod
    def assemble(cls, proposal: Proposal, enlistments: Iterable[Mapping[str, Any]]) -> Manifest:
        """Put a manifest together from signed enlistments in any order.

        Raises:
            ProtocolError: ``MANIFEST_PARTIES`` or ``JOB_MALFORMED``.
        """
        signed = [dict(entry) for entry in enlistments]
        parties = [cls._party(entry) for entry in signed]
        ordered = [entry for _, entry in sorted(zip(parties, signed, strict=True), key=lambda pair: pair[0])]
        manifest = cls.parse({"proposal": proposal.body, "enlistments": ordered})
        manifest._check_parties()
        return manifest

    @staticmethod
    def _party(entry: Mapping[str, Any]) -> str:
        body = entry.get("body")
        if not isinstance(body, Mapping) or not isinstance(body.get("party"), str):
            raise ProtocolError("JOB_MALFORMED", "An enlistment is malformed.")
        return str(body["party"])

    @property
    def bodies(self) -> tuple[Enlistment, ...]:
        """The enlistments without their signatures, which `verify` checks."""
        return tuple(Enlistment.parse(entry.get("body")) for entry in self.enlistments)

    @property
    def digest(self) -> str:
        """J: the digest over the proposal and the enlistments, signatures left out."""
        return canonical.digest(
            self.KIND, {"proposal": self.proposal.body, "enlistments": [e.body for e in self.bodies]}
        )

    def enlistment(self, party: str) -> Enlistment:
        """Return a party's enlistment.

        Raises:
            ProtocolError: ``MANIFEST_PARTIES`` if it has none.
        """
        for entry in self.bodies:
            if entry.party == party:
                return entry
        raise ProtocolError("MANIFEST_PARTIES", "The manifest has no enlistment of a party.")

    def roster(self, attempt: int, banks: Iterable[str] | None = None) -> Roster:
        """Return the roster of an attempt over all banks, or over those that remain.

        Raises:
            ProtocolError: ``ROSTER_STRANGER`` for a party that is no bank of the job, ``ROSTER_TOO_SMALL``.
        """
        chosen = tuple(sorted(self.proposal.banks if banks is None else banks))
        if set(chosen) - set(self.proposal.banks):
            raise ProtocolError("ROSTER_STRANGER", "A roster names a party that is no bank of the job.")
        return Roster(self.digest, attempt, chosen)

    def _check_parties(self) -> None:
        parties = tuple(entry.party for entry in self.bodies)
        if parties != self.proposal.parties:
            raise ProtocolError(
                "MANIFEST_PARTIES",
                "A manifest must hold one enlistment of every party of its proposal, sorted, and no other.",
            )


def verify_manifest(manifest: Manifest, *, own: Enlistment, code: str, directory: Directory) -> str:
    """Check a manifest from the view of one party and return J.

    Args:
        manifest: what the coordinator assembled.
        own: the enlistment that this party signed for the proposal that it approved.
        code: hash of the code that this party runs.
        directory: the parties this party accepts, with their pinned keys.

    Raises:
        ProtocolError: ``MANIFEST_PROPOSAL`` for another proposal, ``MANIFEST_PARTIES``, ``MANIFEST_OWN`` if
            this party's enlistment is missing or changed, ``MANIFEST_CODE``, ``MANIFEST_ROLE`` if a bank is
            no bank or a witness is one, ``MANIFEST_KEY_REPEATED``, ``MANIFEST_COHORT`` if a bank commits to
            none; or as `protocol.document.verify`.
    """
    proposal = manifest.proposal
    if not hmac.compare_digest(proposal.digest, own.proposal):
        raise ProtocolError("MANIFEST_PROPOSAL", "The manifest is of another proposal than the one approved.")
    manifest._check_parties()
    fresh: set[str] = set()
    for signed, entry in zip(manifest.enlistments, manifest.bodies, strict=True):
        if len(signed.get("signatures") or ()) != 1:
            raise ProtocolError("DOCUMENT_MALFORMED", "An enlistment has exactly one signature.")
        Enlistment.verified(signed, directory, entry.party)
        if entry.proposal != own.proposal:
            raise ProtocolError("MANIFEST_PROPOSAL", f"{entry.party} has enlisted for another proposal.")
        if entry.code != proposal.code:
            raise ProtocolError("MANIFEST_CODE", f"{entry.party} runs other code than the proposal names.")
        is_bank = directory[entry.party].role is Role.BANK
        if is_bank != (entry.party in proposal.banks):
            raise ProtocolError("MANIFEST_ROLE", f"{entry.party} takes a part that its role does not allow.")
        if is_bank and not entry.cohort_commitment:
            raise ProtocolError("MANIFEST_COHORT", f"{entry.party} has not committed to its cohort.")
        _check_terms(proposal, entry, directory[entry.party].role)
        for value in (entry.nonce, entry.mask_key, entry.sealing_key):
            if value in fresh:
                raise ProtocolError("MANIFEST_KEY_REPEATED", f"{entry.party} repeats a key or a nonce.")
            fresh.add(value)
    if manifest.enlistment(own.party) != own:
        raise ProtocolError("MANIFEST_OWN", "The manifest holds another enlistment than this party signed.")
    if not hmac.compare_digest(code, proposal.code):
        raise ProtocolError("MANIFEST_CODE", "The proposal names other code than this party runs.")
    return manifest.digest


def _check_terms(proposal: Proposal, entry: Enlistment, role: Role) -> None:
    vertical = proposal.vertical
    if vertical is not None:
        wrong = entry.party == vertical.compute and role is not Role.COMPUTE
        wrong |= entry.party in vertical.partners and role not in (Role.ECOMMERCE, Role.GOVERNMENT)
        if wrong:
            raise ProtocolError("MANIFEST_ROLE", f"{entry.party} takes a part that its role does not allow.")
    wanted = vertical is not None and entry.party in vertical.partners
    terms = entry.partner
    if wanted != (terms is not None):
        raise ProtocolError("MANIFEST_PARTNER", f"{entry.party} states no terms as a partner, or is none.")
    if terms is None or vertical is None:
        return
    if terms.components > vertical.components or any(
        set(keys) != set(proposal.banks) for keys in (terms.training, terms.serving)
    ):
        raise ProtocolError("MANIFEST_PARTNER", f"{entry.party} doesn't state one key for every bank.")


class SeenJobs:
    """The digests J that a party has taken part in; a J never comes back."""

    def __init__(self, seen: Iterable[str] = ()) -> None:
        self._seen = set(seen)

    def admit(self, job: str) -> None:
        """Record a J; the caller stores the state before it acts on the manifest.

        Raises:
            Replayed: ``JOB_SEEN`` if it was recorded before.
        """
        if job in self._seen:
            raise Replayed("JOB_SEEN", "A manifest with this digest was run before.")
        self._seen.add(job)

    def __contains__(self, job: object) -> bool:
        return job in self._seen

    def to_state(self) -> list[str]:
        """Return the digests, sorted."""
        return sorted(self._seen)

    @classmethod
    def from_state(cls, state: Iterable[str]) -> SeenJobs:
        """Restore the record."""
        return cls(state)


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas (2020-12) of all bodies by kind, and of the signed document around them."""
    models: tuple[type[Wire], ...] = (
        Proposal,
        Approval,
        Enlistment,
        Manifest,
        Recipe,
        DpRecipe,
        Release,
        SharedRecipe,
        Vertical,
        PartnerTerms,
    )
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        found[model.KIND] = schema
    found["document"] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Signed document",
        "type": "object",
        "additionalProperties": False,
        "required": ["kind", "version", "body", "signatures"],
        "properties": {
            "kind": {"type": "string"},
            "version": {"const": document.VERSION},
            "body": {"type": "object"},
            "signatures": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["signer", "key", "signature"],
                    "properties": {
                        "signer": {"type": "string"},
                        "key": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        "signature": {"type": "string", "pattern": "^[0-9a-f]{128}$"},
                    },
                },
            },
        },
    }
    return found
