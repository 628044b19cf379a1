"""``concordat node job list | show | approve | reject``: what this institution is asked to take part in."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordat.cli import place
from concordat.cli.job_terms import Leaving, leaving, terms
from concordat.cli.output import Format, FormatOption, facts, moment, say, show, table
from protocol.errors import ConcordatError, ConfigurationError, NotApproved

if TYPE_CHECKING:
    from node.approval import Approvals
    from node.config import NodeConfig
    from node.store import Store
    from protocol.job import Proposal

JobArgument = Annotated[str, typer.Argument(help="The job's id, or its beginning.")]


@dataclass(frozen=True)
class Desk:
    """Where an institution decides: its configuration, its database, its decisions, its release's hash."""

    config: NodeConfig
    store: Store
    approvals: Approvals
    code: str

    def contract(self) -> str | None:
        """Return the digest of the node's own data contract; None for a party without a table.

        Raises:
            ConfigurationError: the contract's file can't be read.
        """
        from protocol.contract import parse

        if self.config.data is None:
            return None
        path = self.config.path(self.config.data.contract)
        return parse(path.read_bytes(), str(path)).digest


def open_desk(config: NodeConfig) -> Desk:
    """Open the node's database and keys for a decision."""
    from node.approval import Approvals
    from node.flower.bundle import code_hash

    store, code = place.store_of(config), code_hash()
    return Desk(config, store, Approvals(config, store, place.keys_of(config).identity(), code), code)


