"""Banks that race for one receivable from processes of their own, what they recorded, and how it is judged.

The judge is Wing and Gong's search (J. Parallel and Distributed Computing 17, 1993) with Lowe's memory of visited
(operations done, state) pairs: a history is linearizable if its operations can be put into one order that respects
real time and in which each got the answer that the reference model (`ledger_model`) gives.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
from coincurve import PrivateKey
from engine_processes import Sender
from ledger_document import Document
from ledger_gateway import GatewayWorld
from ledger_model import CONFIRMED, Claim, Model, after_payment
from ledger_moves import transfer
from ledger_world import Outcome

from ledger.commitments import FULL, Body
from ledger.eip712 import Domain
from ledger.signers import AccountKey, Certificate, Party


@dataclass(frozen=True)
class Operation:
    """What one bank did and was answered.

    Attributes:
        kind: the action.
        arguments: what the model needs of it.
        began: before it was sent, nanoseconds of the machine's clock.
        ended: after it was answered.
        ok: whether it was applied.
        refusal: why not; the decoded error's name.
    """

    kind: str
    arguments: dict[str, Any]
    began: int
    ended: int
    ok: bool
    refusal: str


# ---- the judge


def linearizable(
    history: Sequence[Operation],
    initial: Hashable,
    step: Callable[[Any, Operation], tuple[set[str], Any]],
) -> bool:
    """Whether some order of the operations respects real time and the model's answers."""
    ordered = sorted(history, key=lambda one: one.began)
    seen = {(0, initial)}
    stack = [(0, initial)]
    every = (1 << len(ordered)) - 1
    while stack:
        done, state = stack.pop()
        if done == every:
            return True
        first_end = min(one.ended for at, one in enumerate(ordered) if not done >> at & 1)
        for at, one in enumerate(ordered):
            if done >> at & 1:
                continue
            if one.began > first_end:
                break
            reasons, following = step(state, one)
            fits = not reasons if one.ok else one.refusal in reasons
            entry = (done | 1 << at, following if one.ok else state)
            if fits and entry not in seen:
                seen.add(entry)
                stack.append(entry)
    return False


@dataclass(frozen=True)
class Receivable:
    """A confirmed receivable's state; hashable, for the judge."""

    owner: int = 0
    version: int = 1
    seq: int = 1
    cap: int = FULL
    end: int = 0
    liens: tuple[tuple[bytes, int], ...] = ()


_CLOCK: Any = SimpleNamespace(time=0)


def step(state: Receivable, one: Operation) -> tuple[set[str], Receivable]:
    """All reasons to refuse an operation, and the state after it if there are none."""
    a, model = one.arguments, Model(_CLOCK)
    c = Claim(None, CONFIRMED, due=FULL, cap=state.cap, end=state.end, liens=dict(state.liens))  # type: ignore[arg-type]
    reasons = model.dead(c)
    if a["owner"] != state.owner:
        reasons |= {"BodyMismatch"}
    if "version" in a and a["version"] != state.version:
        reasons |= {"StaleVersion"}
    if "seq" in a and a["seq"] != state.seq:
        reasons |= {"StaleSeq"}
    owner, version = state.owner, state.version
    if one.kind in ("pledge", "transfer"):
        reasons |= model.stuck(c)
    if one.kind in ("release", "settle_lien") and a["lien"] not in c.liens:
        return reasons | {"LienEnded"}, state
    if one.kind == "pledge":
        reasons |= {"ZeroPpm"} if a["ppm"] == 0 else set()
        reasons |= {"OverCapacity"} if a["ppm"] > max(0, c.cap - c.pledged) else set()
        c.liens[a["lien"]] = a["ppm"]
    elif one.kind == "release":
        del c.liens[a["lien"]]
        model.close(c)
    elif one.kind == "settle_lien":
        held = c.liens[a["lien"]]
        after = after_payment(c.cap, c.pledged, a["new_lien"], held, a["cap"])
        reasons |= {"OverLien"} if a["new_lien"] > held else set()
        reasons |= {"NotLower"} if a["new_lien"] == held and after == c.cap else set()
        c.cap = after
        if a["new_lien"]:
            c.liens[a["lien"]] = a["new_lien"]
        else:
            del c.liens[a["lien"]]
        model.close(c)
    elif one.kind == "transfer":
        owner, version = a["to"], version + 1
    else:
        reasons |= {"NotLower"} if a["cap"] >= c.cap else set()
        reasons |= {"BelowPledged"} if one.kind == "settle_free" and a["cap"] < c.pledged else set()
        c.cap = a["cap"]
        model.close(c)
    return reasons, Receivable(owner, version, state.seq + 1, c.cap, c.end, tuple(sorted(c.liens.items())))


# ---- the racers


@dataclass(frozen=True)
class Keys:
    """A party that travels to another process."""

    secret: bytes = field(repr=False)
    certificate: Certificate

    @classmethod
    def of(cls, party: Party) -> Keys:
        assert isinstance(party.signer, AccountKey)
        return cls(party.signer.secret.secret, party.certificate)

    def party(self) -> Party:
        return Party(AccountKey(PrivateKey(self.secret)), self.certificate)


