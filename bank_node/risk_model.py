"""A model as a bank keeps and uses it: H, and where partners took part H+, S, and the bank's own head.

Files of a model's folder:

- ``weights.f32``: H; ``weights.h_plus.f32`` and ``weights.s.f32``: the others' networks, little-endian float32;
- ``model.json``: the encoding, the recipe, the partners in the order of their bins, each model's line of recalibration,
  and the digest of each file of weights. Its own digest is the model's name, the same at every bank;
- ``head.json``: the bank's own head, if it has one; in no digest that leaves the bank;
- ``figures.json``: the hold-out's figures.

Scores. With bins S answers, averaged in log-odds with the head where the bank has one; without, since every partner is
down or none took part, H. A row that some partner doesn't know has a flag that S was trained with; of a row that none
knows S can say no more than H, and H says it better (measured: .738 against .729 on such rows), so that there S is H.
What answers goes through the line that the hold-out showed; a job without partners keeps H as it was trained.

Invariants:
    - What was written reads back to the same scores, and a file that was changed is refused.
    - Bins are of exactly the partners that S was trained with, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.encoding import Encoding
from bank_node.subscores import MISSING
from node.keystore import write_private
from protocol.canonical import digest, encode
from protocol.errors import ConfigurationError, DataError, ProtocolError
from protocol.job import DpRecipe, Recipe

if TYPE_CHECKING:
    from bank_node.head import Head

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bins = NDArray[np.int8]

H, H_PLUS, S, S_HEAD = "h", "h_plus", "s", "s_head"
MODELS = (H, H_PLUS, S, S_HEAD)
"""In the order in which they stand in openings."""


@dataclass(frozen=True)
class Line:
    """A line of log-odds: what a score says, brought to what the hold-out showed."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, log_odds: Float64) -> Float64:
        """Return recalibrated log-odds."""
        line: Float64 = self.slope * log_odds + self.intercept
        return line


@dataclass(frozen=True)
class Answer:
    """Scores of rows.

    Attributes:
        pd: probabilities of default, shape [n].
        model: which one answered.
    """

    pd: Float64
    model: str