def list_jobs(
    pending: Annotated[bool, typer.Option("--pending", help="Only those that wait for a decision.")] = False,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show the jobs that were proposed to this institution, the newest first.

    \b
    Examples:
      concordat node job list --pending
      concordat node job list --format json
    """
    made = place.load_node(config)
    rows = [row for row in place.store_of(made).list_proposals() if not pending or row["state"] == "pending"]
    jobs = [_line(row) for row in rows]
    answer = {"node": made.node.name, "jobs": jobs}
    show(
        format,
        answer,
        lambda: table(
            ("job", "decision", "received", "release", "epsilon", "parties", "title"),
            [
                (
                    job["job"][:12],
                    job["state"],
                    moment(job["received_at"]),
                    job["release"],
                    "-" if job["epsilon"] is None else job["epsilon"],
                    len(job["parties"]),
                    job["title"],
                )
                for job in jobs
            ],
            "No job waits for a decision." if pending else "No job was proposed to this institution yet.",
        ),
    )


def _line(row: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(row["document"])["body"]
    return {
        "job": row["digest"],
        "state": row["state"],
        "received_at": row["received_at"],
        "decided_by": row["decided_by"],
        "decided_at": row["decided_at"],
        "reason": row["reason"],
        "title": body["title"],
        "purpose": body["purpose"],
        "release": body["release"]["kind"],
        "epsilon": body["release"]["epsilon"],
        "parties": sorted([*body["banks"], *body["witnesses"]]),
    }


def show_job(
    job: JobArgument,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Say plainly what a job asks of this institution, what would leave the node, and whether it can run here.

    \b
    Examples:
      concordat node job show 3f9c
    """
    desk = open_desk(place.load_node(config))
    row, proposal = found(desk, job)
    answer = described(desk, row, proposal)
    show(format, answer, lambda: screen(answer, proposal))


def found(desk: Desk, job: str) -> tuple[dict[str, Any], Proposal]:
    """Return a proposal's row and its body."""
    from protocol.job import Proposal

    row = desk.approvals.find(job)
    return row, Proposal.parse(json.loads(row["document"])["body"])


def described(desk: Desk, row: dict[str, Any], proposal: Proposal) -> dict[str, Any]:
    """Return everything that an institution needs for its decision."""
    limits = desk.config.approval.auto_approve
    try:
        own = desk.contract()
        contract: dict[str, Any] = {"own": own, "equal": None if own is None else own == proposal.contract}
    except (ConcordatError, OSError) as error:
        contract = {"own": None, "equal": False, "error": str(getattr(error, "message", error))}
    objections: list[str] = []
    if row["state"] == "pending":
        objections = (
            ["this node's configuration sets no limits for approval without asking"]
            if limits is None
            else desk.approvals.objections(proposal, limits)
        )
    return {
        **_line(row),
        "proposal": proposal.body,
        "runs": [run["job"] for run in desk.store.job_of(row["digest"])],
        "leaves": [
            entry.__dict__ for entry in leaving(proposal, desk.config.node.name, desk.config.node.role)
        ],
        "privacy": spending(desk, proposal),
        "code": {"own": desk.code, "equal": proposal.code == desk.code},
        "contract": contract,
        "why_not_approved_without_asking": objections,
    }


def spending(desk: Desk, proposal: Proposal) -> list[dict[str, Any]]:
    """Return what releases to each partner have cost so far, and would with this job: epsilon now and after."""
    from node.keep import keep_of
    from node.privacy import PrivacyBook
    from protocol.release import mu_of

    terms, role = proposal.vertical, desk.config.node.role
    if terms is None or terms.epsilon is None or role not in ("bank", "compute"):
        return []
    limit = desk.config.privacy
    spent = PrivacyBook(keep_of(desk.config)).spent()
    mu = mu_of(terms.epsilon, terms.delta)
    found = []
    for partner in terms.partners:
        now, after = spent.after(partner, {proposal.contract}, mu, limit.delta)
        found.append(
            {"partner": partner, "now": now, "after": after, "limit": limit.epsilon, "delta": limit.delta}
        )
    return found


def screen(answer: dict[str, Any], proposal: Proposal) -> str:
    """Return the answer for people."""
    decision = answer["state"]
    if answer["decided_by"]:
        decision += f" by {answer['decided_by']}, {moment(answer['decided_at'])}"
    if answer["reason"]:
        decision += f": {answer['reason']}"
    code = "equals the installed release" if answer["code"]["equal"] else "DIFFERS from the installed release"
    equal = answer["contract"]["equal"]
    contract = {
        True: "equals this node's contract",
        False: "DIFFERS from this node's contract",
        None: "this node has no table",
    }[equal]
    if "error" in answer["contract"]:
        contract = f"can't be compared: {answer['contract']['error']}"
    parts = [
        facts(
            [
                ("job", answer["job"]),
                ("title", proposal.title),
                ("purpose", proposal.purpose),
                ("proposed by", f"{proposal.submitted_by}, {moment(proposal.submitted_at)}"),
                ("decision", decision),
                *terms(proposal),
                ("code", f"{code} ({proposal.code[:12]})"),
                ("contract", f"{contract} ({proposal.contract[:12]})"),
                *((("runs", ", ".join(run[:12] for run in answer["runs"])),) if answer["runs"] else ()),
            ]
        ),
        "What would leave this node (nothing else; every release is in `concordat node egress list`):\n"
        + table(
            ("what", "to", "times", "who can read it"),
            [
                (entry.what, entry.to, entry.times, entry.readable)
                for entry in (Leaving(**kept) for kept in answer["leaves"])
            ],
        ),
    ]
    if answer["privacy"]:
        parts.append(
            "What releases to partners cost here (epsilon per enterprise, all jobs under this contract):\n"
            + table(
                ("partner", "now", "with this job", "limit"),
                [
                    (one["partner"], f"{one['now']:.2f}", f"{one['after']:.2f}", f"{one['limit']:.2f}")
                    for one in answer["privacy"]
                ],
            )
        )
    if answer["why_not_approved_without_asking"]:
        parts.append(
            "Why it waits for a person:\n"
            + "\n".join(f"  - {why}" for why in answer["why_not_approved_without_asking"])
        )
    return "\n\n".join(parts)


ByOption = Annotated[
    str,
    typer.Option(help="Who decides, by name or office; `approval.approver` of the configuration if unset."),
]


def approve(
    job: JobArgument,
    by: ByOption = "",
    reason: Annotated[str, typer.Option(help="Why, for the record; the coordinator reads it.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask again.")] = False,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Approve a job: this institution takes part. The signed decision goes out at the daemon's next turn.

    \b
    Examples:
      concordat node job approve 3f9c --by "Risk committee"
    """
    decide(config, job, "approve", by, reason, yes, format)


def reject(
    job: JobArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record; the coordinator reads it.")] = "",
    by: ByOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask again.")] = False,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Reject a job: it can't run, unless the coordinator proposes another without this institution.

    \b
    Examples:
      concordat node job reject 3f9c --reason "purpose not covered by our consents"
    """
    decide(config, job, "reject", by, reason, yes, format)


def decide(file: Any, job: str, decision: str, by: str, reason: str, yes: bool, format: Format) -> None:  # noqa: A002
    """Record a decision once.

    Raises:
        ConfigurationError: nobody is named who decides, the text is too long, or it was decided already.
        NotApproved: the job names other code, or another contract, than this node's.
    """
    made = place.load_node(file)
    who = by or made.approval.approver
    if not who:
        raise ConfigurationError(
            "APPROVER_UNNAMED", "nobody is named who decides", "Give --by, or set approval.approver."
        )
    if len(who) > 200 or len(reason) > 500 or not who.isprintable():
        raise ConfigurationError(
            "DECISION_TEXT", "--by takes 200 printable characters and --reason 500", "Shorten the text."
        )
    desk = open_desk(made)
    row, proposal = found(desk, job)
    if row["state"] != "pending":
        raise ConfigurationError(
            "PROPOSAL_DECIDED",
            f"the job was {row['state']} by {row['decided_by']} on {moment(row['decided_at'])}",
            "A decision stands. To stop an approved job ask the coordinator: `concordat job cancel`.",
        )
    answer = described(desk, row, proposal)
    if decision == "approve" and answer["contract"]["equal"] is False:
        raise NotApproved(
            "CONTRACT_DIFFERS",
            "the job is for another data contract than this node's",
            "Agree with the consortium on one contract and set data.contract, or reject the job.",
        )
    if not yes and sys.stdin.isatty():
        say(screen(answer, proposal))
        typer.confirm(f"\n{decision.capitalize()} as {who}?", abort=True, err=True)
    desk.approvals.decide(row["digest"], decision, by=who, reason=reason)
    kept = desk.store.proposal(row["digest"])
    assert kept is not None
    line = _line(kept)
    show(format, line, lambda: f"{line['state']}: {line['title']} ({line['job'][:12]}) by {who}")