@dataclass(frozen=True)
class Plan:
    """What one process is told.

    Attributes:
        url: the gateway.
        domain: where statements count.
        claim: the receivable, confirmed already.
        body: its body under the first owner.
        names: the numbers behind its tags.
        owners: the parties among whom it is transferred.
        obligor: who owes.
        bank: the racer's own key.
        attempts: how many operations.
        seed: of the racer's choices.
        start: machine clock, nanoseconds, at which all begin.
        share: ppm of each attempt when all only pledge; 0 for mixed operations.
    """

    url: str
    domain: Domain
    claim: bytes
    body: Body
    names: tuple[bytes, ...]
    owners: tuple[Keys, ...]
    obligor: Keys
    bank: Keys
    attempts: int
    seed: int
    start: int
    share: int = 0


class _RacerWorld(GatewayWorld):
    """A world of one process; the status that an operation is built on is read once."""

    def __init__(self, plan: Plan) -> None:
        self.url, self.domain, self.chain_id = plan.url, plan.domain, plan.domain.chain_id
        self.at = {"Ledger": plan.domain.contract}
        self.client = httpx.Client(trust_env=False, timeout=60)
        self.sender = Sender(self.chain_id)
        self.held: dict[str, Any] = {}
        self.began = 0

    def look(self, claim: bytes) -> dict[str, Any]:
        self.held = super().status(claim)
        return self.held

    def status(self, claim: bytes) -> dict[str, Any]:
        return self.held

    def raw(self, to: bytes, data: bytes, gas: int = 0) -> Outcome:
        self.began = time.monotonic_ns()
        return super().raw(to, data)


def race(plan: Plan) -> list[Operation]:
    """Run one bank; called in a process of its own."""
    world = _RacerWorld(plan)
    owners, obligor, bank = [one.party() for one in plan.owners], plan.obligor.party(), plan.bank.party()
    document = Document(world, owners[0], obligor, list(plan.names), plan.body.terms_hash, plan.body.doc_root)
    document.claim, document.body = plan.claim, plan.body
    bodies = {replace(plan.body, owner=one.key_id).digest(): at for at, one in enumerate(owners)}
    choice, done = random.Random(plan.seed), []
    tags = document.tags()
    document.tags = lambda *_, **__: tags  # type: ignore[method-assign]
    time.sleep(max(0, plan.start - time.monotonic_ns()) / 1e9)
    with closing(world.client):
        for _ in range(plan.attempts):
            if not (plan.share and world.held):
                world.look(plan.claim)
            owner = bodies[world.held["bodyHash"]]
            document.owner = owners[owner]
            document.body = replace(plan.body, owner=owners[owner].key_id)
            kind, arguments, outcome = _act(document, bank, owners, choice, plan.share)
            ended = time.monotonic_ns()
            refusal = "" if outcome.ok else outcome.refusal.name
            known = {"owner": owner, **arguments}
            done.append(Operation(kind, known, world.began, ended, outcome.ok, refusal))
    return done


def _act(
    document: Document, bank: Party, owners: list[Party], choice: random.Random, share: int
) -> tuple[str, dict[str, Any], Outcome]:
    status = document.world.status(document.claim)
    cap, free, version = status["cap"], status["free"], status["version"]
    mine = list(document.liens)
    kinds = ["pledge"] * 5 + ["settle_free", "credit_note", "transfer"]
    kinds += (["release"] * 2 + ["settle_lien"] * 3) if mine else []
    kind = "pledge" if share else choice.choice(kinds)
    lower = max(0, cap - choice.choice([0, 1, 5_000, 20_000]))
    if kind == "pledge":
        ppm = share or choice.choice([free, free + 1, max(1, free // 2), 40_000, 1])
        call = document.pledge_call(bank, min(ppm, FULL))
        outcome = document.world.submit("pledge", *call)
        lien = call[1].consent
        if outcome.ok:
            document.liens[lien] = bank
        return kind, {"version": version, "lien": lien, "ppm": min(ppm, FULL)}, outcome
    if kind == "transfer":
        to, owner = choice.randrange(len(owners)), document.owner
        outcome = transfer(document, owners[to])
        document.owner = owner
        return kind, {"seq": status["seq"], "to": to}, outcome
    if kind == "release":
        lien = choice.choice(mine)
        return kind, {"lien": lien}, document.release(lien)
    if kind == "settle_lien":
        lien = choice.choice(mine)
        new = choice.choice([0, 0, 1, 10_000])
        outcome = document.settle_lien(lien, new, lower)
        return kind, {"version": version, "lien": lien, "new_lien": new, "cap": lower}, outcome
    if kind == "settle_free":
        return kind, {"version": version, "cap": lower}, document.settle_free(lower)
    return kind, {"version": version, "cap": lower}, document.credit_note(lower)
