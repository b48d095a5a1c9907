"""Loading: from a tuned directory to a predictor, on this machine."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from autotune import artifact, fingerprint
from autotune.models import ModelFile
from autotune.predictor import TunedPredictor
from autotune.records import TuningRecord
from autotune.sources import ExportedSource, KerasSource
from autotune.workload import Spec

_log = logging.getLogger("autotune")


def load(
    path: str | PathLike[str],
    *,
    imports: Sequence[str] = (),
    unsafe: bool = False,
    strict: bool = False,
) -> TunedPredictor:
    """Open a tuned directory that `TunedPredictor.save` wrote.

    Where the folder holds tunings of several devices, the one for this device is taken. Where
    model, machine or packages are not as they were, one warning names what differs and how to
    tune here, and batches are held within the memory that is free. Neither Optuna nor anything of
    the search is imported; nor Keras, where the recommended engine runs an exported model.

    Args:
        path: The folder.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model (Lambda layers). Only for folders you trust.
        strict: Whether running out of memory is an error, rather than to be worked around.

    Raises:
        InvalidRecord: The folder is damaged, changed, or of a newer format.
        InvalidModel: The model cannot be opened.
    """
    tuned = artifact.read(path)
    record = _record_for_here(tuned)
    info = record.model
    file = ModelFile(
        str(tuned.model), tuple(imports), unsafe, jit_compile=info.jit_compile if info else None
    )
    exported = _exported(tuned, record, file)
    if exported is None:
        file.check()
    source = exported or KerasSource(file.open, tuned.folder, record.precision)
    copy_model = functools.partial(shutil.copyfile, tuned.model)
    predictor = TunedPredictor(record, source, copy_model, tuned.folder)
    predictor.strict = strict
    predictor.open()
    # Keras is not imported to look at a model that runs without it.
    model = None if exported else fingerprint.look_at(predictor.model)
    found = fingerprint.differences(record, source.look_around().machine, model)
    if found:
        held = predictor.recommendation.batch_size, predictor.hold_to_memory(tell=False)
        warning = fingerprint.warning(found, Path(path), held=held, imports=imports, unsafe=unsafe)
        _log.warning("%s", warning)
    return predictor


def _record_for_here(tuned: artifact.Tuned) -> TuningRecord:
    """Choose among the tunings of several devices; one alone needs no look at this machine."""
    if not tuned.others:
        return tuned.record
    if all(tuned.exported_for(record) for record in tuned.records):
        backend = tuned.record.model.backend if tuned.record.model else ""
        return tuned.record_for(fingerprint.look_around(backend="").machine, backend)
    here = fingerprint.look_around()
    return tuned.record_for(here.machine, here.backend)


def _exported(
    tuned: artifact.Tuned, record: TuningRecord, file: ModelFile
) -> ExportedSource | None:
    """What runs the recommended engine without Keras; None where it needs it."""
    folder, way = tuned.exported_for(record), record.recommendation
    if folder is None or way is None or record.model is None or not record.model.inputs:
        return None
    inputs = [Spec(each.name, each.shape, each.dtype) for each in record.model.inputs]
    source = ExportedSource(folder, inputs, file.open, record.precision)
    return None if source.why_not(way.candidate) else source
