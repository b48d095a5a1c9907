"""Reports as files: what may be written where, so that nothing of somebody else's is lost."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from autotune.artifact import is_tuned
from autotune.errors import InvalidInput
from autotune.files import cannot_write, write_bytes
from autotune.records import TuningRecord
from autotune.report import charts
from autotune.report.markdown import MARK, markdown

PAGE, MARKDOWN = (".html", ".htm"), (".md", ".markdown")
PAGE_MARK = b'<meta name="generator" content="keras-autotune report'
PNG_MARK = b"Software\0keras-autotune report"  # the keyword that PNG has for it
BEGINNING = 1_000  # bytes, within which a page says what it is
PNG_HEADER = 8 + 25  # bytes of a PNG's signature and of its first chunk


def write(
    record: TuningRecord, out: Path, plots: Path | None = None, *, force: bool = False
) -> list[Path]:
    """Write a record for people: as a page or Markdown, and its charts as pictures.

    Args:
        record: The record.
        out: A file that ends in `.html`, or in `.md` for Markdown.
        plots: A folder for a PNG and an SVG of each chart; None for no pictures.
        force: Whether to overwrite files that are no reports.

    Returns:
        The files that were written.

    Raises:
        InvalidInput: A place where it must not be written; nothing was.
        EnvironmentFault: The disk is full, or a permission is missing.
    """
    if out.suffix.lower() not in (*PAGE, *MARKDOWN):
        raise InvalidInput(f"A report is written as .html or .md, but got {out}.")
    _check_folder(out.parent, out)
    _check_file(out, force)
    if plots is not None:
        if plots.absolute() == out.absolute():
            raise InvalidInput(f"{out} cannot be both the report and the folder of its charts.")
        _check_folder(plots.parent, plots)
        for name in charts.TITLES:
            _check_file(plots / f"{name}.png", force)
            _check_file(plots / f"{name}.svg", force)
    files = {out: _text(record, out).encode()}
    if plots is not None:
        files |= _pictures(record, plots)
        _make(plots)
    for path, data in files.items():
        write_bytes(path, data)
    return list(files)


def is_report(path: Path) -> bool:
    """Whether a file is one that `write` wrote, and so may be overwritten."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        beginning = file.read(BEGINNING)
    return (
        beginning.startswith(MARK.encode())
        or PAGE_MARK in beginning
        or beginning[PNG_HEADER + 4 :].startswith(b"tEXt" + PNG_MARK)
    )


def _check_folder(folder: Path, wanted: Path) -> None:
    if not folder.is_dir():
        raise InvalidInput(f"The folder of {wanted} does not exist: {folder}.")
    tuned = next((above for above in (wanted, *wanted.absolute().parents) if is_tuned(above)), None)
    if tuned is not None:
        raise InvalidInput(
            f"{wanted} would lie in the tuned folder {tuned}, which a later tuning could not "
            "replace then. Give a place beside it."
        )


def _check_file(path: Path, force: bool) -> None:
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder. Give the name of a file.")
    if path.parent.exists() and not path.parent.is_dir():
        raise InvalidInput(f"{path.parent} is a file. Give the name of a folder.")
    if path.exists() and not force and not is_report(path):
        raise InvalidInput(
            f"{path} exists and was not written by autotune report. Give another name, or --force."
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _text(record: TuningRecord, out: Path) -> str:
    if out.suffix.lower() in MARKDOWN:
        return markdown(record)
    from autotune.report.page import html

    return html(record)


def _pictures(record: TuningRecord, folder: Path) -> dict[Path, bytes]:
    found: dict[Path, bytes] = {}
    for plot in charts.plots(record):
        png, svg = charts.png(plot), charts.svg(plot)
        found[folder / f"{plot.name}.png"] = _signed(png)
        found[folder / f"{plot.name}.svg"] = f"{MARK}\n{svg}\n".encode()
    return found


def _signed(png: bytes) -> bytes:
    """Put into a PNG what wrote it: a text chunk behind the header (PNG specification, 11.3.3)."""
    chunk = b"tEXt" + PNG_MARK
    length, check = struct.pack(">I", len(PNG_MARK)), struct.pack(">I", zlib.crc32(chunk))
    return png[:PNG_HEADER] + length + chunk + check + png[PNG_HEADER:]
