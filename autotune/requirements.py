"""What must be installed for a predictor: just what it imports, as it was when it was tuned."""

from __future__ import annotations

from autotune.engines import FORMATS
from autotune.records import TuningRecord

ALWAYS = ("msgspec", "numpy", "optree", "psutil")
OF_KERAS = ("keras", "ml-dtypes")
ON_GPU = ("nvidia-ml-py",)


def requirements_of(record: TuningRecord) -> str:
    """Return the lines of a `requirements.txt` for a record's predictor.

    autotune itself is not among them: `pip install --no-deps keras-autotune` brings it without
    what tuning needs.
    """
    versions = record.machine.versions if record.machine else {}
    recommendation = record.recommendation
    needed = list(ALWAYS)
    if recommendation and recommendation.engine in FORMATS:
        needed.append(recommendation.engine)
    else:
        needed += [*OF_KERAS, record.model.backend if record.model else "tensorflow"]
    if record.machine and record.machine.device_kind == "gpu":
        needed += ON_GPU
    lines = [f"{name}=={versions[name]}" if name in versions else name for name in sorted(needed)]
    return "\n".join(lines) + "\n"
