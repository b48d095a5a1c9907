"""Optuna studies: opened or made, locked while in use, and told what they are about."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from autotune.errors import AutotuneError, EnvironmentFault, InvalidInput, one_line

if TYPE_CHECKING:
    import optuna

_BELONGS_TO = "belongs_to"


@contextlib.contextmanager
def open_study(storage: str, name: str = "autotune") -> Iterator[optuna.Study]:
    """Open an Optuna study in a database, or make it; for `tune(..., study=...)`.

    One process has a study at a time: two would time their candidates while the other disturbs
    them, or on another machine. A study in an SQLite file is locked with the file, one in a
    PostgreSQL database by its name: there several processes work beside each other, each on a
    study of its own. Trials that a killed run left unfinished are marked as failed, so that they
    are tried again.

    Args:
        storage: A database URL, such as "sqlite:///tune.db".
        name: Name of the study in it.

    Raises:
        InvalidInput: The URL or the database cannot be opened.
        EnvironmentFault: Another process has the study open.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(storage))
        stack.enter_context(_as_input_error(storage))
        database = stack.enter_context(_connected(storage))
        alone = stack.enter_context(_alone(database, name))
        study = _create_study(database, name)
        if alone:
            _fail_stale_trials(study)
        yield study


@contextlib.contextmanager
def _connected(storage: str) -> Iterator[optuna.storages.RDBStorage]:
    import optuna

    try:
        with _others_waiting(storage):
            database = optuna.storages.RDBStorage(storage)
    except (ImportError, ValueError) as error:  # no driver; no URL
        raise _cannot_use(storage, error) from error
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


@contextlib.contextmanager
def _others_waiting(storage: str) -> Iterator[None]:
    """Make tables in a PostgreSQL database alone: two processes would find each other's halves."""
    if not storage.startswith("postgresql"):
        yield
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(storage)
    try:
        with engine.connect() as connection:  # the lock goes with the transaction
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_key("tables"),))
            yield
    finally:
        engine.dispose()


def _key(name: str) -> int:
    """A number for a PostgreSQL lock, which has 64 bits."""
    digest = hashlib.sha256(f"autotune {name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


@contextlib.contextmanager
def _alone(database: optuna.storages.RDBStorage, name: str) -> Iterator[bool]:
    """Lock a study in a PostgreSQL database for as long as this process is connected to it.

    Yields:
        Whether no other process has it open.

    Raises:
        EnvironmentFault: Another process has.
    """
    kind = database.engine.dialect.name
    if kind != "postgresql":
        yield kind == "sqlite"  # whose file is locked
        return
    key = (_key(f"study {name}"),)
    with database.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s)", key).scalar():
            raise EnvironmentFault(
                f"The study {name!r} is in use by another process. Wait for it, or use another "
                "name (--study)."
            )
        try:
            yield True
        finally:
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", key)


def _create_study(storage: optuna.storages.BaseStorage | None, name: str | None) -> optuna.Study:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # one line a study is noise to a caller
    try:
        return optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
    finally:
        optuna.logging.set_verbosity(verbosity)


def study_in_memory(*, sampled: bool = False, seed: int = 0) -> optuna.Study:
    """Make a study that lives as long as this process.

    Args:
        sampled: Whether its sampler is to be asked. Else it gets one that does not think: the
            default strategy says what to try, and thoughts would be wasted time.
        seed: Seed of the sampler.
    """
    import optuna

    study = _create_study(None, None)
    kind = optuna.samplers.TPESampler if sampled else optuna.samplers.RandomSampler
    study.sampler = kind(seed=seed)
    return study


@contextlib.contextmanager
def _locked(storage: str) -> Iterator[None]:
    path = sqlite_path(storage)
    if path == Path():
        raise InvalidInput(f"{storage!r} names no file. Expected one such as sqlite:///tune.db.")
    if path is not None and path.exists() and not _is_sqlite(path):
        raise _cannot_use(storage, ValueError("file is not a database"))
    if path is None or not path.parent.is_dir():
        yield
        return
    lock = filelock.FileLock(f"{path}.lock")
    new = [file for file in (path, Path(lock.lock_file)) if not file.exists()]
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not Path(lock.lock_file).exists():  # it was never made
            raise InvalidInput(f"Cannot write {path}. Give another storage.") from None
        holder = _holder(Path(lock.lock_file))
        raise EnvironmentFault(f"The study in {path} is in use by process {holder}.") from None
    except OSError as error:
        raise InvalidInput(f"Cannot open {storage}: {error.strerror or error}.") from error
    try:
        Path(lock.lock_file).write_text(str(os.getpid()))
        yield
    except BaseException:
        if not _has_trials(path):  # then what this run made is of no use to anyone
            for file in new:
                file.unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def _is_sqlite(path: Path) -> bool:
    """Whether a path is a database by its first bytes, or a file that is still empty."""
    try:
        with path.open("rb") as file:
            return file.read(16) in (b"SQLite format 3\0", b"")
    except OSError:
        return False


def _has_trials(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return bool(database.execute("select 1 from trials limit 1").fetchone())
    except sqlite3.Error:
        return False


def sqlite_path(storage: str) -> Path | None:
    """Return the file of an SQLite URL; None for any other database."""
    kind, found, path = storage.partition(":///")
    is_sqlite = kind.partition("+")[0] == "sqlite"  # also with the driver's name, "sqlite+pysqlite"
    return Path(path) if found and is_sqlite else None


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "unknown"
    except OSError:
        return "unknown"


@contextlib.contextmanager
def _as_input_error(storage: str) -> Iterator[None]:
    """A database can fail in a dozen ways; say in one line that it did. It is left as it is."""
    try:
        yield
    except Exception as error:
        module = type(error).__module__.partition(".")[0]
        if isinstance(error, AutotuneError) or module not in ("optuna", "sqlalchemy", "sqlite3"):
            raise
        raise _cannot_use(storage, error) from error


def _cannot_use(storage: str, error: Exception) -> InvalidInput:
    reason = getattr(error, "orig", None) or error  # what SQLAlchemy wraps is the plain reason
    shown = re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", storage)
    return InvalidInput(
        f"Cannot use the study storage {shown!r}: {one_line(reason, 160).rstrip('.')}. Expected a "
        "database such as sqlite:///tune.db; for a damaged one, name a new file."
    )


def _fail_stale_trials(study: optuna.Study) -> None:
    """With the lock in hand, whoever ran these trials is dead."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def bind(study: optuna.Study, belongs_to: dict[str, str]) -> None:
    """Write into a study what it is about, or see that it is about the same.

    Raises:
        InvalidInput: It holds trials of another model, sample, goal or device.
    """
    known = study.user_attrs.get(_BELONGS_TO)
    if known is None:
        study.set_user_attr(_BELONGS_TO, belongs_to)
        return
    differing = [key for key in belongs_to if known.get(key) != belongs_to[key]]
    if differing:
        raise InvalidInput(
            f"The study {study.study_name!r} was begun with another {' and '.join(differing)}. "
            "Use another name (--study) or another storage."
        )
