"""Scoring on Ray Data: what a killed actor costs, and what Ray itself costs.

    python -m tests.benchmarks.ray_scoring            # about ten minutes
    python -m tests.benchmarks.ray_scoring --short    # a minute: a look whether it works

First a million rows, each with its number, are scored while an actor is killed every few seconds:
each must come out once, with the answer of `model.predict`. Then rows per second through
`on_ray.score` on one actor are set against the same predictor in this process, round after round
in changing order, without the start and the end of what Ray does. A figure is missed where its
whole interval is on the wrong side of what is asked; then the exit status is 1, but for the short
form. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data.extensions import ArrowTensorArray

import autotune
from autotune import artifact, on_ray
from tests.benchmarks import nets
from tests.benchmarks.predictor import figure
from tests.rays import killing

ASKED = 0.85  # rows per second on Ray over those of the predictor in one process
ROWS, SHORT_ROWS = 1_000_000, 40_000
KILL_EVERY_S, SHORT_KILL_EVERY_S = 5.0, 2.0
DISTINCT = 8_192  # rows of the first part; its ids go round
ENGINES = ["onnxruntime"]  # an actor is back in a second, so that most of the time rows are scored
IMAGES, BLOCK = 2_048, 256
ROUNDS, SHORT_ROUNDS = 14, 2
ROUND_S, SHORT_ROUND_S = 12.0, 2.0
TUNING_S, SHORT_TUNING_S = 30.0, 2.0


def tuned(model: Any, rows: Any, folder: Path, short: bool) -> Path:
    """A folder tuned for a model."""
    budget_s = SHORT_TUNING_S if short else TUNING_S
    model.save(folder / f"{model.name}.keras")
    predictor = autotune.tune(
        folder / f"{model.name}.keras", rows, engines=ENGINES, budget_s=budget_s
    )
    place = folder / str(model.name)
    predictor.save(place)
    print(f"{model.name}: {predictor.recommendation.candidate}", flush=True)
    return place


def input_of(place: Path) -> str:
    """The name of a tuned model's only input."""
    info = artifact.read(place).record.model
    assert info is not None
    return info.inputs[0].name


def with_images(table: Any, images: Any) -> Any:
    """Append the images that belong to row numbers, out of an array in the object store."""
    chosen = ray.get(images)[table["id"].to_numpy() % DISTINCT]
    return table.append_column("image", ArrowTensorArray.from_numpy(chosen))


def kill_part(folder: Path, short: bool) -> bool:
    """Score rows while actors are killed; tell whether each came once and right."""
    model, count = nets.cnn(), SHORT_ROWS if short else ROWS
    images = nets.rows_for(model, DISTINCT)
    expected = model.predict(images, verbose=0)
    place = tuned(model, images, folder, short)
    ids = ray.data.range(count, override_num_blocks=max(8, count // 5_000))
    add_images: Any = with_images
    rows = ids.map_batches(
        add_images,
        fn_kwargs={"images": ray.put(images)},
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.5,
    )
    columns = {input_of(place): "image"}
    scored = on_ray.score(rows, place, columns=columns, keep=["id"])
    seen = np.zeros(count, np.int64)
    wrong, start = 0, time.perf_counter()
    with killing("MapWorker", SHORT_KILL_EVERY_S if short else KILL_EVERY_S) as killed:
        for batch in scored.iter_batches(batch_size=None):
            np.add.at(seen, batch["id"], 1)
            right = expected[batch["id"] % DISTINCT]
            close = np.isclose(batch["prediction"], right, rtol=1e-3, atol=1e-4)
            wrong += int(np.count_nonzero(~close.all(axis=1)))
    took_s = time.perf_counter() - start
    lost, doubled = int(np.sum(seen == 0)), int(np.sum(seen > 1))
    print(
        f"{count} rows in {took_s:.0f} s, {len(killed)} actors killed: "
        f"{lost} lost, {doubled} doubled, {wrong} wrong\n",
        flush=True,
    )
    return not (lost or doubled or wrong) and len(killed) > 0


def cost_part(folder: Path, short: bool) -> bool:
    """Compare rows per second on one actor with those of one process; tell whether it's enough."""
    model = nets.mobilenet()
    images = nets.rows_for(model, IMAGES)
    place = tuned(model, images, folder, short)
    predictor = autotune.load(place)
    predictor.predict(images[:BLOCK])
    blocks = [
        ray.data.from_numpy(images[start : start + BLOCK]) for start in range(0, IMAGES, BLOCK)
    ]
    dataset = blocks[0].union(*blocks[1:]).materialize()
    column = {input_of(place): "data"}
    alone = here(predictor, images, 1)
    passes = max(2, round((SHORT_ROUND_S if short else ROUND_S) * alone / IMAGES))
    ways = {
        "on Ray": lambda: there(dataset, place, column, passes),
        "here": lambda: here(predictor, images, passes),
    }
    ratios = []
    for turn in range(SHORT_ROUNDS if short else ROUNDS):
        order = list(ways) if turn % 2 else list(reversed(ways))
        rates = {name: ways[name]() for name in order}
        ratios.append(rates["on Ray"] / rates["here"])
        told = ", ".join(f"{rates[name]:,.1f} rows/s {name}" for name in ways)
        print(f"round {turn + 1:2}: {told}", flush=True)
    ratio = figure(ratios)
    verdict = ratio.against(ASKED)
    print(f"{model.name}, on Ray over one process: {ratio}  asked {ASKED}: {verdict}", flush=True)
    return verdict != "MISSED"


def here(predictor: autotune.TunedPredictor, images: Any, passes: int) -> float:
    """Rows per second of the predictor in this process."""
    start = time.perf_counter()
    for _ in range(passes):
        predictor.predict(images)
    return passes * len(images) / (time.perf_counter() - start)


def there(dataset: Any, place: Path, columns: dict[str, str], passes: int) -> float:
    """Rows per second on one actor, between the first quarter of the rows and the last eighth.

    Answers come in bunches, the first of all: by then some more are ready, and at the end none.
    In between as many wait at any time, but for a bunch: the line that fits all arrivals there
    best hangs on no single one.
    """
    rows = dataset.union(*[dataset] * passes)
    scored = on_ray.score(rows, place, columns=columns, keep=[])
    batches = scored.iter_batches(batch_size=None, prefetch_batches=0)
    came = [(time.perf_counter(), len(batch["prediction"])) for batch in batches]
    times, counts = (np.array(each) for each in zip(*came, strict=True))
    sums = np.cumsum(counts)
    begin, end = np.searchsorted(sums, [sums[-1] / 4, sums[-1] * 7 / 8])
    among = slice(begin, end + 1)
    return float(np.polyfit(times[among] - times[begin], sums[among], 1)[0])


def main() -> None:
    """Run both parts, and fail where a row is lost or a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="see that it works; judge no speed")
    short = parser.parse_args().short
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        whole = kill_part(Path(folder), short)
        fast = cost_part(Path(folder), short)
    ray.shutdown()
    sys.exit(not whole or (not short and not fast))


if __name__ == "__main__":
    main()
