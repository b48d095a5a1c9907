"""Hand a tuned model over to servers: the files that people write by hand, from what was measured.

One file a target, each with a function that writes a folder and returns the numbers it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import msgspec

from autotune import artifact
from autotune.errors import InvalidInput
from autotune.files import check_writable, files_in, replacing_folder, sha256_of
from autotune.handover import bentoml, curve, fastapi, rayserve, spark, tfserving, triton
from autotune.handover.order import Order
from autotune.serving import ServingLimits

MANIFEST = "handover.json"
FORMAT_VERSION = 1

Writer = Callable[[Order, Path], ServingLimits]


"""Writes a hand-over to a new folder, and returns the numbers that it wrote."""


_WRITERS: dict[str, Writer] = {
    "tfserving": tfserving.write,
    "triton": triton.write,
    "bentoml": bentoml.write,
    "rayserve": rayserve.write,
    "spark": spark.write,
    "fastapi": fastapi.write,
    "csv": curve.write,
}
TARGETS = tuple(_WRITERS)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a hand-over holds: SHA-256 of each file by name."""

    format_version: int
    target: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What was written.

    Attributes:
        target: For which server.
        folder: Where.
        files: The files, by their names in the folder.
        limits: The numbers in them.
    """

    target: str
    folder: str
    files: tuple[str, ...]
    limits: ServingLimits


def hand_over(
    tuned: str | PathLike[str],
    target: str,
    out: str | PathLike[str],
    *,
    force: bool = False,
    imports: Sequence[str] = (),
    unsafe: bool = False,
) -> HandedOver:
    """Write what a server needs to serve a tuned model the way that was measured to be best.

    The folder is written whole or not at all. The numbers are those of the folder's latest tuning.

    Args:
        tuned: A tuned directory.
        target: One of `TARGETS`.
        out: The folder to write. What an earlier hand-over wrote there is replaced.
        force: Replace it even where its files were changed since.
        imports: Modules that define the model's own classes.
        unsafe: Allow Python code in the model (Lambda layers). Only for folders you trust.

    Raises:
        InvalidInput: No such target, the target cannot take this model, or `out` holds something
            that no hand-over wrote.
        InvalidRecord: The tuned directory is damaged, changed, or of a newer format.
        EnvironmentFault: `out` cannot be written.
    """
    if target not in _WRITERS:
        raise InvalidInput(f"There is no target {target!r}; there are: {', '.join(TARGETS)}.")
    folder = Path(out)
    check_target(folder, force=force)
    if folder.resolve().is_relative_to(Path(tuned).resolve()):
        raise InvalidInput(f"{folder} lies in the tuned folder. Give a folder outside it.")
    order = Order(artifact.read(tuned), tuple(imports), unsafe)
    with replacing_folder(folder, MANIFEST) as new:
        limits = _WRITERS[target](order, new)
        files = {path.relative_to(new).as_posix(): sha256_of(path) for path in files_in(new)}
        manifest = Manifest(format_version=FORMAT_VERSION, target=target, files=files)
        (new / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return HandedOver(target, str(folder), tuple(files), limits)


def check_target(folder: Path, *, force: bool = False) -> None:
    """Refuse a place where no hand-over can be written, before any work is done.

    Raises:
        InvalidInput: It is a file, or a folder that cannot be written, holds something else, or
            holds a hand-over that was changed since, unless `force`.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InvalidInput(f"{folder} exists and is not a folder. Give the name of a new folder.")
    if folder.is_dir():
        _check_found(folder, force)
    check_writable(folder)


def _check_found(folder: Path, force: bool) -> None:
    """Refuse a folder with files that no hand-over wrote, or that were changed since."""
    written = _written(folder)
    found = {path.relative_to(folder).as_posix(): path for path in files_in(folder)}
    foreign = [n for n in found if n not in written and "__pycache__" not in Path(n).parts]
    if foreign:
        raise InvalidInput(
            f"{folder} holds {foreign[0]!r}, which autotune did not write. Give the name of a "
            "new folder."
        )
    changed = [
        name
        for name, path in found.items()
        if written.get(name) and (path.is_symlink() or sha256_of(path) != written[name])
    ]
    if changed and not force:
        raise InvalidInput(
            f"{folder} was changed since it was written: {changed[0]!r}. --force replaces it."
        )


def _written(folder: Path) -> dict[str, str]:
    """What an earlier hand-over wrote, itself included; nothing where there was none."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return {**manifest.files, MANIFEST: ""}