@dataclass(frozen=True)
class RiskModel:
    """The networks of a job's models, and the bank's own head.

    Attributes:
        encoding: of the bank's columns.
        recipe: of the bank score, whose shape all networks have.
        h: the bank score, shape [m, p].
        h_plus: with the further rounds; None without stage S.
        s: the shared risk model; None where no partner's bins were there.
        partners: whose bins S takes, sorted.
        head: the bank's own.
        lines: of recalibration, by model; none is the identity.
    """

    encoding: Encoding
    recipe: Recipe | DpRecipe
    h: Float32
    h_plus: Float32 | None = None
    s: Float32 | None = None
    partners: tuple[str, ...] = ()
    head: Head | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)

    def log_odds(self, frame: pd.DataFrame, bins: Bins | None = None) -> dict[str, Float64]:
        """Return every model's log-odds as trained, by model in the order of ``MODELS``; shape [n] each.

        Args:
            frame: rows with the contract's columns.
            bins: of ``partners``, shape [n, partners]; without them only H and H+ are there.

        Raises:
            DataError: ``SCORE_BINS`` if the bins are of other rows or partners.
        """
        from bank_node.scoring import network_logits
        from bank_node.shared_model import beside

        found = {H: network_logits(self.encoding, self.h, frame, self.recipe).mean(axis=1)}
        if self.h_plus is not None:
            found[H_PLUS] = network_logits(self.encoding, self.h_plus, frame, self.recipe).mean(axis=1)
        if self.s is None or bins is None:
            return found
        if bins.shape != (len(frame), len(self.partners)):
            raise DataError("SCORE_BINS", "There is not one bin for every row and partner of the model.")
        inputs = beside(bins)
        s = network_logits(self.encoding, self.s, frame, self.recipe, inputs).mean(axis=1)
        unknown = (bins == MISSING).all(axis=1)
        found[S] = np.where(unknown, found[H], s)
        if self.head is not None:
            from bank_node.head import averaged

            both = averaged(s, self.head.log_odds(frame, found[H], bins))
            found[S_HEAD] = np.where(unknown, found[H], both)
        return found

    def score(self, frame: pd.DataFrame, bins: Bins | None = None) -> Answer:
        """Return the PDs of rows by the best model that can answer: S with the head, S, or without bins H.

        Args:
            frame: rows with the contract's columns.
            bins: of ``partners``, shape [n, partners], -1 where there is none; None if every partner is down.

        Raises:
            DataError: as ``log_odds``, or the table doesn't fit the encoding.
        """
        from bank_node.scoring import probability

        found = self.log_odds(frame, bins)
        model = next(name for name in (S_HEAD, S, H) if name in found)
        return Answer(probability(self.lines.get(model, Line())(found[model])), model)

    # -- on disk --------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Float32]:
        """Return the networks by file."""
        networks = {H: self.h, H_PLUS: self.h_plus, S: self.s}
        return {_file(name): value for name, value in networks.items() if value is not None}

    def description(self) -> dict[str, Any]:
        """Return the content of ``model.json``, which is the same at every bank."""
        files = self._weights()
        base = {
            "encoding": self.encoding.to_dict(),
            "recipe": self.recipe.body,
            "private": isinstance(self.recipe, DpRecipe),
            "networks": list(self.h.shape),
            "weights": _mark(self.h),
        }
        if self.h_plus is None:
            return {"version": 1, "kind": "bank score", **base}
        return {
            "version": 2,
            "kind": "risk model",
            **base,
            "files": {name: {"shape": list(w.shape), "sha256": _mark(w)} for name, w in files.items()},
            "partners": list(self.partners),
            "recalibration": {name: [line.slope, line.intercept] for name, line in self._shared_lines()},
        }

    def _shared_lines(self) -> list[tuple[str, Line]]:
        return [(name, self.lines[name]) for name in MODELS if name in self.lines]

    @property
    def name(self) -> str:
        """The model's digest."""
        return digest("model", self.description())

    def write(self, folder: Path, figures: dict[str, Any]) -> str:
        """Write the model's folder; returns the model's digest."""
        for name, weights in self._weights().items():
            write_private(folder / name, _bytes(weights))
        if self.head is not None:
            write_private(folder / "head.json", json.dumps(self.head.to_dict()).encode())
        write_private(folder / "model.json", encode(self.description()))
        write_private(folder / "figures.json", json.dumps(figures, indent=1).encode())
        return self.name

    @classmethod
    def read(cls, folder: Path) -> RiskModel:
        """Read what `write` wrote.

        Raises:
            ConfigurationError: ``MODEL_MISSING``, ``MODEL_MALFORMED``, or ``MODEL_CHANGED`` if a file of weights
                isn't the one that the description names.
        """
        try:
            said = json.loads((folder / "model.json").read_bytes())
            head = folder / "head.json"
            return cls._from(said, folder, json.loads(head.read_bytes()) if head.exists() else None)
        except FileNotFoundError as error:
            raise ConfigurationError("MODEL_MISSING", "The folder holds no whole model.") from error
        except (KeyError, TypeError, ValueError, ProtocolError) as error:
            raise ConfigurationError("MODEL_MALFORMED", "The model's description can't be read.") from error

    @classmethod
    def _from(cls, said: Mapping[str, Any], folder: Path, head: Mapping[str, Any] | None) -> RiskModel:
        recipe = (DpRecipe if said["private"] else Recipe).parse(said["recipe"])
        encoding = Encoding.from_dict(said["encoding"])
        if said["version"] == 1:
            return cls(encoding, recipe, _read(folder / _file(H), said["networks"], said["weights"]))
        if said["version"] != 2:
            raise ValueError("version")
        files = {
            name: _read(folder / name, entry["shape"], entry["sha256"])
            for name, entry in sorted(said["files"].items())
            if name in {_file(H), _file(H_PLUS), _file(S)}
        }
        lines = {name: Line(float(slope), float(at)) for name, (slope, at) in said["recalibration"].items()}
        own: Head | None = None
        if head is not None:
            from bank_node.head import Head

            own = Head.from_dict(head)
        return cls(
            encoding,
            recipe,
            files[_file(H)],
            files[_file(H_PLUS)],
            files.get(_file(S)),
            tuple(str(partner) for partner in said["partners"]),
            own,
            lines,
        )


def _file(name: str) -> str:
    return "weights.f32" if name == H else f"weights.{name}.f32"


def _bytes(weights: Float32) -> bytes:
    return np.ascontiguousarray(weights, dtype="<f4").tobytes()


def _mark(weights: Float32) -> str:
    return sha256(_bytes(weights)).hexdigest()


def _read(path: Path, shape: list[int], mark: str) -> Float32:
    content = path.read_bytes()
    if sha256(content).hexdigest() != mark:
        raise ConfigurationError("MODEL_CHANGED", "A file of weights is not the one that the model names.")
    return np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(shape)
