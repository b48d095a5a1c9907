"""Beyond one machine: score on Ray Data, tune a fleet, serve on Ray Serve.

scored = autotune.on_ray.score(dataset, "tuned/")                  # a ray.data.Dataset
autotune.on_ray.tune_fleet("model.keras", sample, out="tuned/")    # for each kind of device
ray.serve.run(autotune.on_ray.deployment("tuned/"))                # over HTTP

Ray itself is imported when the first of these names is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from autotune.errors import InvalidInput

if TYPE_CHECKING:
    from autotune.on_ray.fleet import tune_fleet
    from autotune.on_ray.probing import RayProbe
    from autotune.on_ray.scorefiles import score_files
    from autotune.on_ray.scoring import score
    from autotune.on_ray.serving import deployment

__all__ = ["RayProbe", "deployment", "score", "score_files", "tune_fleet"]

_ROOM_OF = {
    "RayProbe": "probing",
    "deployment": "serving",
    "score": "scoring",
    "score_files": "scorefiles",
    "tune_fleet": "fleet",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        room = importlib.import_module(f"{__name__}.{_ROOM_OF[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "autotune":
            raise
        raise InvalidInput(
            f"autotune.on_ray needs a package that is not installed ({error.name}): "
            "pip install 'keras-autotune[ray]'."
        ) from error
    value = globals()[name] = getattr(room, name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
