"""The function for Spark, run on a DataFrame in a Spark of two threads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.handover import hand_over
from tests.handed import PAIR, write_tuned

pytestmark = [
    pytest.mark.needs("onnxruntime"),
    pytest.mark.needs("tf2onnx"),
    pytest.mark.needs("pyspark"),
    pytest.mark.needs("httpx"),
    pytest.mark.skipif(shutil.which("java") is None, reason="needs java, which runs Spark"),
]

# One Spark for both models: it starts in seconds.
SCORE = """
import importlib.util, json, sys
import numpy as np
from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
for folder in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("scoring", f"{folder}/scoring.py")
    scoring = importlib.util.module_from_spec(spec)
    sys.modules["scoring"] = scoring
    spec.loader.exec_module(scoring)
    columns = json.load(open(f"{folder}.json"))
    names = [f"input_{n}" for n in range(len(columns))]
    frame = spark.createDataFrame(list(zip(*columns)), names)
    scored = frame.withColumn("outputs", scoring.tuned_udf()(*names))
    found = [row.asDict(recursive=True) for row in scored.collect()]
    json.dump(found, open(f"{folder}.out", "w"))
spark.stop()
"""


def scored(*folders: Path) -> None:
    """Score the rows beside each folder, with its function."""
    from tests.servers import environment

    quiet = environment(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
    command = [sys.executable, "-c", SCORE, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_frame_gets_the_predictors_outputs(
    exported_folder: Path, tmp_path: Path, two_by_two: Any
) -> None:
    """Each row's outputs are those of `predict`: an array, and a struct of two."""
    import json

    one, two = tmp_path / "one", tmp_path / "two"
    hand_over(exported_folder, "spark", one)
    hand_over(
        write_tuned(tmp_path / "tuned", two_by_two, *PAIR, engine="onnxruntime"), "spark", two
    )
    rows = np.load(exported_folder.parent / "rows.npy")
    pair = {"a": rows[:, :4], "b": rows[:, 4:7]}
    one.with_suffix(".json").write_text(json.dumps([rows.tolist()]))
    two.with_suffix(".json").write_text(json.dumps([x.tolist() for x in pair.values()]))
    scored(one, two)
    expected = np.load(exported_folder.parent / "expected.npy")
    for row in json.loads(one.with_suffix(".out").read_text()):
        place = int(np.argmin(np.abs(rows - row["input_0"]).sum(1)))
        np.testing.assert_allclose(row["outputs"], expected[place], rtol=1e-5, atol=1e-6)
    both = two_by_two.predict_on_batch(pair)
    found = json.loads(two.with_suffix(".out").read_text())
    assert len(found) == len(rows)
    for row in found:
        place = int(np.argmin(np.abs(pair["a"] - row["input_0"]).sum(1)))
        for name, outputs in row["outputs"].items():
            np.testing.assert_allclose(outputs, both[name][place], rtol=1e-5, atol=1e-6)
