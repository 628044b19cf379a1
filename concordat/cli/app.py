"""The command ``concordat``: every command's name and place.

Modules of commands import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import typer

from concordat.cli import (
    consortium,
    coordinator,
    demo,
    job,
    ledger,
    model,
    node,
    node_data,
    node_doctor,
    node_egress,
    node_job,
    sample,
    schema,
    verify,
)
from concordat.cli.output import Root


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)


app = typer.Typer(
    cls=Root,
    help="A consortium of institutions that train one risk model and show each other no row.",
    epilog="Handbook: docs/handbook. Exit codes: 0 done, 1 failed, 2 configuration or usage, 3 data, "
    "4 protocol, 5 not approved, 6 job void, 7 unavailable, 8 ledger, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_node = _group("An institution's node: set up, enrol, run, watch.")
_node.command("init")(node.init)
_node.command("enroll")(node.enroll)
_node.command("run")(node.run)
_node.command("status")(node.status)
_node.command("doctor")(node_doctor.doctor)
_jobs = _group("Jobs that this institution is asked to take part in.")
_jobs.command("list")(node_job.list_jobs)
_jobs.command("show")(node_job.show_job)
_jobs.command("approve")(node_job.approve)
_jobs.command("reject")(node_job.reject)
_node.add_typer(_jobs, name="job")
_egress = _group("What left the building.")
_egress.command("list")(node_egress.list_records)
_egress.command("verify")(node_egress.verify_log)
_node.add_typer(_egress, name="egress")
_data = _group("The institution's own table.")
_data.command("check")(node_data.check)
_node.add_typer(_data, name="data")
app.add_typer(_node, name="node")

_coordinator = _group("The consortium's coordinator: found, run, invite, admit.")
_coordinator.command("init")(coordinator.init)
_coordinator.command("run")(coordinator.run)
_coordinator.command("invite")(coordinator.invite)
_coordinator.command("admit")(coordinator.admit)
_coordinator.command("parties")(coordinator.parties)
_coordinator.command("status")(coordinator.status)
app.add_typer(_coordinator, name="coordinator")

_job = _group("Training jobs, seen from the coordinator.")
_job.command("submit")(job.submit)
_job.command("list")(job.list_jobs)
_job.command("show")(job.show_job)
_job.command("watch")(job.watch)
_job.command("cancel")(job.cancel)
app.add_typer(_job, name="job")

_model = _group("Models that jobs have made.")
_model.command("list")(model.list_models)
_model.command("show")(model.show_model)
app.add_typer(_model, name="model")

_ledger = _group("The registry of receivables: no receivable is pledged twice.")
_ledger.callback()(ledger.where)
_ledger.command("up")(ledger.up)
_ledger.command("down")(ledger.down)
_ledger.command("register")(ledger.register)
_ledger.command("confirm")(ledger.confirm)
_ledger.command("attest")(ledger.attest)
_ledger.command("pledge")(ledger.pledge)
_ledger.command("release")(ledger.release)
_ledger.command("settle")(ledger.settle)
_ledger.command("credit-note")(ledger.credit_note)
_ledger.command("transfer")(ledger.transfer)
_ledger.command("status")(ledger.status)
_ledger.command("audit")(ledger.audit)
app.add_typer(_ledger, name="ledger")

app.command("up")(consortium.up)
app.command("status")(consortium.status)
app.command("down")(consortium.down)
app.command("demo")(demo.demo)
app.command("sample")(sample.sample)
app.command("schema")(schema.schema)
app.command("verify")(verify.verify)


def main() -> None:
    """Run the command line."""
    app()
