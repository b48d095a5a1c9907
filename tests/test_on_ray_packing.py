"""A tuned folder on its way through a cluster."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.errors import EnvironmentFault, InvalidRecord
from tests.rays import ON_RAY

pytestmark = [*ON_RAY, pytest.mark.needs("onnxruntime")]


class Owner:
    """Somebody who uses a folder."""


@pytest.fixture
def elsewhere(
    cluster: Any, exported: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A parcel from a machine whose storage this one does not share."""
    from autotune.on_ray.packing import pack

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return dataclasses.replace(pack(exported[0]), path="/not/here")


def test_a_shared_folder_is_used_where_it_is(cluster: Any, exported: tuple[Path, Any]) -> None:
    """Where the very folder is there under its path, nothing is unpacked."""
    from autotune.on_ray.packing import pack

    assert pack(exported[0]).locate(Owner()) == exported[0]


def test_another_folder_under_that_path_is_not_taken(
    elsewhere: Any, exported: tuple[Path, Any], tmp_path: Path
) -> None:
    """A folder of the same path is used only if its manifest is the one that was sent."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("{}")
    parcel = dataclasses.replace(elsewhere, path=str(tmp_path / "other"))
    assert parcel.locate(Owner()) != tmp_path / "other"


def test_elsewhere_the_folder_is_unpacked_whole(
    elsewhere: Any, exported: tuple[Path, Any], rows: Any
) -> None:
    """What is unpacked answers as the model does, and only its user may look at it."""
    folder, model = exported
    owner = Owner()
    found = elsewhere.locate(owner)
    files = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    assert {p.relative_to(found) for p in found.rglob("*") if p.is_file()} == files
    assert found.parent.stat().st_mode & 0o077 == 0
    outputs = elsewhere.open(owner).predict(rows)
    np.testing.assert_allclose(outputs, model.predict(rows, verbose=0), rtol=1e-4, atol=1e-5)


def test_all_processes_of_a_machine_share_one_folder_until_none_uses_it(elsewhere: Any) -> None:
    """The folder stays while somebody uses it, and goes with the last of them."""
    one, other = Owner(), Owner()
    folder = elsewhere.locate(one)
    assert elsewhere.locate(other) == folder
    del one
    gc.collect()
    assert folder.is_dir()
    del other
    gc.collect()
    assert not folder.exists()


KILLED = """
import fcntl, os, signal, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(elsewhere: Any) -> None:
    """A process that is killed leaves its folder unlocked: whoever comes next removes it."""
    owner = Owner()
    left = elsewhere.locate(owner).with_name("0" * 64)
    left.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(left)], check=False)
    assert left.is_dir()
    elsewhere.locate(Owner())
    assert not left.exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "onnx/../../evil", ""])
def test_no_file_is_written_outside(tmp_path: Path, name: str) -> None:
    """A name that leads out of the folder is refused before anything is written."""
    from autotune.on_ray.packing import put_files

    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(InvalidRecord, match="leads elsewhere"):
        put_files({"good": b"", name: b"evil"}, place)
    assert list(tmp_path.rglob("*")) == [place]


def test_what_was_changed_on_the_way_is_refused(
    elsewhere: Any, exported: Any, tmp_path: Path
) -> None:
    """Files whose hashes are not those of the manifest are not opened, nor left behind."""
    import ray

    from autotune.on_ray.packing import contents_of

    contents = contents_of(exported[0]) | {"model.keras": b"other"}
    parcel = dataclasses.replace(elsewhere, contents=ray.put(contents))
    with pytest.raises(InvalidRecord, match="was changed"):
        parcel.locate(Owner())
    assert not list(tmp_path.rglob("model.keras"))


def test_a_place_that_others_may_write_to_is_refused(elsewhere: Any, tmp_path: Path) -> None:
    """Where somebody else could put files into the folder's place, nothing is unpacked."""
    import os

    (tmp_path / f"autotune-on-ray-{os.getuid()}").mkdir()
    (tmp_path / f"autotune-on-ray-{os.getuid()}").chmod(0o777)
    with pytest.raises(EnvironmentFault, match="only this user can use"):
        elsewhere.locate(Owner())
