"""What is left after a run was killed: processes, files that nobody can read, finished probes.

Each is found out from the outside, by other means than those of the code under test; and
`prove_detectors` does damage on purpose, which must be found out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tests.bad_files import autotune, environment

OUT = "tuned"
FILES = {"manifest.json", "record.json", "model.keras", "requirements.txt"}

_FINISHED = """
    select trial_id, value, key, value_json from trials
    left join trial_values using (trial_id) left join trial_user_attributes using (trial_id)
    where state = 'COMPLETE' order by trial_id, key
"""

WRITER = """
import shutil, sys
from pathlib import Path
from autotune import artifact
tuned, target = artifact.read(sys.argv[1]), Path(sys.argv[2])
contents = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}

def plain():
    for name, content in contents.items():
        (target / name).write_bytes(content)

def atomic():
    artifact.write(target, tuned.record, lambda path: shutil.copyfile(tuned.model, path))

atomic()
print("ready", flush=True)
while True:
    globals()[sys.argv[3]]()
"""

Probes = dict[int, list[tuple[float, str, str]]]


def finished(place: Path) -> Probes:
    """All that the study says of each finished probe, by the number of its trial.

    A copy is read, as the next to open it would see it: a transaction that was cut off is taken
    back, but the study itself is left for the run that goes on.
    """
    if not (place / "study.db").exists():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        for path in place.glob("study.db*"):
            shutil.copy(path, folder)
        return read_finished(f"{folder}/study.db")


def finished_so_far(place: Path) -> Probes:
    """The same, while the run goes on; nothing where its database is not there or in use."""
    return read_finished(f"file:{place}/study.db?mode=ro")


def read_finished(database: str) -> Probes:
    """Read the finished probes from a database, by path or URI."""
    probes: Probes = {}
    with contextlib.suppress(sqlite3.OperationalError):
        connection = sqlite3.connect(database, timeout=0, uri=database.startswith("file:"))
        with contextlib.closing(connection):
            for number, *content in connection.execute(_FINISHED):
                probes.setdefault(number, []).append(tuple(content))
    return probes


def lost(before: Probes, after: Probes) -> list[int]:
    """Probes that are gone or no longer what they were."""
    return [number for number, content in before.items() if after.get(number) != content]


def lost_from_record(before: Probes, place: Path) -> list[int]:
    """Probes whose outcome is not in the record that the run wrote in the end."""
    outcomes = json.loads((place / OUT / "record.json").read_text())["outcomes"]
    return [
        number
        for number, content in before.items()
        for _, key, value in content
        if key == "block" and json.loads(json.loads(value))["outcome"] not in outcomes
    ]


def unreadable(place: Path) -> list[str]:
    """What is damaged: the study, the tuned folder, or one beside it that passes for tuned."""
    found = []
    if (place / "study.db").exists() and not _is_sound(place):
        found.append("study.db")
    for folder in (*place.glob(OUT), *place.glob(f".{OUT}.*")):
        accepted = autotune(place, f"show {folder}").returncode == 0
        if (folder.name == OUT and not accepted) or (accepted and not _is_whole(folder)):
            found.append(folder.name)
    return found


def _is_sound(place: Path) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        for path in place.glob("study.db*"):
            shutil.copy(path, folder)
        with contextlib.closing(sqlite3.connect(f"{folder}/study.db")) as database:
            return bool(database.execute("pragma integrity_check").fetchone() == ("ok",))


def _is_whole(folder: Path) -> bool:
    """Whether all files of a tuned folder are there, can be read and are those of the manifest."""
    try:
        hashes = json.loads((folder / "manifest.json").read_text())["files"]
        json.loads((folder / "record.json").read_text())
        with zipfile.ZipFile(folder / "model.keras") as model:
            sound = model.testzip() is None
        contents = {name: (folder / name).read_bytes() for name in hashes}
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    found = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return sound and found == hashes and {*hashes, "manifest.json"} == FILES


def processes_of(place: Path) -> set[int]:
    """Processes that work for a run in `place`: by what they were told, or where they stand.

    Every child is told where its temporary files go, and that is a folder in `place`.
    """
    mark = str(place).encode()
    return {
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and mark in _told(process)
    }


def _told(process: Path) -> bytes:
    told = b""
    with contextlib.suppress(OSError):  # it has just ended
        told += (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        told += str((process / "cwd").readlink()).encode()
    return told


def leftovers(place: Path) -> list[str]:
    """Temporary files and folders that a run did not clear away."""
    strays = [*place.glob(f".{OUT}.*"), *place.glob(".autotune.*"), *(place / "tmp").iterdir()]
    return sorted(path.name for path in strays)


def kill_writers(place: Path, source: Path, how: str, runs: int, chance: random.Random) -> int:
    """Count tuned folders that cannot be read after a writer was killed at random."""
    found = 0
    for _ in range(runs):
        place.mkdir()
        command = [sys.executable, "-c", WRITER, str(source), str(place / OUT), how]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.1))
            writer.kill()
        found += bool(unreadable(place)) or not (place / OUT).exists()
        shutil.rmtree(place)
    return found


def prove_detectors(place: Path, whole: Path, runs: int, chance: random.Random) -> list[str]:
    """Do damage on purpose, and return what was not found out."""
    plain = kill_writers(place / "plain", whole / OUT, "plain", runs, chance)
    atomic = kill_writers(place / "atomic", whole / OUT, "atomic", runs, chance)
    print(f"folders that cannot be read after {runs} kills: plain writer {plain}, ours {atomic}")
    probes = finished(whole)
    first, *rest = probes
    without = {number: probes[number] for number in rest}
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    sleeper = subprocess.Popen(sleep, env=environment(place / "orphan"))
    orphans = processes_of(place / "orphan")
    sleeper.kill()
    sleeper.wait()
    verdicts = {
        "a writer that is not atomic": plain > 0,
        "a probe that is gone": lost(probes, without) == [first],
        "a probe that was changed": lost(probes, probes | {first: []}) == [first],
        "a process that is left": orphans == {sleeper.pid},
    }
    missed = [f"not found out: {what}" for what, found in verdicts.items() if not found]
    return [*missed, *(["our writer leaves folders that cannot be read"] if atomic else [])]
