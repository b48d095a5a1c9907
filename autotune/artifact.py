"""The tuned directory: records and model, written whole or not at all, checked when read.

`record.json` is the latest tuning. Tunings of the same model on other devices stand beside it, so
that a folder may be copied around and tuned on each.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from autotune.engines import FORMATS
from autotune.errors import InvalidInput, InvalidRecord
from autotune.files import check_writable, files_in, replacing_folder, sha256_of
from autotune.matching import best_for, same_device, same_model
from autotune.records import FORMAT_VERSION, Machine, TuningRecord
from autotune.requirements import requirements_of

MANIFEST, RECORD, MODEL = "manifest.json", "record.json", "model.keras"
REQUIREMENTS = "requirements.txt"
EXPORTED = re.compile(r"(onnx|openvino)/\w[\w.-]*")
OTHER_RECORD = re.compile(r"record-[0-9a-f]{12}\.json")

_log = logging.getLogger("autotune")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a tuned directory holds: SHA-256 of each file by name."""

    format_version: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was read from a tuned directory.

    Attributes:
        record: The latest tuning.
        model: The model's file.
        others: Tunings of the same model on other devices.
        formats: Formats that the model was exported to, each in a folder of that name.
    """

    record: TuningRecord
    model: Path
    others: tuple[TuningRecord, ...] = ()
    formats: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The tuned directory."""
        return self.model.parent

    def exported_for(self, record: TuningRecord) -> Path | None:
        """The folder with the model that a record's engine runs, if it runs an exported one."""
        form = FORMATS.get(record.recommendation.engine) if record.recommendation else None
        return self.folder / form if form in self.formats else None

    @property
    def records(self) -> tuple[TuningRecord, ...]:
        """All tunings, the latest first."""
        return self.record, *self.others

    def record_for(self, machine: Machine | None, backend: str) -> TuningRecord:
        """The tuning that suits a machine and a backend best; see `matching.best_for`."""
        return best_for(self.records, machine, backend)


