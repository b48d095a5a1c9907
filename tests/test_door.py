"""The package's front door: what `import autotune` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import autotune

HEAVY = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "optuna",
    "altair",
    "jinja2",
    "numpy",
    "rich",
    "typer",
    "ray",
)


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running some code."""
    script = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_autotune_loads_nothing_heavy() -> None:
    """`import autotune` loads neither Keras, nor a backend, nor Optuna, nor what draws reports."""
    assert not modules_after("import autotune") & set(HEAVY)


def test_the_predictor_loads_neither_optuna_nor_a_backend() -> None:
    """Production's import brings nothing of the search, and the backend only with a model."""
    loaded = modules_after("from autotune import load")
    assert not loaded & {"optuna", "keras", "tensorflow", "altair", "ray"}


def test_the_tuner_loads_no_backend() -> None:
    """The parent of a run on a file imports no backend: only the child does."""
    assert not modules_after("from autotune import tune, search") & {"keras", "tensorflow"}


@pytest.mark.parametrize("name", autotune.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    """Each name in `__all__` is there, and is documented where it is not just a type."""
    value = getattr(autotune, name)
    assert value.__doc__ or name in ("Outcome", "Probe")


def test_all_is_sorted_and_shown_by_dir() -> None:
    """`__all__` is in order, and completion finds all of it."""
    assert autotune.__all__ == sorted(autotune.__all__)
    assert set(autotune.__all__) <= set(dir(autotune))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'tunes'"):
        autotune.tunes  # noqa: B018
