"""A model and its sample on their way to a machine that is to try them: files as bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from autotune.models import ModelFactory, source_of
from autotune.nesting import Nested
from autotune.on_ray.packing import Contents, put_files
from autotune.preparation import Wish, request_for
from autotune.subjects import subject_of
from autotune.worker import FileSource, Load, SavedRows
from autotune.workload import Synthetic, Workload

MODEL, ROWS, EXPECTED, EXPORTS, SAVED = "model.keras", "rows", "expected", "exports", "saved.keras"
MAX_SAMPLE_BYTES = 2**28  # more rows than that only make the way long


@dataclass(frozen=True, slots=True)
class Shipment:
    """What a child anywhere needs to try candidates.

    Attributes:
        request: What the child is to load, with the names of files in place of their paths.
        files: Model and rows, by these names.
    """

    request: Load
    files: Contents

    def unload(self, folder: Path) -> Load:
        """Write the files into a folder, and return what the child is to load from there."""
        put_files(self.files, folder)
        (folder / EXPORTS).mkdir()
        request, model, sample = self.request, self.request.model, self.request.sample
        if isinstance(model, FileSource):
            model = msgspec.structs.replace(model, path=str(folder / MODEL))
        if isinstance(sample, SavedRows):
            sample = SavedRows(str(folder / ROWS))
        return msgspec.structs.replace(
            request,
            model=model,
            sample=sample,
            expected=str(folder / EXPECTED) if request.expected else "",
            save_to=str(folder / SAVED) if request.save_to else "",
            exports=str(folder / EXPORTS),
        )


def ship(
    model: Any,
    sample: Nested | Synthetic,
    *,
    engines: Sequence[str] | None = None,
    precision: str | None = None,
    seed: int = 0,
    made_here: bool = False,
) -> Shipment:
    """Make a model and its sample ready to be sent.

    Args:
        model: As `tune` takes it.
        sample: As `tune` takes it.
        engines: Engines to make ready; None for all that can run the model there.
        precision: Lower precision that they may compute in.
        seed: Seed for drawn rows.
        made_here: Whether a model that a function makes is made here, so that all machines have
            the same; else each makes its own.

    Raises:
        InvalidModel: The model cannot be opened, cut into batches, or sent.
        InvalidSample: The rows do not fit the model.
    """
    subject = subject_of(model)
    if made_here and _is_function(model):
        subject = subject_of(subject.open())
    rows = sample if isinstance(sample, Synthetic) else Workload(sample)
    if isinstance(rows, Workload):
        rows = rows.at_most(MAX_SAMPLE_BYTES)
    with tempfile.TemporaryDirectory(prefix="autotune-") as place:
        folder = Path(place)
        parcel = subject.pack(folder, rows)
        wish = Wish(engines, precision or "", seed, folder / EXPORTS)
        request = request_for(parcel, subject.name, folder, wish)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for name in (ROWS, EXPECTED)
            for path in (folder / name).glob("*")
        }
        if isinstance(request.model, FileSource):
            files[MODEL] = Path(request.model.path).read_bytes()
    return Shipment(request, files)


def _is_function(model: Any) -> bool:
    is_source = isinstance(model, (str, Path, ModelFactory))
    return is_source and isinstance(source_of(model), ModelFactory)
