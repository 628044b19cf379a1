"""The rules of the ledger as a second, plain implementation: what the state machine compares the bytecode with.

A prediction is the set of all reasons for which an action must be refused; it is applied exactly when that set is
empty, and a refusal must be one of it. Shares in parts per million, times in unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ledger_document import Document
from ledger_world import DAY, World

from ledger.commitments import FULL, WEEK

SHORT, CONFLICT, DISPUTED, HOLD = 1, 2, 4, 8
ATTESTED, CONFIRMED = 1, 2
LIVE, SETTLED, VOID = 0, 1, 2


@dataclass(eq=False)
class Claim:
    """One claim as the rules see it."""

    document: Document
    grade: int
    due: int
    lapse: int = 0
    cap: int = FULL
    original: int = FULL
    settled: int = 0
    transferred: int = 0
    credited: int = 0
    liens: dict[bytes, int] = field(default_factory=dict)
    end: int = LIVE
    hold_until: int = 0
    dispute_until: int = 0
    disputed_by: bool = False
    flagged_at: int = 0
    contender: Contender | None = None
    children: int = 0
    root: Claim | None = None

    @property
    def pledged(self) -> int:
        """Sum of the live liens."""
        return sum(self.liens.values())


@dataclass(eq=False)
class Contender:
    """A second owner."""

    document: Document
    status: str = "open"


class Model:
    """All claims, who holds which name, and the clock of the world it watches."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.claims: list[Claim] = []
        self.names: dict[bytes, Claim] = {}
        self.paused_until = 0

    # ---- reading

    def lapsed(self, c: Claim) -> bool:
        """Whether an attested claim has outlived its last week."""
        return c.grade == ATTESTED and c.end == LIVE and self.world.time // WEEK > c.lapse

    def ended(self, c: Claim) -> int:
        """How a claim ended, as it counts now."""
        return VOID if self.lapsed(c) else c.end

    def flags(self, c: Claim) -> int:
        """The flags that hold now."""
        now = self.world.time
        found = SHORT if c.end == LIVE and c.pledged > c.cap else 0
        found |= CONFLICT if c.contender and c.contender.status == "open" else 0
        found |= DISPUTED if c.dispute_until > now else 0
        return found | (HOLD if c.hold_until > now else 0)

    def holder(self, name: bytes) -> Claim | None:
        """Who holds a name now."""
        c = self.names.get(name)
        return None if c is None or self.ended(c) == VOID else c

    # ---- reasons to refuse

    def dead(self, c: Claim) -> set[str]:
        """A claim that ended takes no action."""
        return {"WrongState"} if self.ended(c) != LIVE else set()

    def stuck(self, c: Claim) -> set[str]:
        """A flag on a claim, or on the document of a part."""
        found = self.flags(c) or (c.root is not None and self.flags(c.root))
        return {"Frozen"} if found else set()

    def halted(self) -> set[str]:
        """A pause."""
        return {"Paused"} if self.paused_until > self.world.time else set()

    # ---- writing

    def close(self, c: Claim) -> None:
        """The end that follows from capacity and liens."""
        if c.pledged == 0 and c.cap == 0:
            c.end = SETTLED
        elif c.grade == ATTESTED and not c.liens:
            c.end = VOID

    def open(self, document: Document, grade: int) -> Claim:
        """A new claim takes its names."""
        due = document.due_week()
        c = Claim(document, grade, due, due + 26 if grade == ATTESTED else 0)
        self.claims.append(c)
        for name in document.names:
            self.names[name] = c
        return c

    def part(self, c: Claim, document: Document, ppm: int, moved: list[bytes]) -> Claim:
        """A part leaves its parent."""
        root = c.root or c
        child = Claim(document, CONFIRMED, c.due, cap=ppm, original=ppm, root=root)
        child.liens = {one: c.liens.pop(one) for one in moved}
        c.cap -= ppm
        c.transferred += ppm
        root.children += 1
        self.close(c)
        self.claims.append(child)
        return child

    def strike(self, c: Claim) -> None:
        """The council closes all liens; the contender gets the names once all are free."""
        contender = c.contender if c.contender and c.contender.status == "open" else None
        c.liens.clear()
        c.document.liens.clear()
        c.end, c.dispute_until, c.contender = VOID, 0, None
        if contender and not any(self.holder(name) for name in contender.document.names):
            contender.status = "adopted"
            self.open(contender.document, CONFIRMED)

    def adopt(self, c: Claim) -> None:
        """The claim goes to its contender, the liens stay."""
        contender = c.contender
        assert contender is not None
        theirs = contender.document
        names = list(dict.fromkeys([*c.document.names, *theirs.names]))
        contender.status, c.contender = "adopted", None
        c.due = theirs.due_week()
        c.document = replace(theirs, claim=c.document.claim, names=names, liens=c.document.liens)
        c.grade, c.lapse, c.dispute_until = CONFIRMED, 0, 0
        for name in theirs.names:
            self.names[name] = c


def after_payment(cap: int, pledged: int, new_lien: int, lien: int, remainder: int) -> int:
    """Capacity after a payment to a holder (the two numbers of the specification)."""
    left = pledged - lien + new_lien
    floor = remainder if pledged > cap else max(remainder, left)
    return min(cap, floor)


MONTH = 30 * DAY
