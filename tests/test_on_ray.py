"""The door to what runs on Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

from autotune import on_ray
from autotune.errors import InvalidInput
from tests.rays import ON_RAY


def test_asking_for_the_door_does_not_import_ray() -> None:
    """`autotune.on_ray` itself costs nothing; Ray comes with the first of its names."""
    code = "from autotune import on_ray; import sys; print('ray' in sys.modules, dir(on_ray))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")
    assert all(name in done.stdout for name in on_ray.__all__)


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray is not installed, the error names the extra."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "ray" or name.startswith("autotune.on_ray."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(vars(on_ray), "score", raising=False)
    with pytest.raises(InvalidInput, match=r"pip install 'keras-autotune\[ray\]'"):
        on_ray.score  # noqa: B018


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        on_ray.scores  # noqa: B018


@pytest.mark.parametrize("name", [pytest.param(name, marks=ON_RAY) for name in on_ray.__all__])
def test_every_name_can_be_had(name: str) -> None:
    """Each name that the door has is there, and documented."""
    assert getattr(on_ray, name).__doc__
