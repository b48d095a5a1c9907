"""Make ready what answers a search: a child, or this process, with model and rows loaded."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from autotune import backends
from autotune.errors import ModelNotPortable
from autotune.nesting import Nested
from autotune.probe import IsolatedProbe
from autotune.records import Loaded
from autotune.rehearsals import RehearsingProbe
from autotune.subjects import Parcel, Subject
from autotune.worker import DrawnRows, Load, SavedRows
from autotune.workload import Synthetic, Workload

_log = logging.getLogger("autotune")

Isolation = Literal["process", "spawn", "none"]
Precision = Literal["bfloat16"]

MAX_SAMPLE_BYTES = 2**30  # more rows than that only make the copy for the child slow


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller of `tune` wants made ready.

    Attributes:
        engines: Engines to try; None for all.
        precision: Lower precision that they may compute in; "" for none.
        seed: Seed for drawn rows.
        exports: Where exported models are put.
    """

    engines: Sequence[str] | None
    precision: str
    seed: int
    exports: Path


def rows_of(sample: Nested | Synthetic) -> Workload | Synthetic:
    """Return a sample as rows for the child, no more than it is worth copying."""
    if isinstance(sample, Synthetic):
        return sample
    return Workload(sample).at_most(MAX_SAMPLE_BYTES)


def make_ready(
    stack: contextlib.ExitStack,
    subject: Subject,
    rows: Workload | Synthetic,
    isolation: Isolation,
    wish: Wish,
) -> tuple[RehearsingProbe, Loaded]:
    """Make the probe, in a child or in this process, with model and rows loaded.

    Args:
        stack: Ends the child, and removes what it was given.
        subject: The model.
        rows: Rows that stand for production input, or how to draw them.
        isolation: "process", "spawn" or "none"; see `tune`.
        wish: What else the caller wants.
    """
    warning = why = backends.holds_gpu()
    if why:
        warning = (
            f"Measuring in this process, where running out of memory ends the program: {why}, so a "
            "child would find none. To have it measured in a process of its own, tune before the "
            "model is used."
        )
        _log.warning("%s", warning)
    if isolation != "none" and not why:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autotune-")))
        try:
            parcel = subject.pack(folder, rows)
            request = request_for(parcel, subject.name, folder, wish)
            scratch = (str(folder), str(wish.exports), *parcel.scratch)
            fork = isolation == "process"
            child = stack.enter_context(IsolatedProbe(request, fork=fork, scratch=scratch))
            return child, child.load()
        except ModelNotPortable as error:
            warning = (
                f"Measuring in this process, where running out of memory ends the program: {error} "
                "To have it measured in a process of its own, give a .keras file or "
                "'module:function', with the model's own classes in a module."
            )
            _log.warning("%s", warning)
    from autotune.bench import set_up

    probe, loaded = set_up(
        subject.open(),
        rows,
        wish.engines,
        subject.name,
        wish.seed,
        exports=wish.exports,
        precision=wish.precision,
    )
    if warning:
        loaded = msgspec.structs.replace(loaded, warnings=(*loaded.warnings, warning))
    return probe, loaded


def request_for(parcel: Parcel, name: str, folder: Path, wish: Wish) -> Load:
    """Write the rows that the child needs to `folder`, and say where everything lies."""
    sample: SavedRows | DrawnRows
    if isinstance(parcel.rows, Synthetic):
        sample = DrawnRows(parcel.rows.rows, parcel.rows.shapes)
    else:
        (folder / "rows").mkdir()
        parcel.rows.save(folder / "rows")
        sample = SavedRows(str(folder / "rows"))
    return Load(
        id=0,
        model=parcel.model,
        name=name,
        sample=sample,
        engines=tuple(wish.engines) if wish.engines else None,
        python_path=tuple(str(Path(path).absolute()) for path in (*sys.path, "")),
        expected=parcel.expected,
        save_to=parcel.save_to,
        seed=wish.seed,
        exports=str(wish.exports),
        precision=wish.precision,
    )
