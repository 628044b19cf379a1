"""``concordat model list | show``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from concordat.cli import place
from concordat.cli.output import Format, FormatOption, facts, moment, show, table


def list_models(
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show the registered models, the newest first.

    \b
    Examples:
      concordat model list
    """
    found = place.ask_coordinator(coordinator, "GET", "/models")
    show(
        format,
        {"models": found},
        lambda: table(
            ("version", "state", "made", "AUC", "KS", "promotable", "release", "banks", "title"),
            [
                (
                    model["version"],
                    model["state"],
                    moment(model["created_at"]),
                    f"{model['card']['figures']['auc']:.4f}",
                    f"{model['card']['figures']['ks']:.4f}",
                    _yes(model["card"].get("promotable", True)),
                    model["card"]["release"]["kind"],
                    len(model["card"]["banks"]),
                    model["card"]["title"],
                )
                for model in found
            ],
            "No job has made a model yet.",
        ),
    )


def show_model(
    version: Annotated[int, typer.Argument(min=1, help="The model's version.")],
    coordinator: place.CoordinatorFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show a model's card: made of whose data, how, how good, how private; the weights stay at the banks.

    \b
    Examples:
      concordat model show 1 --format json
    """
    found = place.ask_coordinator(coordinator, "GET", f"/models/{version}")
    show(format, found, lambda: describe(found))


def describe(model: dict[str, Any]) -> str:
    """Return a model for people."""
    card = model["card"]
    figures, release = card["figures"], card["release"]
    slope = figures["calibration"]["slope"]
    privacy = (
        "none" if release["kind"] == "none" else f"epsilon {release['epsilon']}, delta {release['delta']}"
    )
    lines = [
        ("model", f"version {model['version']} ({model['state']}), {card['name']}"),
        ("title", card["title"]),
        ("purpose", card["purpose"]),
        ("made", moment(model["created_at"])),
        ("digest", model["digest"]),
        ("job", model["job"]),
        ("banks", ", ".join(card["banks"])),
        ("dropped", ", ".join(card["dropped"]) or "none"),
        ("privacy", privacy),
        ("seed", "secret" if card["seed"] is None else f"stated, {card['seed']}"),
        ("AUC", f"{figures['auc']:.4f}"),
        ("KS", f"{figures['ks']:.4f}"),
        ("Brier", f"{figures['brier']:.4f}"),
        ("calibration slope", "-" if slope is None else f"{slope:.3f}"),
        ("hold-out", f"{figures['holdout_rows']:,} rows, {figures['holdout_defaults']:,} defaults"),
        *_partners(card),
        ("promotable", _yes(card.get("promotable", True))),
        ("signed by", f"{len(model['statements'])} banks"),
    ]
    return facts(lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _partners(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a card states of data partners; nothing for a job without."""
    vertical, figures = card.get("vertical"), card["figures"]
    if vertical is None:
        return []
    coverage = figures.get("coverage", {})
    stand = ", ".join(
        f"{name} (covers {coverage[name]:.0%})" for name in card["partners"] if name in coverage
    )
    lost = sorted(set(vertical["partners"]) - set(card["partners"]))
    lines = [("partners", stand or "none"), ("without", ", ".join(lost) or "none")]
    titles = {"h": "bank score", "h_plus": "same rounds, no partner", "s": "S", "s_head": "S with heads"}
    lines += [
        (f"AUC, {titles.get(name, name)}", f"{found['auc']:.4f}")
        for name, found in figures.get("models", {}).items()
    ]
    compared = card.get("comparison")
    if compared is None:
        return [*lines, ("gain over no partner", "not measured: no partner took part")]
    interval = f"95 % interval {compared['lower']:+.4f} to {compared['upper']:+.4f}"
    return [*lines, ("gain over no partner", f"{compared['difference']:+.4f} AUC, {interval}")]
