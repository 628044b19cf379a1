"""Random histories against the compiled bytecode, compared with a plain model step by step.

The generator prefers boundaries: shares one below, at and one above every limit in force. Invariants are read
from the chain after each step: the sum of live liens is what is pledged; pledged stays within capacity or the
claim is SHORT; cap + settled + transferred + credited = original; a tag belongs to one live claim.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import ledger_moves as moves
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ledger_document import Document
from ledger_model import (
    ATTESTED,
    CONFIRMED,
    CONFLICT,
    LIVE,
    MONTH,
    SETTLED,
    VOID,
    Claim,
    Contender,
    Model,
    after_payment,
)
from ledger_world import DAY, Outcome, World

from ledger.commitments import FULL, WEEK, ZERO
from ledger.signers import Role

NAMES = [b"one", b"two", b"three", b"four"]
EXAMPLES = int(os.environ.get("CONCORDAT_MACHINE_EXAMPLES", "25"))
_SHARED: list[World] = []


_NUMBERS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)
# How often each action is tried; what moves capacity comes up most.
WEIGHTS = {
    "pledge": 6,
    "release": 2,
    "settle_lien": 5,
    "settle_free": 3,
    "credit_note": 3,
    "split": 3,
    "transfer": 1,
    "amend": 2,
    "upgrade": 2,
    "void": 2,
    "renew": 1,
    "open_claim": 4,
    "contend": 3,
    "agree": 2,
    "dispute": 2,
    "resolve": 2,
    "freeze": 2,
    "pause": 1,
    "wait": 3,
    "wait_long": 2,
}
# Each history has a theme that brings some actions up, so that what needs several of them in a row is met.
THEMES: dict[str, dict[str, int]] = {
    "any": {"pledge": 8, "pause": 4},
    "payments": {"settle_lien": 14, "settle_free": 8, "credit_note": 12, "pledge": 10, "release": 6},
    "parts": {"split": 16, "void": 12, "release": 6, "transfer": 3, "pledge": 12, "amend": 4},
    "contests": {
        "resolve": 20,
        "agree": 16,
        "dispute": 14,
        "contend": 14,
        "upgrade": 6,
        "open_claim": 4,
        "settle_free": 1,
        "credit_note": 1,
        "split": 1,
        "amend": 1,
        "void": 1,
        "freeze": 1,
        "release": 1,
        "pause": 0,
        "wait_long": 1,
    },
}
_ANYTIME = {"open_claim", "contend", "pause", "wait", "wait_long"}
_WITH_LIEN = {"release", "settle_lien", "renew"}


class LedgerMachine(RuleBasedStateMachine):
    """Owners, obligors, banks and a council around four invoice numbers."""

    @initialize(theme=st.sampled_from(sorted(THEMES)))
    def begin(self, theme: str) -> None:
        """A fresh ledger."""
        # Generators prefer what comes first, so the theme does.
        self.weights = THEMES[theme] | {k: v for k, v in WEIGHTS.items() if k not in THEMES[theme]}
        if not _SHARED:
            _SHARED.append(World())
        self.stack = ExitStack()
        self.world = _SHARED[0]
        self.stack.enter_context(self.world.fresh())
        self.model = Model(self.world)
        self.banks = [self.world.party(Role.BANK) for _ in range(2)]
        grades = [ATTESTED] * 4 if theme == "contests" else [CONFIRMED, ATTESTED]
        for names, grade in zip(([name] for name in NAMES), grades, strict=False):
            document = Document.new(self.world, names=names, due=self.world.week(12))
            assert (document.confirm() if grade == CONFIRMED else document.attest(self.banks[0], 400_000)).ok
            self.model.open(document, grade).liens = dict.fromkeys(document.liens, 400000)

    def possible(self, action: str) -> bool:
        """Whether an action has anything to act on."""
        if action == "agree":
            return bool(self.contended())
        if action in _WITH_LIEN:
            return any(c.document.liens for c in self.model.claims)
        return action in _ANYTIME or bool(self.model.claims)

    @rule(data=st.data())
    def act(self, data: Any) -> None:
        """One action, by weight."""
        names = [name for name, weight in self.weights.items() for _ in range(weight) if self.possible(name)]
        getattr(self, data.draw(st.sampled_from(names)))(data)

    def teardown(self) -> None:
        """Back to the snapshot."""
        if hasattr(self, "stack"):
            self.stack.close()

    # ---- drawing

    def claim(self, data: Any, grade: int = 0) -> Claim:
        """A claim, rather a live one, rather of a grade."""
        pool = self.model.claims
        if data.draw(st.integers(0, 9)) != 9:
            live = [c for c in pool if self.model.ended(c) == LIVE]
            pool = [c for c in live if c.grade == grade] or live or pool
        found: Claim = data.draw(st.sampled_from(pool))
        return found

    def share(self, data: Any, *limits: int) -> int:
        """A share at, just below or just above a limit, or any."""
        edges = [limit + step for limit in (*limits, FULL, 0) for step in (0, 1, -1)]
        fair = list(dict.fromkeys(one for one in edges if 0 <= one <= FULL + 1))
        found: int = data.draw(
            st.one_of(st.sampled_from(fair), st.sampled_from(fair), st.integers(0, FULL + 1))
        )
        return found

    def numbers(self, data: Any) -> list[bytes]:
        """One or two numbers, rather some that an attested claim holds."""
        held = [name for name in NAMES if (c := self.model.holder(name)) and c.grade == ATTESTED]
        pool = held if held and data.draw(st.integers(0, 9)) < 7 else NAMES
        found: list[bytes] = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=2, unique=True))
        return found

    def check(self, outcome: Outcome, reasons: set[str]) -> bool:
        """Applied exactly when nothing speaks against it."""
        if outcome.ok:
            assert not reasons, f"applied in spite of {reasons}"
        else:
            assert outcome.refusal.name in reasons, f"{outcome.refusal} instead of {reasons}"
        return outcome.ok

    # ---- opening

    def open_claim(self, data: Any) -> None:
        """Confirm or attest one or two numbers."""
        names, attest = data.draw(_NUMBERS), data.draw(st.booleans())
        document = Document.new(
            self.world, names=names, due=self.world.week(data.draw(st.sampled_from([1, 12, 53])))
        )
        reasons = self.model.halted()
        if reasons:
            return  # drafts can't be anchored either
        reasons = {"TagTaken"} if any(self.model.holder(name) for name in names) else set()
        if not attest:
            if self.check(document.confirm(), reasons):
                self.model.open(document, CONFIRMED)
            return
        ppm = self.share(data)
        reasons |= {"ZeroPpm"} if ppm == 0 else set()
        reasons |= {"OverCapacity"} if ppm > FULL else set()
        if self.check(document.attest(self.banks[0], ppm), reasons):
            claim = self.model.open(document, ATTESTED)
            claim.liens = {next(iter(document.liens)): ppm}

    # ---- liens

    def pledge(self, data: Any) -> None:
        """Take a lien near what is free."""
        c = self.claim(data)
        free = c.cap - c.pledged
        ppm = self.share(data, max(free, 0), c.cap, c.original)
        reasons = self.model.dead(c) | self.model.stuck(c) | self.model.halted()
        reasons |= {"Overdue"} if self.world.week() > c.due else set()
        reasons |= {"ZeroPpm"} if ppm == 0 else set()
        reasons |= {"OverCapacity"} if ppm > max(free, 0) else set()
        outcome = c.document.pledge(data.draw(st.sampled_from(self.banks)), ppm)
        if self.check(outcome, reasons):
            c.liens[outcome.data] = ppm

    def release(self, data: Any) -> None:
        """Give a lien up."""
        c, lien = self.encumbered(data)
        if self.check(c.document.release(lien), self.model.dead(c)):
            del c.liens[lien]
            self.model.close(c)

    def encumbered(self, data: Any) -> tuple[Claim, bytes]:
        """A claim with a lien, rather one that is SHORT, and the lien."""
        pool = [c for c in self.model.claims if c.document.liens]
        if data.draw(st.booleans()):
            pool = [c for c in pool if c.pledged > c.cap] or pool
        c: Claim = data.draw(st.sampled_from(pool))
        return c, data.draw(st.sampled_from(list(c.document.liens)))

    def renew(self, data: Any) -> None:
        """Keep an attested claim alive."""
        c, lien = self.encumbered(data)
        reasons = self.model.dead(c) | ({"WrongState"} if c.grade == CONFIRMED else set())
        if self.check(moves.renew(c.document, lien), reasons):
            c.lapse = max(c.lapse, self.world.week(26))

    # ---- payments

    def settle_free(self, data: Any) -> None:
        """A payment to the owner."""
        c = self.claim(data)
        cap = self.share(data, c.cap, c.pledged)
        reasons = self.model.dead(c)
        reasons |= {"NotLower"} if cap >= c.cap else set()
        reasons |= {"BelowPledged"} if cap < c.pledged else set()
        signers = None if c.grade == CONFIRMED else []
        if self.check(c.document.settle_free(cap, signers), reasons):
            c.settled += c.cap - cap
            c.cap = cap
            self.model.close(c)

    def settle_lien(self, data: Any) -> None:
        """A payment to a holder."""
        c, lien = self.encumbered(data)
        before = c.liens.get(lien, 0)
        new_lien = self.share(data, before)
        remainder = self.share(
            data, c.cap, c.pledged, max(0, c.pledged - before + new_lien), max(0, c.cap - before)
        )
        reasons = self.model.dead(c) | ({"OverLien"} if new_lien > before else set())
        cap = after_payment(c.cap, c.pledged, new_lien, before, remainder)
        reasons |= {"NotLower"} if new_lien == before and cap == c.cap else set()
        payer = c.document.obligor if c.grade == CONFIRMED else c.document.owner
        if self.check(c.document.settle_lien(lien, new_lien, remainder, payer), reasons):
            c.settled += c.cap - cap
            c.cap = cap
            c.liens[lien] = new_lien
            if new_lien == 0:
                del c.liens[lien]
            self.model.close(c)

    def credit_note(self, data: Any) -> None:
        """A reduction of the payable."""
        c = self.claim(data)
        cap = self.share(data, c.pledged // 2, c.pledged, c.cap)
        reasons = self.model.dead(c) | ({"NotLower"} if cap >= c.cap else set())
        attested = c.grade == ATTESTED
        signer = c.document.owner if attested else c.document.obligor
        if self.check(c.document.credit_note(cap, signer, attested and bool(c.document.liens)), reasons):
            c.credited += c.cap - cap
            c.cap = cap
            self.model.close(c)

    # ---- succession

    def transfer(self, data: Any) -> None:
        """The whole claim changes hands."""
        c = self.claim(data)
        reasons = self.model.dead(c) | self.model.stuck(c) | self.model.halted()
        self.check(moves.transfer(c.document, self.world.party(Role.SUPPLIER), c.grade == ATTESTED), reasons)

    def split(self, data: Any) -> None:
        """A part becomes a claim of its own, with or without liens."""
        c = self.claim(data, CONFIRMED)
        liens = list(c.liens) if self.model.ended(c) == LIVE else []
        least = data.draw(st.integers(0, 1))
        moved = data.draw(st.lists(st.sampled_from(liens), min_size=least, unique=True)) if liens else []
        taken = sum(c.liens[one] for one in moved)
        free = max(0, c.cap - c.pledged)
        ppm = self.share(data, free + taken, taken, free)
        reasons = self.model.dead(c) | self.model.stuck(c) | self.model.halted()
        reasons |= {"WrongState"} if c.grade == ATTESTED else set()
        reasons |= {"ZeroPpm"} if ppm == 0 else set()
        reasons |= {"BelowPledged"} if ppm < taken else set()
        reasons |= {"OverFree"} if ppm - taken > free else set()
        outcome, child = moves.split(c.document, self.world.party(Role.SUPPLIER), ppm, moved)
        if self.check(outcome, reasons):
            assert child is not None
            self.model.part(c, child, ppm, moved)

    def amend(self, data: Any) -> None:
        """Terms change, capacity never rises."""
        c = self.claim(data)
        cap, due = self.share(data, c.cap, c.pledged), self.world.week(data.draw(st.sampled_from([1, 30])))
        reasons = self.model.dead(c) | self.model.stuck(c)
        reasons |= {"RaiseNeedsNewClaim"} if cap > c.cap else set()
        if self.check(moves.amend(c.document, cap, due), reasons):
            c.credited += c.cap - cap
            c.cap, c.due = cap, due
            c.lapse = due + 26 if c.grade == ATTESTED else 0
            self.model.close(c)

    def upgrade(self, data: Any) -> None:
        """The obligor confirms what a bank had attested."""
        c = self.claim(data, ATTESTED)
        cap = self.share(data, c.cap, c.pledged)
        reasons = self.model.dead(c) | ({"WrongState"} if c.grade == CONFIRMED else set())
        reasons |= {"Frozen"} if self.model.flags(c) & CONFLICT else set()
        reasons |= {"NotLower"} if cap > c.cap else set()
        if self.check(moves.upgrade(c.document, cap, by="member"), reasons):
            c.credited += c.cap - cap
            c.cap, c.grade, c.lapse, c.dispute_until = cap, CONFIRMED, 0, 0
            self.model.close(c)

    def void(self, data: Any) -> None:
        """End a claim without liens and parts."""
        c = self.claim(data)
        reasons = self.model.dead(c) | ({"Frozen"} if self.model.flags(c) else set())
        reasons |= {"Encumbered"} if c.pledged or c.children else set()
        if self.check(moves.void(c.document, None if c.grade == CONFIRMED else []), reasons):
            c.end = VOID
            if c.root:
                c.root.children -= 1

    # ---- contests

    def contend(self, data: Any) -> None:
        """A second owner of one or two numbers."""
        if self.model.halted():
            return
        names = self.numbers(data)
        hits = list(dict.fromkeys(c for name in names if (c := self.model.holder(name))))
        reasons = set() if hits else {"NothingContended"}
        for c in hits:
            reasons |= {"TagTaken"} if c.grade == CONFIRMED else set()
            reasons |= {"ContenderExists"} if self.model.flags(c) & CONFLICT else set()
        document = Document.new(self.world, names=names, due=self.world.week(12))
        if self.check(moves.contend(document), reasons):
            contender = Contender(document)
            for c in hits:
                c.contender, c.flagged_at = contender, self.world.time

    def contended(self) -> list[Claim]:
        """Claims with an open contender."""
        return [c for c in self.model.claims if c.contender and c.contender.status == "open"]

    def agree(self, data: Any) -> None:
        """Adopt, or withdraw."""
        c, give_up = data.draw(st.sampled_from(self.contended())), data.draw(st.booleans())
        contender = c.contender
        if give_up:
            assert moves.withdraw(contender.document, []).ok
            contender.status = "withdrawn"
            return
        others = {self.model.holder(name) for name in contender.document.names} - {None, c}
        reasons = self.model.dead(c) | ({"TagTaken"} if others else set())
        if self.check(moves.adopt(c.document, contender.document), reasons):
            self.model.adopt(c)

    def dispute(self, data: Any) -> None:
        """The obligor denies an attested claim."""
        c = self.claim(data, ATTESTED)
        reasons = self.model.dead(c) | ({"WrongState"} if c.grade == CONFIRMED else set())
        reasons |= {"DisputeUsed"} if c.disputed_by else set()
        if self.check(moves.dispute(c.document), reasons):
            if not self.model.flags(c) & CONFLICT:
                c.flagged_at = self.world.time
            c.dispute_until, c.disputed_by = self.world.time + MONTH, True

    def resolve(self, data: Any) -> None:
        """The council thaws or strikes."""
        flagged = [c for c in self.model.claims if self.model.flags(c) & 6]
        c = data.draw(st.sampled_from(flagged)) if flagged else self.claim(data)
        ready = c.flagged_at + 14 * DAY - self.world.time
        if flagged and ready > 1 and data.draw(st.sampled_from([True, True, False])):
            self.world.pass_time(ready - data.draw(st.sampled_from([0, 0, 0, 1])))
        strike, conflict = data.draw(st.booleans()), bool(self.model.flags(c) & CONFLICT)
        disputed = c.dispute_until > self.world.time and c.end == LIVE
        reasons = {"WrongState"} if self.model.ended(c) == VOID or not (conflict or disputed) else set()
        reasons |= {"WrongState"} if strike and c.grade == CONFIRMED else set()
        reasons |= {"TooEarly"} if self.world.time < c.flagged_at + 14 * DAY else set()
        verdict = moves.STRIKE if strike else moves.THAW
        contender = c.contender if conflict else None
        outcome = moves.resolve(c.document, verdict, contender.document if contender else None)
        if self.check(outcome, reasons):
            if strike:
                self.model.strike(c)
                return
            if contender:
                contender.status = "lost"
            c.contender, c.dispute_until = None, 0

    # ---- council and clock

    def freeze(self, data: Any) -> None:
        """The council holds a claim."""
        c = self.claim(data)
        if self.check(moves.freeze(c.document), self.model.dead(c)):
            c.hold_until = self.world.time + 7 * DAY

    def pause(self, _data: Any) -> None:
        """The council pauses new business."""
        cooling = self.model.paused_until and self.world.time < self.model.paused_until + 3 * DAY
        if self.check(moves.pause(self.world), {"Cooldown"} if cooling else set()):
            self.model.paused_until = self.world.time + 3 * DAY

    def wait(self, data: Any) -> None:
        """Time passes."""
        self.world.pass_time(data.draw(st.sampled_from([1, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY])))

    def wait_long(self, data: Any) -> None:
        """To the edge of a deadline of some claim: the last second before it, or its first."""
        edges = []
        for c in self.model.claims:
            weeks = [(c.due + 1) * WEEK, (c.lapse + 1) * WEEK]
            edges += [*weeks, c.hold_until, c.dispute_until, c.flagged_at + 14 * DAY]
        ahead = [edge - early for edge in edges for early in (1, 0) if edge - early > self.world.time]
        self.world.pass_time(data.draw(st.sampled_from(ahead)) - self.world.time if ahead else WEEK)

    # ---- what always holds

    @invariant()
    def chain_equals_model(self) -> None:
        """Every claim reads as the model says, and the sums hold on the chain itself."""
        if not hasattr(self, "model"):
            return
        for c in self.model.claims:
            s = self.world.status(c.document.claim)
            seen = {
                name: s[name] for name in ("cap", "settled", "transferred", "credited", "original", "grade")
            }
            said = {name: getattr(c, name) for name in seen}
            assert seen == said
            assert s["end"] == self.model.ended(c)
            assert s["flags"] == self.model.flags(c)
            assert (s["children"], s["dueWeek"], s["lapseWeek"]) == (c.children, c.due, c.lapse)
            assert s["cap"] + s["settled"] + s["transferred"] + s["credited"] == s["original"]
            assert s["pledged"] == c.pledged
            assert s["liens"] == len(c.liens)
            if s["end"] == LIVE:
                assert s["pledged"] <= s["cap"] or s["flags"] & 1
                assert s["grade"] == CONFIRMED or s["liens"] > 0
            if s["end"] == SETTLED:
                assert (s["cap"], s["pledged"]) == (0, 0)
            records = [self.world.lien(c.document.claim, one) for one in c.document.liens]
            if s["end"] != VOID:
                assert sum(one[0] for one in records if one[1] == 1) == s["pledged"]

    @invariant()
    def one_holder_of_a_tag(self) -> None:
        """Each number belongs to the claim that the model names, or to none."""
        if not hasattr(self, "model"):
            return
        for name in NAMES:
            tag = (
                Document.new(self.world, names=[name], owner=self.banks[0], obligor=self.banks[0])
                .tags()[0]
                .tags[0]
            )
            holder = self.model.holder(name)
            expected = holder.document.claim if holder else ZERO
            assert self.world.view("holderOf", tag) == expected


LedgerMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate] if os.environ.get("CONCORDAT_CONTRACTS") else list(Phase),
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize="CONCORDAT_MACHINE_EXAMPLES" not in os.environ,
)
TestLedgerMachine = LedgerMachine.TestCase
