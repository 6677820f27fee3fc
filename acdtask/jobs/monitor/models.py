"""The models that give the probability of a candidate, as fitted by `make model`."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from acdtask.change.judgement.model import CERTAIN, Model

__all__ = ["FILE", "FittedModel", "FittedModels", "Provenance", "load_models", "models_id"]

FILE = "models.json"
"""Name of the file beside this module."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FittedModel(_Part):
    """A model, and the probabilities from which candidates are kept on average.

    Attributes:
        name: its name.
        model: the model.
        thresholds: (false patches per 1000 km2 and image, probability): in the scenes that the model was fitted on, as
            many were expected if all candidates of at least this probability were kept.
    """

    name: str
    model: Model
    thresholds: tuple[tuple[float, float], ...]

    def threshold(self, false_per_1000km2: float) -> int:
        """The probability from which candidates are kept in small areas, in units of 1 / CERTAIN."""
        known = [probability for accepted, probability in self.thresholds if accepted <= false_per_1000km2]
        return round(min(known) * CERTAIN) if known else CERTAIN


class Provenance(_Part):
    """How the models were fitted.

    Attributes:
        command: the command that fits them again.
        scenes: seeds of the simulated scenes, by their kind (`benchmarks.accuracy.scenes`).
        size, events, monitored_pairs: size of a scene in pixels, number of its events, and of its monitored pairs.
        algorithms: `algorithm` of the jobs whose results were used.
        method: the method that found the candidates.
        candidates, changes: number of candidates, and of those that are changes.
    """

    command: str
    scenes: dict[str, tuple[int, ...]]
    size: int
    events: int
    monitored_pairs: int
    algorithms: dict[str, int]
    method: dict[str, object]
    candidates: int
    changes: int


class FittedModels(_Part):
    """The content of the file."""

    models: tuple[FittedModel, ...]
    provenance: Provenance

    def named(self, name: str) -> FittedModel:
        """The model of that name. KeyError."""
        return {model.name: model for model in self.models}[name]


@cache
def load_models() -> FittedModels:
    """The models that this version of acd uses."""
    return FittedModels.model_validate_json(_body())


@cache
def models_id() -> str:
    """The first 12 digits of the digest of the models. Methods that use them record it."""
    coefficients = load_models().model_dump_json(include={"models"})
    return hashlib.sha256(coefficients.encode()).hexdigest()[:12]


def _body() -> bytes:
    return files(__package__).joinpath(FILE).read_bytes()
