"""Configuration text into typed settings, with errors that an operator can act on.

Text in, model out: reading the file is the caller's. A key that the model doesn't know is refused, and the
error names the nearest key that it does know.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.errors import ConfigurationError

Settings = TypeVar("Settings", bound=BaseModel)


class Section(BaseModel):
    """Base of every section of a configuration file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse(text: str, model: type[Settings], source: str) -> Settings:
    """Parse TOML into ``model``.

    Args:
        text: the TOML document.
        model: a pydantic model with ``extra="forbid"``.
        source: name of the file, for the error.

    Raises:
        ConfigurationError: the text is not TOML, or a key is unknown, missing or has a wrong value.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("CONFIG_NOT_TOML", f"{source}: not a TOML document: {error}") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [f"{source}: {_explain(problem, model)}" for problem in error.errors(include_input=False)]
        raise ConfigurationError(
            "CONFIG_INVALID",
            "\n".join(lines),
            "Correct the keys that are named above; every key is described in the handbook.",
        ) from None


def _explain(problem: Any, model: type[BaseModel]) -> str:
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] != "extra_forbidden":
        return f"{name}: {problem['msg']}"
    near = difflib.get_close_matches(path[-1], _keys_at(model, path[:-1]), n=1)
    return f"unknown key {name}" + (f"; did you mean {near[0]}?" if near else "")


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    here: Any = model
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel) and part in here.model_fields:
            here = here.model_fields[part].annotation
    if isinstance(here, type) and issubclass(here, BaseModel):
        return list(here.model_fields)
    return []
