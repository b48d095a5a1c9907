"""A tuned folder on its way through a cluster: by its path where that is shared, else as bytes.

The bytes go through Ray's object store, once to each machine. There they are unpacked to a folder
that all processes of the user share, and that goes when none of them uses it any more: each holds
a lock on it, which the kernel takes back from a process however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import filelock
import msgspec
import ray

from autotune import artifact
from autotune.errors import EnvironmentFault, InvalidRecord
from autotune.files import sha256_of
from autotune.loading import load
from autotune.predictor import TunedPredictor

Contents = dict[str, bytes]  # of the files of a folder, by name


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tuned folder, for processes anywhere in a cluster.

    Attributes:
        path: Where it lies here, and on machines that share the storage.
        digest: SHA-256 of its manifest, which in turn holds those of its files.
        contents: Its files in the object store.
        imports: As given to `load`.
        unsafe: As given to `load`.
    """

    path: str
    digest: str
    contents: ray.ObjectRef[Contents]
    imports: tuple[str, ...] = ()
    unsafe: bool = False

    def open(self, owner: object) -> TunedPredictor:
        """Open the predictor in this process; see `locate`."""
        return load(self.locate(owner), imports=self.imports, unsafe=self.unsafe)

    def locate(self, owner: object) -> Path:
        """Return the folder on this machine, unpacked if it is not there.

        Args:
            owner: The folder stays at least as long as this.

        Raises:
            InvalidRecord: What came is not what was sent.
        """
        path = Path(self.path)
        with contextlib.suppress(OSError):
            if path.is_absolute() and sha256_of(path / artifact.MANIFEST) == self.digest:
                return path
        return _unpack(self, owner)

    def with_contents(self, contents: Contents) -> Parcel:
        """Return a parcel of another tuning of the model, which lies nowhere yet."""
        digest = hashlib.sha256(contents[artifact.MANIFEST]).hexdigest()
        return Parcel("", digest, ray.put(contents), self.imports, self.unsafe)


def pack(
    folder: str | os.PathLike[str], imports: tuple[str, ...] = (), unsafe: bool = False
) -> Parcel:
    """Put a tuned folder into the object store.

    Raises:
        InvalidRecord: It is no tuned folder, or it is damaged.
    """
    path = Path(folder).absolute()
    artifact.read(path)
    contents = contents_of(path)
    digest = sha256_of(path / artifact.MANIFEST)
    return Parcel(str(path), digest, ray.put(contents), imports, unsafe)


def contents_of(folder: Path) -> Contents:
    """Read the files that a tuned folder's manifest lists, and the manifest."""
    manifest = (folder / artifact.MANIFEST).read_bytes()
    listed = msgspec.json.decode(manifest, type=artifact.Manifest).files
    return {artifact.MANIFEST: manifest} | {name: (folder / name).read_bytes() for name in listed}


def put_files(contents: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder and the folders in it, never outside.

    Raises:
        InvalidRecord: A name leads out of the folder.
    """
    for name in contents:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InvalidRecord(f"A file was sent under the name {name!r}, which leads elsewhere.")
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _unpack(parcel: Parcel, owner: object) -> Path:
    home = _home()
    folder = home / parcel.digest
    with filelock.FileLock(home / ".lock"):
        for other in home.iterdir():  # left by processes that were killed
            if other.is_dir() and other != folder:
                _remove_unless_used(other)
        if not folder.exists():
            _write(parcel, folder)
        used = os.open(folder, os.O_RDONLY)
        fcntl.flock(used, fcntl.LOCK_SH)
    weakref.finalize(owner, _leave, home, folder, used)
    return folder


def _write(parcel: Parcel, folder: Path) -> None:
    new = folder.with_name(f".{secrets.token_hex(6)}")
    new.mkdir()
    try:
        contents: Contents = ray.get(parcel.contents)
        put_files(contents, new)
        if sha256_of(new / artifact.MANIFEST) != parcel.digest:
            raise InvalidRecord("The tuned folder changed while it was sent. Send it again.")
        artifact.read(new)  # compares the hashes
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _leave(home: Path, folder: Path, used: int) -> None:
    os.close(used)
    with filelock.FileLock(home / ".lock"):
        _remove_unless_used(folder)


def _remove_unless_used(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = folder.with_name(f".{secrets.token_hex(6)}")
        folder.rename(gone)  # who is killed now leaves nothing half under its name
        shutil.rmtree(gone, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _home() -> Path:
    """The folder of this user that unpacked folders lie in; nobody else may look or write there."""
    home = Path(tempfile.gettempdir()) / f"autotune-on-ray-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EnvironmentFault(
            f"{home} is not a folder that only this user can use, so that nothing is unpacked "
            "there. Remove it, or set TMPDIR to another folder."
        )
    return home


def leave_threads_to_the_engine() -> None:
    """Take back the number of threads that Ray sets by the processors that a process reserves.

    What was tuned had its threads from the record, or from the engine itself. A number that the
    user set is left alone, unless it is the one that Ray would have set.
    """
    reserved = ray.get_runtime_context().get_assigned_resources().get("CPU") or 1
    if os.environ.get("OMP_NUM_THREADS") == str(max(1, int(reserved))):
        del os.environ["OMP_NUM_THREADS"]
