"""A folder of good and bad models, samples and records, for tests of bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

QUICK = "--budget 1s --max-batch-size 8 --engine keras --concurrency 1"

FACTORIES = """
import keras

@keras.saving.register_keras_serializable("mine")
class Mine(keras.layers.Layer):
    def call(self, x):
        return x

def fails():
    raise RuntimeError("first\\nsecond")

def nothing():
    return None

def subclassed():
    class Net(keras.Model):
        def call(self, x):
            return x

    return Net()


def leaves():
    raise SystemExit(3)
"""


def autotune(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in `place`, with temporary files in `place/tmp`."""
    command = [sys.executable, "-m", "autotune.cli", *line.split()]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=place, env=environment(place)
    )


def environment(place: Path) -> dict[str, str]:
    """The environment of this process, with temporary files in `place/tmp`."""
    return os.environ | {"TMPDIR": str(place / "tmp")}


def everything_in(place: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all files below `place`, by path; of folders and locks 0."""
    found = {}
    for path in place.rglob("*"):
        if "__pycache__" in path.parts:
            continue
        state = path.stat()
        counts = path.is_file() and path.suffix != ".lock"  # a lock names its last holder
        found[str(path.relative_to(place))] = (
            (state.st_size, state.st_mtime_ns) if counts else (0, 0)
        )
    return found


def make_place(keras: Any, place: Path) -> Path:
    """Fill `place` with one thing of each kind."""
    (place / "tmp").mkdir()
    (place / "factories.py").write_text(FACTORIES)
    _write_models(keras, place)
    _write_rows(place)
    tuning = f"tune m.keras --sample x.npy --out tuned --storage sqlite:///study.db {QUICK}"
    done = autotune(place, tuning)
    assert done.returncode in (0, 3), done.stderr  # settled or not: a second is short
    shutil.copytree(place / "tuned", place / "changed")
    with (place / "changed" / "model.keras").open("ab") as file:
        file.write(b"x")
    record = json.loads((place / "tuned" / "record.json").read_text())
    (place / "newer.json").write_text(json.dumps(record | {"format_version": 99, "new": 1}))
    (place / "random.json").write_text('{"a": 1}')
    return place


def _write_models(keras: Any, place: Path) -> None:
    layers = keras.layers

    def save(name: str, of: Any, *rest: Any) -> None:
        keras.Sequential([of, *rest]).save(place / f"{name}.keras")

    x = keras.Input((10,), name="x")
    save("m", x, layers.Dense(1))
    save("other", x, layers.Dense(2))
    save("lambda", x, layers.Lambda(abs, name="lambda"))
    save("mine", x, _own_class(place)())
    save("ids", keras.Input((5,), dtype="int32", name="ids"), layers.Embedding(10, 2))
    save("free", keras.Input((None, 3), name="free"), layers.Dense(1))
    save("fixed", keras.Input((3,), 8, name="fixed"), layers.Dense(1))
    save("state", keras.Input((7, 3), 8), layers.LSTM(2, stateful=True, name="lstm"))
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    keras.Model([a, b], layers.Concatenate()([a, b])).save(place / "two.keras")
    _write_archives(place)
    whole = (place / "m.keras").read_bytes()
    (place / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (place / "empty.keras").touch()
    for name in ("note.txt", "text.h5", "net.pt", "net.onnx", "cat.png"):
        (place / name).write_text("hello")
    (place / "plain").mkdir()
    (place / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (place / "saved").mkdir()
    (place / "saved" / "saved_model.pb").touch()


def _write_archives(place: Path) -> None:
    """Models whose archive is whole, but not what is in it."""
    changes: dict[str, dict[str, bytes | None]] = {
        "noconfig": {"config.json": None},
        "badconfig": {"config.json": b"{"},
        "noweights": {"model.weights.h5": None},
        "misfit": {"model.weights.h5": _member(place / "other.keras", "model.weights.h5")},
        "escape": {"../evil.txt": b"x"},
    }
    for name, changed in changes.items():
        with zipfile.ZipFile(place / f"{name}.keras", "w") as archive:
            members = dict.fromkeys(("config.json", "metadata.json", "model.weights.h5"))
            whole = {member: _member(place / "m.keras", member) for member in members}
            for member, data in (whole | changed).items():
                if data is not None:
                    archive.writestr(member, data)


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _own_class(place: Path) -> Any:
    namespace: dict[str, Any] = {"__name__": "factories"}
    exec(FACTORIES, namespace)  # noqa: S102  our own text, from above
    return namespace["Mine"]


def _write_rows(place: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, 10)).astype(np.float32)
    arrays = {
        "x": x,
        "nine": x[:, :9],
        "one": x[0],
        "none": x[:0],
        "complex": x.astype(np.complex64),
        "words": np.full((50, 10), "word"),
        "nan": np.full((20, 5), np.nan, np.float32),
        "outside": np.full((20, 5), 99, np.int32),
    }
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array)
    objects = np.array([{}, 1], dtype=object)
    np.save(place / "object.npy", objects, allow_pickle=True)
    np.savez(place / "object.npz", x=objects)
    np.savez(place / "unequal.npz", a=x[:5, :4], b=x[:4, :3])
    np.savez(place / "names.npz", a=x[:, :4], c=x[:, :3])
    (place / "text.npy").write_text("This is no array.")
    (place / "text.csv").write_text("a,b\n1,2\n3,x\n")
    (place / "ragged.csv").write_text("1,2\n3,4,5\n")
    (place / "head.csv").write_text("a,b\n")
    (place / "blank.csv").write_text("\n\n\n")
