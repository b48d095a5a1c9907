"""The fingerprint: silent where a recommendation holds, plain words where it may not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune import fingerprint
from autotune.device import Device
from autotune.fingerprint import Here, differences, look_around, look_at, release_of, warning
from autotune.models import ModelFile
from autotune.records import Input, Machine, ModelInfo
from tests.tunings import L4, MODEL, XEON, replaced, tuned_on


def test_the_same_machine_and_model_are_silent(
    mlp: Any, two_by_two: Any, save: Callable[..., Path]
) -> None:
    """What was tuned here, saved and opened again differs in nothing."""
    here = look_around()
    for model in (mlp, two_by_two):
        record = tuned_on(here.machine, look_at(model))
        again = ModelFile(str(save(model)), jit_compile=model.jit_compile).open()
        assert record.machine is not None
        assert record.model is not None
        assert differences(record, look_around().machine, look_at(again)) == ()


def with_versions(**versions: str) -> Machine:
    """The Xeon with other versions of packages."""
    return replaced(XEON, versions=XEON.versions | versions)


@pytest.mark.parametrize(
    ("machine", "phrase"),
    [
        (replaced(XEON, device="AMD EPYC"), "device: tuned on Intel Xeon, here AMD EPYC"),
        (replaced(XEON, cpu_count=8), "processors: tuned with 2, here 8"),
        (replaced(XEON, cpu_quota=0.5), "processors: tuned with 2, here 2 and a quota of 0.5"),
        (replaced(XEON, memory_bytes=2**32), "memory: tuned with 8.00 GiB, here 4.00 GiB"),
        (with_versions(keras="3.16.0"), "keras 3.15.1 -> 3.16.0"),
        (with_versions(tensorflow="2.22.0"), "tensorflow 2.21.0 -> 2.22.0"),
        (replaced(XEON, versions={"keras": "3.15.1"}), "tensorflow 2.21.0 -> not installed"),
    ],
)
def test_what_differs_of_the_machine_is_told(machine: Machine, phrase: str) -> None:
    """One phrase says what it was and what it is."""
    assert differences(tuned_on(XEON), machine, MODEL) == (phrase,)


@pytest.mark.parametrize(
    "machine",
    [
        with_versions(keras="3.15.4"),
        with_versions(numpy="3.0.0", torch="3.0.0", python="3.15"),
        replaced(XEON, memory_bytes=8 * 2**30 - 2**28),
        replaced(XEON, system="Linux 7", device_id="GPU-1"),
    ],
)
def test_what_changes_no_speed_is_not_told(machine: Machine) -> None:
    """Patch releases, packages that do not run the model, a little memory, the kernel."""
    assert differences(tuned_on(XEON), machine, MODEL) == ()


@pytest.mark.parametrize(
    ("model", "phrase"),
    [
        (replaced(MODEL, sha256="1" * 64), "model: its layers or weights are not those"),
        (replaced(MODEL, inputs=(Input("x", (9,), "float32"),)), r"inputs: .*\(None, 10\).*9\)"),
        (replaced(MODEL, backend="jax"), "backend: tuned on tensorflow, here jax"),
        (
            replaced(MODEL, dtype_policy="mixed_float16"),
            "precision: tuned with float32, here mixed_float16",
        ),
        (replaced(MODEL, jit_compile=True), "jit_compile: tuned with False, here True"),
    ],
)
def test_what_differs_of_the_model_is_told(model: ModelInfo, phrase: str) -> None:
    """Weights, inputs, backend, precision and compile flag have a phrase each."""
    (found,) = differences(tuned_on(XEON), XEON, model)
    assert re.match(phrase, found)


def test_another_keras_may_write_a_model_down_otherwise() -> None:
    """The hash is not held against a model that another Keras wrote; its version is told."""
    model = replaced(MODEL, sha256="1" * 64)
    found = differences(tuned_on(XEON), with_versions(keras="3.16.0"), model)
    assert found == ("keras 3.15.1 -> 3.16.0",)


def test_an_engine_that_is_a_package_has_a_version() -> None:
    """The version of ONNX Runtime matters where it runs the model, and only there."""
    tuned, here = with_versions(onnxruntime="1.20.1"), with_versions(onnxruntime="1.21.0")
    record = tuned_on(tuned)
    assert differences(record, here, MODEL) == ()
    chosen = replaced(record.recommendation, engine="onnxruntime")
    found = differences(replaced(record, recommendation=chosen), here, MODEL)
    assert found == ("onnxruntime 1.20.1 -> 1.21.0",)


def test_what_is_not_known_is_no_difference() -> None:
    """A record of a bare probe, a model without inputs, a GPU without NVML: nothing is told."""
    assert differences(tuned_on(None, None), XEON, MODEL) == ()
    assert differences(tuned_on(XEON), None, None) == ()
    assert differences(tuned_on(XEON), XEON, replaced(MODEL, inputs=())) == ()
    assert differences(tuned_on(L4), replaced(L4, device_memory_bytes=None), MODEL) == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3.15.1", "3.15.9", True),
        ("3.15.1", "3.16.1", False),
        ("2.6.0+cu124", "2.6.0", True),
        ("0.4.35", "0.4.36", False),
        ("1", "1.0", False),
        ("", "3", False),
    ],
)
def test_releases_count_and_patches_do_not(one: str, other: str, same: bool) -> None:
    """Below 1.0 the third number tells a release, from there on the second."""
    assert (release_of(one) == release_of(other)) is same


def test_a_trained_model_is_another_model(mlp: Any) -> None:
    """Weights that changed after tuning are found."""
    record = tuned_on(XEON, look_at(mlp))
    mlp.set_weights([weight + 1 for weight in mlp.get_weights()])
    (found,) = differences(record, XEON, look_at(mlp))
    assert found.startswith("model: its layers or weights")


def test_looking_never_fails(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver or a model that fails when it is looked at leaves things untold."""

    def fail(_: object) -> Device:
        raise RuntimeError("the driver\nis confused")

    monkeypatch.setattr(fingerprint, "device_of", fail)
    assert look_around() == Here(keras.config.backend(), None, None)
    nothing: Any = object()
    assert look_at(nothing) is None


def test_the_warning_is_one_line_with_a_command(tmp_path: Path) -> None:
    """It names the differences, what was done, and a command that the shell reads as meant."""
    folder = tmp_path / "my tuned"
    text = warning(["a: b", "c: d"], folder, held=(512, 256), imports=["my_layers"], unsafe=True)
    assert "\n" not in text
    assert "(a: b; c: d)" in text
    assert "256 rows in place of 512" in text
    command = shlex.split(text.partition("Tune it here: ")[2])
    assert command == [
        *("autotune", "tune", str(folder / "model.keras"), "--sample", "ROWS"),
        *("--import", "my_layers", "--unsafe-load", "--out", str(folder)),
    ]
    assert "in place of" not in warning(["a: b"], folder, held=(512, 512))
    assert "in place of" not in warning(["a: b"], folder)


def test_text_from_a_record_cannot_break_the_line() -> None:
    """Names in a record that came from elsewhere are printed as text."""
    record = tuned_on(replaced(XEON, device="Xeon\nERROR \x1b[31m"))
    (found,) = differences(record, XEON, MODEL)
    assert found.isprintable()


def test_neither_optuna_nor_nvml_is_imported() -> None:
    """Looking at a machine without a GPU takes neither."""
    code = (
        "import sys; from autotune import fingerprint, fitting;"
        "fingerprint.look_around();"
        "print({'optuna', 'pynvml'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"
