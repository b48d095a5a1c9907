"""The tuned directory: whole or not there, and read only as it was written."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autotune import artifact, files
from autotune.errors import InvalidInput, InvalidRecord
from autotune.goal import Goal
from autotune.outcomes import Candidate, Measurement
from autotune.recommend import recommend
from autotune.records import FORMAT_VERSION, TuningRecord
from tests.blocks import standing_of

OUTCOMES = (Measurement(Candidate(8), (0.1, 0.1)),)
RECORD = TuningRecord(
    goal=Goal(), outcomes=OUTCOMES, recommendation=recommend(standing_of([OUTCOMES]))
)


def put_model(path: Path) -> None:
    """Write what stands for a model."""
    path.write_bytes(b"weights")


def put_other(path: Path) -> None:
    """Write what stands for another model."""
    path.write_bytes(b"new weights")


def put_half(path: Path) -> None:
    """Begin to write a model, and fail."""
    path.write_bytes(b"wei")
    raise ValueError("no such layer")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A tuned directory, alone in its folder."""
    folder = tmp_path / "tuned"
    artifact.write(folder, RECORD, put_model)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def edit_manifest(folder: Path, **fields: object) -> None:
    """Change fields of a manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def test_what_is_written_is_read(tuned: Path) -> None:
    """Record and model come back as they were, and nothing else is left beside them."""
    read = artifact.read(tuned)
    assert read.record == RECORD
    assert read.model.read_bytes() == b"weights"
    assert sorted(contents(tuned.parent)) == [
        "tuned/manifest.json",
        "tuned/model.keras",
        "tuned/record.json",
        "tuned/requirements.txt",
    ]


def test_missing_folders_above_are_made(tmp_path: Path) -> None:
    """A tuned directory can be written to any depth."""
    artifact.write(tmp_path / "a" / "b" / "tuned", RECORD, put_model)
    assert artifact.read(tmp_path / "a" / "b" / "tuned").record == RECORD


@pytest.mark.parametrize("name", ["model.keras", "record.json"])
def test_a_changed_file_is_refused(tuned: Path, name: str) -> None:
    """One more byte in a file and it is no longer the one that was tuned."""
    with (tuned / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(InvalidRecord, match=f"{name} was changed after tuning.*SHA-256.*Restore"):
        artifact.read(tuned)


@pytest.mark.parametrize("name", ["model.keras", "record.json"])
def test_a_missing_file_is_told(tuned: Path, name: str) -> None:
    """A tuned directory that lost a file is damaged; the message names it."""
    (tuned / name).unlink()
    with pytest.raises(InvalidRecord, match=f"is damaged: {name} is missing"):
        artifact.read(tuned)


def test_a_file_without_a_hash_is_refused(tuned: Path) -> None:
    """A file that the manifest does not vouch for is not read."""
    edit_manifest(tuned, files={})
    with pytest.raises(InvalidRecord, match=r"model\.keras was changed after tuning"):
        artifact.read(tuned)


def test_a_newer_format_is_refused_with_the_remedy(tuned: Path) -> None:
    """A tuned directory of a newer autotune is refused; the message says to upgrade."""
    edit_manifest(tuned, format_version=FORMAT_VERSION + 1)
    with pytest.raises(
        InvalidRecord, match=rf"format version {FORMAT_VERSION + 1}; .*up to {FORMAT_VERSION}\. Upg"
    ):
        artifact.read(tuned)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"format_version": 1, "files": {"\xff": 1}}']
)
def test_a_damaged_manifest_is_refused(tuned: Path, data: bytes) -> None:
    """A manifest that is none is told by its path."""
    (tuned / "manifest.json").write_bytes(data)
    with pytest.raises(InvalidRecord, match=r"manifest\.json cannot be read"):
        artifact.read(tuned)


def test_what_is_no_tuned_folder_is_told(tmp_path: Path) -> None:
    """A folder without a manifest, a file and nothing at all are told apart."""
    with pytest.raises(InvalidRecord, match=r"not a tuned folder: it has no manifest\.json"):
        artifact.read(tmp_path)
    with pytest.raises(InvalidRecord, match=r"Tuned folder not found: .*missing"):
        artifact.read(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRecord, match="file is not a tuned folder, but a file"):
        artifact.read(tmp_path / "file")


@pytest.mark.parametrize("in_one_step", [True, False])
def test_an_older_one_is_replaced(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    """Writing again puts the new directory in the old one's place and leaves nothing of it."""
    if not in_one_step:  # as on a file system that cannot
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    artifact.write(tuned, RECORD, put_other)
    assert artifact.read(tuned).model.read_bytes() == b"new weights"
    assert sorted(path.name for path in tuned.parent.iterdir()) == ["tuned"]


def test_there_is_one_at_every_moment(tuned: Path) -> None:
    """Who looks while another is put in its place finds the one or the other."""
    seen, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add((tuned / "manifest.json").exists())

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for _ in range(100):
            artifact.write(tuned, RECORD, put_other)
        done.set()
        looking.result()
    assert seen == {True}


def test_an_older_one_stands_when_writing_fails(tuned: Path) -> None:
    """When the model cannot be written the old directory is as it was, and alone."""
    before = contents(tuned.parent)
    with pytest.raises(ValueError, match="no such layer"):
        artifact.write(tuned, RECORD, put_half)
    assert contents(tuned.parent) == before
    assert list(tuned.parent.iterdir()) == [tuned]


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    """When the model cannot be written, no directory appears, not even those above it."""
    with pytest.raises(ValueError, match="no such layer"):
        artifact.write(tmp_path / "a" / "tuned", RECORD, put_half)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    """A folder that holds nothing may become a tuned directory."""
    (tmp_path / "tuned").mkdir()
    artifact.write(tmp_path / "tuned", RECORD, put_model)
    assert artifact.read(tmp_path / "tuned").record == RECORD


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": b"years"},
        {"manifest.json": b"{}", "thesis.txt": b"years"},
        {"model.keras": b"weights"},
        {"manifest.json": b'{"name": "a web page"}'},
    ],
)
def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    """What is not certain to be a tuned directory is not replaced, but refused and untouched."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with pytest.raises(InvalidInput, match="holds something else than a tuned predictor"):
        artifact.write(folder, RECORD, put_model)
    assert contents(folder) == files


def test_a_file_or_link_in_its_place_is_refused(tuned: Path) -> None:
    """Neither a file nor a link is replaced, be it a link to a tuned directory."""
    link, file = tuned.with_name("link"), tuned.with_name("file")
    link.symlink_to(tuned)
    file.touch()
    for path in (link, file):
        with pytest.raises(InvalidInput, match="exists and is not a folder"):
            artifact.check_target(path)
    assert link.is_symlink()


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    """The fault is told before any work is done, and again when it comes to writing."""
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "tuned"
    with pytest.raises(InvalidInput, match=r"Cannot write .*tuned: Not a directory.* folder"):
        artifact.check_target(target)
    with pytest.raises(InvalidInput, match=r"Cannot write .*tuned: Not a directory"):
        artifact.write(target, RECORD, put_model)


def test_the_check_leaves_no_trace(tmp_path: Path) -> None:
    """Whether a place can be written is tried without leaving anything there."""
    artifact.check_target(tmp_path / "a" / "tuned")
    assert not list(tmp_path.iterdir())