def check_target(folder: Path) -> None:
    """Refuse a place where no tuned directory can be written, before any work is done.

    Raises:
        InvalidInput: It is a file, a folder that holds something else, or cannot be written.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InvalidInput(f"{folder} exists and is not a folder. Give the name of a new folder.")
    if folder.is_dir() and not is_tuned(folder) and any(folder.iterdir()):
        raise InvalidInput(
            f"{folder} exists and holds something else than a tuned predictor. "
            "Give the name of a new folder."
        )
    check_writable(folder)


def is_tuned(folder: Path) -> bool:
    """Whether a folder is a tuned directory, and so may be replaced by another."""
    try:
        data = (folder / MANIFEST).read_bytes()
        listed = set(msgspec.json.decode(data, type=Manifest).files)
    except (OSError, ValueError, msgspec.MsgspecError):
        return False
    known = {RECORD, MODEL, REQUIREMENTS, *_other_records(listed)}
    known |= set(filter(EXPORTED.fullmatch, listed))
    found = {path.relative_to(folder).as_posix() for path in files_in(folder)}
    return {RECORD, MODEL} <= listed <= known and found <= {MANIFEST, *listed}


def _other_records(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if OTHER_RECORD.fullmatch(name))


def write(
    folder: Path,
    record: TuningRecord,
    put_model: Callable[[Path], object],
    exports: Path | None = None,
) -> None:
    """Write a tuned directory; an older one in its place is replaced when the new one is whole.

    What the older one holds of the same model, tuned on other devices, is kept.

    Args:
        folder: Where.
        record: The record.
        put_model: Called with the path at which it writes the model.
        exports: A folder with what was exported of the model, each format in a folder of its own.

    Raises:
        InvalidInput: `folder` holds something else.
        EnvironmentFault: It cannot be written.
    """
    check_target(folder)
    with replacing_folder(folder, MANIFEST) as new:
        put_model(new / MODEL)
        (new / RECORD).write_bytes(record.to_json())
        (new / REQUIREMENTS).write_text(requirements_of(record))
        _put_export(new, record, exports)
        for other in _kept(folder, record, new / MODEL):
            _put_beside(new, other.to_json())
            _put_export(new, other, folder)
        files = {path.relative_to(new).as_posix(): sha256_of(path) for path in files_in(new)}
        manifest = Manifest(format_version=FORMAT_VERSION, files=files)
        (new / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def copy(tuned: Tuned, folder: Path) -> None:
    """Copy a tuned directory that was read, to a folder that does not exist yet.

    Raises:
        InvalidRecord: It was changed meanwhile.
    """
    shutil.copytree(tuned.folder, folder)
    read(folder)


def _kept(folder: Path, record: TuningRecord, model: Path) -> list[TuningRecord]:
    """What a folder holds of the same model, tuned on other devices than a new record."""
    if not (folder / MANIFEST).exists():
        return []
    try:
        old = read(folder)
    except InvalidRecord as error:
        _log.warning("Replaced, with all that was tuned on other devices: %s", error)
        return []
    # A hash over layers and weights may change with Keras, which writes them down; bytes do not.
    same_file = sha256_of(old.model) == sha256_of(model)
    return [
        other
        for other in old.records
        if (same_file or same_model(other, record)) and not same_device(other, record)
    ]


def _put_export(new: Path, record: TuningRecord, exports: Path | None) -> None:
    """Copy the exported model that the recommended engine runs."""
    form = FORMATS.get(record.recommendation.engine) if record.recommendation else None
    if form and exports and (exports / form).is_dir() and not (new / form).exists():
        shutil.copytree(exports / form, new / form)


def _put_beside(folder: Path, data: bytes) -> None:
    (folder / f"record-{hashlib.sha256(data).hexdigest()[:12]}.json").write_bytes(data)


def read(folder: str | os.PathLike[str]) -> Tuned:
    """Read a tuned directory and check that its files are the ones that were written.

    Raises:
        InvalidRecord: It is no tuned directory, it is damaged or changed, or its format is
            newer than this version of autotune reads.
    """
    path = Path(folder)
    if not path.is_dir():
        if path.exists():
            raise InvalidRecord(
                f"{path} is not a tuned folder, but a file. Give what `autotune tune --out` wrote."
            )
        raise InvalidRecord(f"Tuned folder not found: {path}.")
    manifest = _read_manifest(path)
    others = _other_records(manifest.files)
    exported = sorted(filter(EXPORTED.fullmatch, manifest.files))
    _check_unchanged(path, manifest, (MODEL, RECORD, *others, *exported))
    first, *rest = (TuningRecord.load(path / name) for name in (RECORD, *others))
    if any(record.recommendation is None for record in (first, *rest)):
        raise InvalidRecord(
            f"{path} holds a record without a recommendation. Tune the model again."
        )
    formats = dict.fromkeys(name.partition("/")[0] for name in exported)
    return Tuned(first, path / MODEL, tuple(rest), tuple(formats))


def _check_unchanged(path: Path, manifest: Manifest, names: Sequence[str]) -> None:
    for name in names:
        if not (path / name).is_file():
            raise InvalidRecord(f"{path} is damaged: {name} is missing. Tune the model again.")
    # On threads: one after the other they took 0.14 s of the 1.2 s of ResNet-50's cold start.
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(sha256_of, [path / name for name in names]))
    for name, found in zip(names, hashes, strict=True):
        if manifest.files.get(name) != found:
            raise InvalidRecord(
                f"{path / name} was changed after tuning: its SHA-256 is not the one in "
                f"{MANIFEST}. Restore it, or tune the changed model again."
            )


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise InvalidRecord(f"{path} is not a tuned folder: it has no {MANIFEST}.") from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord(f"{path / MANIFEST} cannot be read: {error}.") from error
    if manifest.format_version > FORMAT_VERSION:
        raise InvalidRecord(
            f"{path} has format version {manifest.format_version}; this autotune reads up to "
            f"{FORMAT_VERSION}. Upgrade it: pip install --upgrade keras-autotune."
        )
    return manifest
