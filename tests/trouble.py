"""A model that does something bad in the child, at one batch size."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from autotune.outcomes import Candidate
from autotune.probe import IsolatedProbe
from autotune.worker import FactorySource, Load, SavedRows
from autotune.workload import Workload

GOOD, BAD = Candidate(8), Candidate(16)

_MODULE = """
import ctypes, json, os, signal, subprocess, sys, time
import keras, numpy

def links():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue

def sockets():
    return sum(link.startswith("socket:") for _, link in links())

def channel():
    # to the tuner: the only socket that the child has
    return next(number for number, link in links() if link.startswith("socket:"))

def memory_ran_out():
    try:
        raise MemoryError("no more")
    except MemoryError:
        raise ValueError("something else") from None

class Trouble(keras.Model):
    def call(self, x):
        return x

    def predict_on_batch(self, x):
        if len(x) == 16:
            {action}
        return super().predict_on_batch(x)

def make():
    {when_made}
    return Trouble(name="trouble")
"""


def trouble(
    folder: Path, action: str = "pass", when_made: str = "pass", **options: Any
) -> IsolatedProbe:
    """Make a probe of a model that runs a line of Python with each batch of 16 rows.

    Args:
        folder: Where the model's module and its rows are written.
        action: The line.
        when_made: A line that is run when the model is made.
        options: Of the probe.
    """
    return IsolatedProbe(write_request(folder, action, when_made), **options)


def write_request(folder: Path, action: str = "pass", when_made: str = "pass") -> Load:
    """Write the model's module and its rows, and say where they are."""
    source = textwrap.dedent(_MODULE).format(action=action, when_made=when_made)
    (folder / "trouble_module.py").write_text(source)
    rows = folder / "rows"
    rows.mkdir()
    Workload(np.ones((20, 10), np.float32)).save(rows)
    return Load(
        id=0,
        model=FactorySource("trouble_module:make"),
        name="trouble",
        sample=SavedRows(str(rows)),
        engines=("keras",),
        python_path=(str(folder),),
    )
