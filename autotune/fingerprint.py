"""The fingerprint: what a recommendation hangs on, of the model, the machine and the packages.

Compared at load, where it must cost little and break nothing: what cannot be told of this
machine is taken to be as it was.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.describe import describe_machine, describe_model
from autotune.device import Device, device_of
from autotune.engines import FORMATS
from autotune.errors import one_line
from autotune.matching import memory_of, same_memory
from autotune.records import Input, Machine, ModelInfo, TuningRecord
from autotune.report import printable
from autotune.units import format_bytes

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("autotune")


@dataclass(frozen=True, slots=True)
class Here:
    """What runs models in this process.

    Attributes:
        backend: Keras's backend.
        device: The device; None where looking for it failed.
        machine: The machine, in the record's words; None where looking at it failed.
    """

    backend: str
    device: Device | None
    machine: Machine | None


def look_around(backend: str | None = None) -> Here:
    """Look at what runs models here; starts Keras's backend, and never raises on its account.

    Args:
        backend: Which backend that is, "" for none, where Keras is not to be imported.
    """
    if backend is None:
        import keras

        backend = keras.config.backend()
    try:
        device = device_of(backend)
        return Here(backend, device, describe_machine(device))
    except Exception as error:  # drivers fail in ways of their own, and the model may still run
        _log.debug("This machine cannot be described: %s", one_line(error))
        return Here(backend, None, None)


def look_at(model: keras.Model) -> ModelInfo | None:
    """Describe a model as it was opened here; None where that fails.

    Its weights are hashed, which takes about a tenth of the time of opening it.
    """
    try:
        return describe_model(model, source="", sample=())
    except Exception as error:  # a model's own code may fail, and the model may still run
        _log.debug("The model cannot be described: %s", one_line(error))
        return None


def differences(
    record: TuningRecord, machine: Machine | None, model: ModelInfo | None
) -> tuple[str, ...]:
    """Compare the machine, the packages and the model with those of a record.

    Args:
        record: The tuning run.
        machine: What `describe_machine` says here; None leaves it out.
        model: What `describe_model` says here; None leaves it out.

    Returns:
        A phrase for each difference, on one line; none where the recommendation holds.
    """
    found: list[str] = []
    if record.machine and machine:
        found += _of_machines(record.machine, machine)
        found += _of_versions(record, record.machine.versions, machine.versions)
    if record.model and model:
        found += _of_models(record.model, model, other_keras=_other_keras(record, machine))
    return tuple(printable(phrase) for phrase in found)


def _of_machines(tuned: Machine, here: Machine) -> Iterator[str]:
    if (tuned.device_kind, tuned.device) != (here.device_kind, here.device):
        yield f"device: tuned on {tuned.device}, here {here.device}"
    then, now = memory_of(tuned), memory_of(here)
    if then and now and not same_memory(then, now):
        yield f"memory: tuned with {format_bytes(then)}, here {format_bytes(now)}"
    if (tuned.cpu_count, tuned.cpu_quota) != (here.cpu_count, here.cpu_quota):
        yield f"processors: tuned with {_processors(tuned)}, here {_processors(here)}"


def _processors(machine: Machine) -> str:
    quota = f" and a quota of {machine.cpu_quota:g}" if machine.cpu_quota is not None else ""
    return f"{machine.cpu_count}{quota}"


def _of_versions(
    record: TuningRecord, tuned: dict[str, str], here: dict[str, str]
) -> Iterator[str]:
    """Compare what runs the model: Keras, its backend, and an engine that is a package itself."""
    engine = record.recommendation.engine if record.recommendation else ""
    packages = dict.fromkeys(("keras", record.model.backend if record.model else "", engine))
    if engine in FORMATS:  # it runs an exported model, without Keras
        packages = {engine: None}
    for package in packages:
        then, now = tuned.get(package), here.get(package)
        if then and (now is None or release_of(then) != release_of(now)):
            yield f"{package} {then} -> {now or 'not installed'}"


def release_of(version: str) -> tuple[str, ...]:
    """The part of a version whose change may change speed or memory.

    A patch release mends faults, and a warning with each of them would soon be read by nobody.
    Below 1.0 the third number is the one that tells (semver.org, 4: anything may change).

    Example:
        >>> release_of("3.15.1"), release_of("2.6.0+cu124"), release_of("0.4.35")
        (('3', '15'), ('2', '6'), ('0', '4', '35'))
    """
    numbers = version.partition("+")[0].split(".")
    return tuple(numbers[: 3 if numbers[0] == "0" else 2])


def _other_keras(record: TuningRecord, machine: Machine | None) -> bool:
    if not record.machine or not machine:
        return False
    return record.machine.versions.get("keras") != machine.versions.get("keras")


def _of_models(tuned: ModelInfo, here: ModelInfo, *, other_keras: bool) -> Iterator[str]:
    # Another Keras may write the same layers down otherwise, and so change the hash.
    if tuned.sha256 != here.sha256 and not other_keras:
        yield "model: its layers or weights are not those that were tuned"
    # A subclassed model does not tell its inputs: then the record has those of the sample.
    if here.inputs and tuned.inputs != here.inputs:
        yield f"inputs: tuned with {_signature(tuned.inputs)}, here {_signature(here.inputs)}"
    if tuned.backend != here.backend:
        yield f"backend: tuned on {tuned.backend}, here {here.backend}"
    if tuned.dtype_policy != here.dtype_policy:
        yield f"precision: tuned with {tuned.dtype_policy}, here {here.dtype_policy}"
    if tuned.jit_compile != here.jit_compile:
        yield f"jit_compile: tuned with {tuned.jit_compile}, here {here.jit_compile}"


def _signature(inputs: Sequence[Input]) -> str:
    return ", ".join(f"{i.name} of shape {(None, *i.shape)} and dtype {i.dtype}" for i in inputs)


def warning(
    found: Sequence[str],
    folder: Path,
    *,
    held: tuple[int, int] | None = None,
    imports: Sequence[str] = (),
    unsafe: bool = False,
) -> str:
    """Say on one line what differs, what was done about it, and how to tune here.

    Args:
        found: What `differences` returned.
        folder: The tuned folder.
        held: The recommended batch size and the one that is used in its place; None if the same.
        imports: As given to `load`: the command needs them as well.
        unsafe: As given to `load`.
    """
    parts = [f"{folder} was tuned under other conditions ({'; '.join(found)})"]
    parts.append(", so its batch size may not be the best here.")
    if held and held[0] != held[1]:
        parts.append(f" Batches of {held[1]} rows in place of {held[0]}, to fit in free memory.")
    parts.append(f" Tune it here: {_command(folder, imports, unsafe)}")
    return printable("".join(parts), limit=4000)


def _command(folder: Path, imports: Sequence[str], unsafe: bool) -> str:
    place = shlex.quote(str(folder))
    model = shlex.quote(str(folder / "model.keras"))
    options = [f"--import {shlex.quote(name)}" for name in imports]
    options += ["--unsafe-load"] * unsafe
    return " ".join(["autotune tune", model, "--sample ROWS", *options, "--out", place])
