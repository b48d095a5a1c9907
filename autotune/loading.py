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
    the search is imported.

    Args:
        path: The folder.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model (Lambda layers). Only for folders you trust.
        strict: Whether running out of memory is an error, rather than to be worked around.

    Raises:
        InvalidRecord: The folder is damaged, changed, or of a newer format.
        InvalidModel: The model cannot be opened.
    """
    tuned, here = artifact.read(path), fingerprint.look_around()
    record = tuned.record_for(here.machine, here.backend)
    info = record.model
    source = ModelFile(
        str(tuned.model), tuple(imports), unsafe, jit_compile=info.jit_compile if info else None
    )
    source.check()
    copy_model = functools.partial(shutil.copyfile, tuned.model)
    predictor = TunedPredictor(record, source.open, copy_model)
    predictor.strict = strict
    found = fingerprint.differences(record, here.machine, fingerprint.look_at(predictor.model))
    if found:
        held = predictor.recommendation.batch_size, predictor.hold_to_memory(tell=False)
        warning = fingerprint.warning(found, Path(path), held=held, imports=imports, unsafe=unsafe)
        _log.warning("%s", warning)
    return predictor
