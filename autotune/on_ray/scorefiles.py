"""Score files: rows from a file or a folder of them, with predictions, into a folder of Parquet."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet
import ray
import ray.data

from autotune import artifact
from autotune.errors import EnvironmentFault, InvalidInput
from autotune.files import cannot_write
from autotune.on_ray.reading import as_dataset, read
from autotune.on_ray.scoring import score
from autotune.probe import error_of
from autotune.worker import Reply

_OURS = re.compile(r"^autotune\.errors\.(\w+): (.+)$", re.MULTILINE)


def score_files(
    tuned: Path,
    rows: Path,
    out: Path,
    address: str | None = None,
    *,
    keep: Sequence[str] | None = None,
    imports: Sequence[str] = (),
    unsafe: bool = False,
    progress: bool = True,
) -> int:
    """Score rows from files on Ray, and write them with their predictions as Parquet.

    The files in `out`, in the order of their names, have the rows in the order of the input. The
    folder is there when all of it is: before, it has a hidden name beside.

    Args:
        tuned: A tuned folder.
        rows: A `.parquet` file or a folder of them, which all machines read; or `.csv`, `.npy` or
            `.npz`, which this one reads.
        out: A folder that is not there yet, on storage that all machines share.
        address: Of a Ray cluster, "auto" for one that runs on this machine; None to start one here.
        keep: Columns that are written beside the predictions, and are not given to the model unless
            one of its inputs has that name; None for all columns, which are given to it as well.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model. Only for folders you trust.
        progress: Show Ray's own progress.

    Returns:
        How many rows were written.

    Raises:
        InvalidInput: An argument or a file cannot be used.
        EnvironmentFault: The cluster cannot be reached, or files cannot be written.
    """
    _check_out(out)
    model = artifact.read(tuned).records[0].model
    names = [each.name for each in model.inputs] if model else []
    source = read(rows, keep or (), names)
    new = out.absolute().with_name(f".{out.name[:80]}.{secrets.token_hex(6)}")
    try:
        with _cluster(address):
            scored = score(as_dataset(source), tuned, keep=keep, imports=imports, unsafe=unsafe)
            scored.context.execution_options.preserve_order = True
            scored.context.enable_progress_bars &= progress
            with _as_our_errors():
                scored.write_parquet(str(new))
        count = _count(new)
        new.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return count


def _check_out(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise InvalidInput(f"{out} exists. Give the name of a new folder for the scored rows.")
    if not out.absolute().parent.is_dir():
        raise InvalidInput(f"The folder of {out} does not exist. Make it, or give another.")


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one; one that was there already is left as it is."""
    if ray.is_initialized():
        yield
        return
    level = logging.getLogger("ray").getEffectiveLevel()  # which `init` would set anew
    try:
        if address is None:
            ray.init("local", include_dashboard=False, logging_level=level)
        else:
            ray.init(address, logging_level=level)
    except (ConnectionError, ValueError) as error:
        raise EnvironmentFault(f"No Ray cluster at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _as_our_errors() -> Iterator[None]:
    """What a worker's code of ours refused is told as if it had been refused here."""
    try:
        yield
    except ray.exceptions.RayError as error:
        # Of the error that Ray Data wraps, only the text comes back.
        told = _OURS.search(str(error))
        if told is None:
            raise
        raise error_of(Reply(id=0, error_type=told[1], error=told[2])) from error


def _count(folder: Path) -> int:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise EnvironmentFault(
            f"Nothing was written to {folder.parent} that this machine sees: give a folder on "
            "storage that all machines of the cluster share."
        )
    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
