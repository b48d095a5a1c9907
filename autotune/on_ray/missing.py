"""Devices that a tuned folder does not know: one process tunes there, those like it wait for it."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from autotune import artifact, engines, fingerprint
from autotune.errors import AutotuneError
from autotune.models import ModelFile
from autotune.nesting import Nested
from autotune.on_ray.kinds import Kind, kind_of
from autotune.on_ray.packing import Contents, Parcel, contents_of
from autotune.predictor import TunedPredictor
from autotune.tuning import tune

_log = logging.getLogger("autotune")

POLL_S = 0.5
# What a tuning may take beside its budget, before another process of the kind has a go: who claimed
# it may have been lost with its machine.
GRACE_S = 600.0


@dataclass(slots=True)
class _Claim:
    kind: Kind
    by: str
    at_s: float
    found: Contents | None = None


class Tunings:
    """What was tuned in the course of a run; one actor of the cluster holds it.

    Args:
        budget_s: Seconds for probing that each tuning has.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._claims: list[_Claim] = []

    def ask(self, kind: Kind, who: str) -> Contents | bool:
        """Return a folder tuned on such a device; True if `who` shall tune; False to ask again.

        An actor that was killed while it tuned comes back under the same name, and shall tune.
        """
        now_s = time.monotonic()
        claim = next((each for each in self._claims if each.kind.is_like(kind)), None)
        if claim is None:
            self._claims.append(_Claim(kind, who, now_s))
            return True
        if claim.found is not None:
            return claim.found
        if who == claim.by or now_s - claim.at_s > self.budget_s + GRACE_S:
            claim.by, claim.at_s = who, now_s
            return True
        return False

    def tell(self, kind: Kind, contents: Contents) -> None:
        """Take in a folder that was tuned on such a device."""
        for claim in self._claims:
            if claim.kind.is_like(kind):
                claim.found = contents


@dataclass(frozen=True, slots=True)
class Missing:
    """How a device that the folder does not know is tuned for.

    Attributes:
        budget_s: Seconds for probing.
        tunings: Handle of the actor with `Tunings`.
    """

    budget_s: float
    tunings: Any

    def open(self, parcel: Parcel, rows: Nested, owner: object) -> TunedPredictor:
        """Open the predictor for this device; where none was tuned on such a one, have it tuned.

        Args:
            parcel: The tuned folder.
            rows: Stand for production input, if it is tuned here.
            owner: What was unpacked stays at least as long as this.
        """
        tuned = artifact.read(parcel.locate(owner))
        kind = _look(tuned)
        if kind is None or any(map(kind.has, tuned.records)):
            return parcel.open(owner)
        who = ray.get_runtime_context().get_actor_id() or ""
        while True:
            answer: Contents | bool = ray.get(self.tunings.ask.remote(kind, who))
            if answer is True:
                contents = _tune(parcel, tuned, rows, self.budget_s)
                ray.get(self.tunings.tell.remote(kind, contents))
            elif answer is False:
                time.sleep(POLL_S)
            else:
                return parcel.with_contents(answer).open(owner)


def _look(tuned: artifact.Tuned) -> Kind | None:
    """Look at this device as `load` does: without Keras, where no record needs it."""
    if all(tuned.exported_for(record) for record in tuned.records):
        backend = tuned.record.model.backend if tuned.record.model else ""
        return kind_of(fingerprint.look_around(backend=""), backend)
    return kind_of(fingerprint.look_around())


def _tune(parcel: Parcel, tuned: artifact.Tuned, rows: Nested, budget_s: float) -> Contents:
    """Tune here, and return the folder; where that fails, the one that came."""
    record, info = tuned.record, tuned.record.model
    jit_compile = info.jit_compile if info else None
    model = ModelFile(str(tuned.model), parcel.imports, parcel.unsafe, jit_compile)
    tried = {outcome.candidate.engine for outcome in record.outcomes}
    try:
        predictor = tune(
            model,
            rows,
            record.goal,
            engines=[name for name in engines.NAMES if name in tried],
            budget_s=budget_s,
            precision=record.precision or None,  # type: ignore[arg-type]  # tune checks it
        )
    except AutotuneError as error:
        _log.warning("Not tuned for this device, but run as on another: %s", error)
        return contents_of(tuned.folder)
    with tempfile.TemporaryDirectory(prefix="autotune-") as place:
        folder = Path(place) / "tuned"
        predictor.save(folder)
        return contents_of(folder)
