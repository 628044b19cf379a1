"""The result of a job, as plain JSON: what the demo prints with ``--format json`` and what a report is made of.

Shares, rates and probabilities lie in [0, 1]; times are seconds, sizes bytes; a curve is a list of
``[false positive rate, true positive rate]``. Unknown keys pass, so that a result can say more than a report shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, NotRequired, cast

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from protocol.errors import DataError

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Point = Annotated[list[Share], Field(min_length=2, max_length=2)]
Curve = Annotated[list[Point], Field(min_length=2)]


class Party(TypedDict):
    """A party and its table."""

    name: str
    role: str
    rows: Count
    fields: Count


class Data(TypedDict):
    """What the job's tables were; only a demo can see all of them."""

    name: str
    enterprises: Count
    parties: list[Party]
    banks_defaults: dict[str, Count]


class Comparison(TypedDict):
    """One figure of the shared score between its two yardsticks.

    ``bank_only``: boosted trees on one bank's rows, by bank; ``federated``: the shared score; ``pooled``: boosted
    trees on all rows, which nobody may compute in real life. All on the same held-out rows.
    """

    bank_only: Annotated[dict[str, Share], Field(min_length=1)]
    bank_only_mean: Share
    federated: Share
    pooled: Share


class Cell(TypedDict):
    """A cell of the calibration table."""

    lower: Share
    upper: Share
    rows: Annotated[int, Field(ge=1)]
    mean_pd: Share
    observed: Share


class Calibration(TypedDict):
    """Predicted against observed default rates; slope and intercept are None where not determined."""

    slope: Number | None
    intercept: Number | None
    cells: Annotated[list[Cell], Field(min_length=1)]


class Histogram(TypedDict):
    """Held-out rows by cell of PD: n + 1 edges, n counts of each kind."""

    edges: Annotated[list[Number], Field(min_length=2)]
    good: Annotated[list[Count], Field(min_length=1)]
    bad: Annotated[list[Count], Field(min_length=1)]


class Figures(TypedDict):
    """The model's figures, as the banks signed them."""

    auc: Share
    ks: Share
    brier: Share
    holdout_rows: Count
    holdout_defaults: Count
    roc: Curve
    calibration: Calibration
    histogram: Histogram
    training_rows: Count
    base_rate: Share


class Curves(TypedDict):
    """ROC curves of the yardsticks."""

    bank_only: dict[str, Curve]
    pooled: Curve


class Times(TypedDict):
    """Seconds of the parts of a run."""

    start_up: Seconds
    job: Seconds
    baselines: Seconds
    total: Seconds


class Step(TypedDict):
    """A step of the job; steps overlap where one holds another."""

    step: str
    seconds: Seconds
    bytes: Count
    parties: Count


# ``from`` is a keyword, hence the other way of writing it.
Link = TypedDict(
    "Link",
    {"from": str, "to": str, "via": str, "messages": Count, "bytes": Count},
)
"""Messages and bytes of one direction between two parties."""


class Release(TypedDict):
    """What left a node, added up over records of its egress log with the same peer, purpose and class."""

    peer: str
    purpose: str
    field_class: str
    records: Count
    bytes: Count


class Model(TypedDict):
    """The registered model. State ``simulated`` with version 0 stands for a job in one process."""

    version: Count
    digest: str
    job: str
    state: str


class Privacy(TypedDict):
    """How the model was released: ``none`` or ``dp``."""

    kind: str
    epsilon: NotRequired[Number | None]
    delta: NotRequired[Number | None]


class Result(TypedDict):
    """Everything that a report says."""

    name: str
    consortium: str
    data: Data
    auc: Comparison
    ks: Comparison
    figures: Figures
    curves: Curves
    seconds: Times
    steps: list[Step]
    links: list[Link]
    egress: dict[str, list[Release]]
    verified: dict[str, bool]
    model: Model
    card: dict[str, Any]
    release: Privacy
    privacy: NotRequired[list[dict[str, Any]]]


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def schema() -> dict[str, Any]:
    """Return the result's JSON Schema."""
    made = _adapter().json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["$id"] = "urn:concordat:schema:result"
    return made


def check(result: Mapping[str, Any]) -> Result:
    """Return a result whose shape is known to be right.

    Raises:
        DataError: ``REPORT_RESULT`` with the first place that is wrong, ``REPORT_HISTOGRAM`` if counts and edges
            don't fit together or a kind of outcome is missing.
    """
    try:
        _adapter().validate_python(dict(result))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            "REPORT_RESULT",
            f"A report can't be made of this result: {place}: {first['msg']}.",
            "Give the object that the demo prints with --format json.",
        ) from None
    found = cast("Result", result)
    counted = found["figures"]["histogram"]
    cells = len(counted["good"])
    edges = counted["edges"]
    if len(counted["bad"]) != cells or len(edges) != cells + 1 or edges != sorted(edges):
        raise DataError("REPORT_HISTOGRAM", "The score histogram's counts and edges don't fit together.")
    if sum(counted["good"]) == 0 or sum(counted["bad"]) == 0:
        raise DataError("REPORT_HISTOGRAM", "The score histogram has one kind of outcome only.")
    return found
