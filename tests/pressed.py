"""Probes by a tuner in a process of its own, around which a memory limit can be put.

    python -m tests.pressed REQUEST.json 16 256 16

tries each batch size in turn in an isolated child, and prints an outcome a line, as JSON. The
kernel tells a kill for memory to the group of the one who was killed: the tuner must be inside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from autotune.outcomes import Candidate, Outcome
from autotune.probe import IsolatedProbe
from autotune.worker import DrawnRows, FactorySource, Load
from tests.cgroups import MemoryGroup

HOME = Path(__file__).parents[1]
SECONDS = 0.02


def attention() -> Any:
    """A net whose scores take 256 KiB a row; out of memory, it raises an exception."""
    import keras

    x = keras.Input((128, 64), name="x")
    mixed = keras.layers.MultiHeadAttention(4, 16)(x, x)
    pooled = keras.layers.GlobalAveragePooling1D()(mixed)
    return keras.Model(x, keras.layers.Dense(10)(pooled), name="attention")


def convolutions() -> Any:
    """A net whose two layers take 1 MiB a row each; out of memory, it mostly crashes."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((64, 64, 3), name="image"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="convolutions",
    )


def request_of(function: str) -> Load:
    """Ask for the model that a function of this module makes, and rows drawn for it."""
    return Load(
        id=0,
        model=FactorySource(f"tests.pressed:{function}"),
        name=function,
        sample=DrawnRows(16, {}),
        engines=("keras",),
        python_path=(str(HOME),),
    )


def outcomes_of(
    folder: Path,
    request: Load,
    sizes: Sequence[int],
    group: MemoryGroup | None = None,
    environment: dict[str, str] | None = None,
) -> list[Outcome]:
    """Have a tuner try batch sizes, and return what came of each; it must survive them all.

    Args:
        folder: For the request.
        request: What the child loads.
        sizes: Batch sizes, in their order.
        group: Where the tuner and its child run; None for where this process runs.
        environment: Variables on top of those of this process.
    """
    path = folder / "request.json"
    path.write_bytes(msgspec.json.encode(request))
    command = [sys.executable, "-m", "tests.pressed", str(path), *map(str, sizes)]
    done = subprocess.run(
        group.command(command) if group else command,
        capture_output=True,
        text=True,
        check=False,
        cwd=HOME,
        env=os.environ | (environment or {}),
    )
    assert done.returncode == 0, f"The tuner ended with {done.returncode}: {done.stderr}"
    return [msgspec.json.decode(line, type=Outcome) for line in done.stdout.splitlines()]


def main() -> None:
    """Try the batch sizes of the command line."""
    request = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Load)
    with IsolatedProbe(request) as probe:
        for size in map(int, sys.argv[2:]):
            print(msgspec.json.encode(probe(Candidate(size), SECONDS)).decode(), flush=True)


if __name__ == "__main__":
    main()
