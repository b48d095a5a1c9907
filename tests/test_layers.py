"""The house: which room may import which, and which outside world has its home where.

A room below may never import one above; a new import is a decision, and stands here.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import autotune

HOME = Path(autotune.__file__).parent

# room: (floor, rooms it may import, packages of the outside world that it may import)
ROOMS: dict[str, tuple[int, str, str]] = {
    "allocator": (0, "", "jax tensorflow torch"),
    "backends": (0, "", "jax keras tensorflow torch"),
    "comparing": (0, "", "numpy"),
    "cuda": (0, "", ""),
    "dtypes": (0, "", "ml_dtypes numpy"),
    "errors": (0, "records", ""),  # for type checkers only: an error carries a record
    "flights": (0, "", ""),
    "forecast": (0, "", ""),
    "futures": (0, "", ""),
    "gauges": (0, "", ""),
    "host": (0, "", "psutil"),
    "nvmlcalls": (0, "", "pynvml"),
    "pace": (0, "", ""),
    "pulse": (0, "", "numpy"),
    "report.looks": (0, "", ""),
    "schedule": (0, "", ""),
    "units": (0, "", ""),
    "waiting": (0, "", ""),
    "watch": (0, "", ""),
    "converters": (1, "errors", "numpy onnxruntime openvino tf2onnx"),
    "disturbance": (1, "host", "psutil"),
    "files": (1, "errors", ""),
    "footprint": (1, "allocator host", ""),
    "foreign": (1, "errors", "ml_dtypes numpy torch"),
    "goal": (1, "errors", ""),
    "modelfiles": (1, "errors", ""),
    "nesting": (1, "errors", "numpy optree"),
    "nvml": (1, "nvmlcalls", ""),
    "outcomes": (1, "errors", "msgspec"),
    "settings": (1, "errors", "msgspec yaml"),
    "stats": (1, "pace", "msgspec"),
    "studies": (1, "errors", "filelock optuna sqlalchemy"),
    "device": (2, "backends cuda host nvml", ""),
    "engines.compiled_jax": (2, "errors nesting", "jax keras numpy optree"),
    "engines.compiled_tensorflow": (2, "errors nesting", "keras numpy optree tensorflow"),
    "engines.compiled_torch": (2, "errors nesting", "keras ml_dtypes numpy optree torch"),
    "engines.keras": (2, "nesting", "keras numpy optree"),
    "engines.predict": (2, "nesting", "keras"),
    "joining": (2, "nesting", "numpy"),
    "judging": (2, "goal outcomes units", "numpy"),
    "mapped": (2, "nesting", "numpy"),
    "parity": (2, "nesting", "keras numpy"),
    "records": (2, "errors files goal outcomes", "msgspec"),
    "signature": (2, "dtypes errors nesting", "msgspec numpy optree"),
    "standstills": (2, "outcomes", "numpy"),
    "workload": (2, "errors foreign nesting", "ml_dtypes numpy"),
    "answers": (3, "dtypes errors futures joining nesting workload", "numpy"),
    "batchable": (3, "errors nesting workload", "keras numpy"),
    "calltimes": (3, "judging outcomes", "numpy"),
    "csvfiles": (3, "errors nesting workload", "numpy"),
    "engines.onnxruntime": (3, "errors host nesting signature", "onnxruntime"),
    "engines.openvino": (3, "errors host joining nesting signature", "numpy openvino"),
    "eyes": (3, "device host nvml watch", ""),
    "flattening": (3, "errors nesting signature", "keras"),
    "gathering": (3, "errors mapped nesting", "numpy"),
    "intervals": (3, "comparing judging", ""),
    "known": (3, "judging outcomes", ""),
    "ledger": (3, "errors judging outcomes", "msgspec optuna"),
    "matching": (3, "records", ""),
    "models": (3, "errors modelfiles workload", "keras numpy"),
    "on_ray.sizing": (3, "dtypes records", "ray"),
    "parquetfiles": (3, "nesting", "numpy pyarrow"),
    "interpreter": (3, "standstills", ""),
    "scheduling": (3, "judging outcomes records schedule", "numpy"),
    "splitting": (3, "judging outcomes", ""),
    "tables": (3, "dtypes errors nesting workload", "numpy"),
    "ways": (3, "host judging records", ""),
    "curves": (4, "goal intervals judging outcomes records", "msgspec"),
    "describe": (4, "device host models records workload", "keras"),
    "exports": (
        4,
        "converters engines.onnxruntime engines.openvino errors flattening nesting parity "
        "signature",
        "keras numpy",
    ),
    "guard": (4, "device eyes host watch", ""),
    "inputs": (4, "errors models nesting tables workload", "keras numpy"),
    "queueing": (4, "answers", ""),
    "rowfiles": (4, "csvfiles errors foreign nesting workload", "numpy pyarrow"),
    "shortfall": (4, "goal judging known outcomes units", ""),
    "served": (4, "calltimes outcomes", ""),
    "standing": (4, "comparing goal judging known outcomes", ""),
    "together": (4, "answers nesting", ""),
    "bounds": (5, "forecast goal judging known outcomes records standing", ""),
    "confirming": (5, "intervals judging outcomes standing", ""),
    "dispatching": (5, "answers errors gauges nesting queueing schedule", ""),
    "engines": (5, "errors exports nesting parity", "keras"),
    "fitting": (5, "backends device errors forecast guard host judging nvml outcomes records", ""),
    "intake": (5, "dtypes errors foreign inputs nesting tables workload", "numpy"),
    "jsonrows": (5, "errors inputs nesting records workload", "msgspec numpy"),
    "on_ray.tables": (5, "errors foreign nesting tables workload", "numpy pyarrow ray"),
    "outfiles": (5, "errors files nesting parquetfiles rowfiles workload", "numpy"),
    "racing": (5, "judging outcomes standing", ""),
    "report.words": (5, "curves outcomes records shortfall units", ""),
    "rowpieces": (5, "csvfiles errors foreign nesting rowfiles workload", "numpy pyarrow"),
    "timing": (5, "disturbance flights guard nesting pulse", ""),
    "baselines": (6, "confirming judging outcomes records standing", "msgspec"),
    "service_calls": (
        6,
        "answers dispatching errors joining nesting outcomes pulse schedule timing",
        "numpy optree",
    ),
    "contest": (
        6,
        "comparing confirming errors intervals judging known outcomes records waiting",
        "msgspec",
    ),
    "engines.compiled": (
        6,
        "engines engines.compiled_jax engines.compiled_tensorflow engines.compiled_torch errors "
        "nesting",
        "keras",
    ),
    "ladder": (6, "bounds goal judging outcomes standing", ""),
    "lanes": (6, "bounds goal judging outcomes standing", ""),
    "lineup": (
        6,
        "engines errors exports footprint judging nesting outcomes parity workload",
        "keras",
    ),
    "on_ray.reading": (6, "errors nesting on_ray.tables rowpieces", "pyarrow ray"),
    "recommend": (
        6,
        "comparing confirming errors goal judging outcomes racing records shortfall standing units",
        "",
    ),
    "report": (6, "", ""),
    "report.captions": (6, "curves records report.words units", ""),
    "report.repeating": (6, "curves engines goal records report.words", ""),
    "report.series": (6, "curves records report.words units", ""),
    "report.speeds": (6, "curves records report.words units", "rich"),
    "requirements": (6, "engines records", ""),
    "runner": (6, "engines errors joining nesting pace stats", "numpy optree"),
    "artifact": (7, "engines errors files matching records requirements", "msgspec"),
    "claims": (7, "comparing confirming contest engines judging outcomes records standing", ""),
    "engines.xla": (
        7,
        "engines engines.compiled engines.compiled_tensorflow errors nesting",
        "keras numpy",
    ),
    "fallback": (7, "engines errors outcomes recommend records standing", "msgspec"),
    "fingerprint": (7, "describe device engines errors matching records report units", "keras"),
    "live": (7, "confirming intervals judging outcomes records report units", "rich"),
    "measure": (
        7,
        "allocator device disturbance engines errors footprint guard host lineup mapped nesting "
        "outcomes parity pulse runner schedule service_calls timing units workload",
        "msgspec",
    ),
    "refining": (7, "bounds judging ladder outcomes standing", ""),
    "report.axes": (7, "report.series", "altair"),
    "report.text": (7, "engines outcomes records report.speeds report.words units", "rich"),
    "rehearsals": (7, "errors outcomes records schedule scheduling", "msgspec"),
    "service": (
        7,
        "calltimes dtypes errors judging outcomes records runner served signature splitting "
        "standstills",
        "msgspec",
    ),
    "bench": (
        8,
        "allocator batchable describe device engines host inputs lineup measure records workload",
        "keras",
    ),
    "on_ray.kinds": (8, "fingerprint matching records", ""),
    "queue_simulation": (8, "calltimes interpreter schedule service", ""),
    "report.drawing": (8, "report.axes report.looks report.series report.words units", "altair"),
    "report.facts": (
        8,
        "curves records report.repeating report.series report.text report.words units",
        "",
    ),
    "report.markdown": (8, "curves records report.repeating report.text report.words units", ""),
    "serving": (8, "errors fallback outcomes records runner schedule scheduling units", ""),
    "sources": (
        8,
        "backends engines errors fingerprint models nesting outcomes signature workload",
        "keras",
    ),
    "strategy": (8, "bounds confirming judging ladder lanes outcomes racing refining standing", ""),
    "terminal": (8, "live records report", "rich"),
    "trial": (8, "claims comparing contest goal judging outcomes units", ""),
    "driver": (
        9,
        "baselines bounds confirming errors goal judging ladder ledger outcomes recommend records "
        "standing strategy waiting",
        "msgspec optuna",
    ),
    "handover.order": (
        9,
        "artifact errors inputs models nesting records serving signature workload",
        "keras numpy",
    ),
    "on_ray.machines": (9, "errors fingerprint on_ray.kinds", "ray"),
    "replica": (
        9,
        "calltimes comparing queue_simulation schedule service standstills",
        "numpy",
    ),
    "report.charts": (
        9,
        "errors records report.captions report.drawing report.looks report.series",
        "altair vl_convert",
    ),
    "runners": (9, "dtypes intake nesting outcomes pace runner sources stats", "numpy optree"),
    "worker": (
        9,
        "backends bench device engines errors exports inputs measure models outcomes parity "
        "records schedule workload",
        "keras msgspec",
    ),
    "cutting": (10, "nesting outcomes pace runner runners splitting", ""),
    "handover.curve": (10, "handover.order judging outcomes records report serving", ""),
    "handover.writing": (10, "handover.order records report serving", ""),
    "keeper": (10, "bench models worker", "keras msgspec tensorflow"),
    "report.page": (
        10,
        "records report.charts report.facts report.looks report.series report.words",
        "jinja2 markupsafe vl_convert",
    ),
    "searching": (10, "driver errors goal judging outcomes records studies", "optuna"),
    "setting": (10, "errors records replica scheduling service standstills units", ""),
    "subjects": (10, "batchable errors files inputs modelfiles models worker workload", "keras"),
    "child": (11, "keeper worker", "msgspec"),
    "crew": (11, "cutting flights gathering mapped nesting", ""),
    "handover.bentoml": (11, "artifact errors handover.order handover.writing serving", ""),
    "handover.fastapi": (11, "artifact handover.order handover.writing serving", ""),
    "handover.rayserve": (11, "artifact handover.order handover.writing serving", ""),
    "handover.spark": (
        11,
        "artifact errors handover.order handover.writing inputs records serving",
        "",
    ),
    "handover.tfserving": (
        11,
        "converters errors exports handover.order handover.writing nesting parity serving",
        "keras numpy tensorflow",
    ),
    "handover.triton": (
        11,
        "engines errors exports handover.order handover.writing nesting serving signature",
        "onnxruntime",
    ),
    "plan": (11, "errors records service setting units", "msgspec"),
    "report.writing": (
        11,
        "artifact errors files records report.charts report.markdown report.page",
        "",
    ),
    "checkup": (12, "child host nvml units worker", "msgspec"),
    "family": (12, "child host units", ""),
    "handover": (12, "artifact errors files serving", "msgspec"),
    "plan_report": (12, "plan units", "rich"),
    "predictor": (
        12,
        "artifact crew cutting fallback fitting gathering intake mapped nesting pace records "
        "runner runners sources stats terminal",
        "keras msgspec numpy",
    ),
    "batching": (13, "answers dispatching errors gauges nesting predictor scheduling", ""),
    "doctor": (13, "checkup report units", "rich"),
    "loading": (13, "artifact fingerprint models predictor records sources workload", ""),
    "probe": (13, "child engines errors family host outcomes records schedule worker", "msgspec"),
    "scoring": (13, "errors nesting outfiles predictor records rowpieces terminal", "numpy"),
    "on_ray.packing": (14, "artifact errors files loading predictor", "filelock msgspec ray"),
    "preparation": (
        14,
        "backends bench errors nesting probe records rehearsals subjects worker workload",
        "msgspec",
    ),
    "entrants": (
        15,
        "artifact engines errors fingerprint models nesting outcomes preparation records subjects "
        "units workload",
        "",
    ),
    "on_ray.serving": (
        15,
        "answers artifact errors jsonrows nesting on_ray.packing on_ray.sizing predictor records "
        "schedule scheduling",
        "msgspec numpy ray starlette",
    ),
    "on_ray.shipping": (
        15,
        "models nesting on_ray.packing preparation subjects worker workload",
        "msgspec",
    ),
    "tuning": (
        15,
        "driver engines errors goal guard judging models nesting outcomes predictor preparation "
        "records rehearsals searching studies subjects units ways workload",
        "keras msgspec optuna",
    ),
    "demo": (16, "goal records tuning", "msgspec numpy"),
    "duel": (
        16,
        "artifact comparing contest engines entrants errors intervals models nesting outcomes "
        "records subjects workload",
        "keras msgspec",
    ),
    "on_ray.fleet": (
        16,
        "artifact errors goal models nesting on_ray.kinds on_ray.machines on_ray.packing "
        "on_ray.shipping preparation records studies tuning worker workload",
        "msgspec optuna ray",
    ),
    "on_ray.missing": (
        16,
        "artifact engines errors fingerprint models nesting on_ray.kinds on_ray.packing predictor "
        "tuning",
        "ray",
    ),
    "on_ray.probing": (
        16,
        "errors nesting on_ray.shipping outcomes probe records worker workload",
        "msgspec ray",
    ),
    "verifying": (
        16,
        "artifact claims contest entrants intervals judging nesting outcomes records trial "
        "workload",
        "msgspec",
    ),
    "commands": (17, "", ""),
    "commands.completing": (17, "driver engines goal handover preparation", ""),
    "commands.options": (17, "errors models", "msgspec typer"),
    "findings": (17, "contest duel intervals report trial units verifying", "rich"),
    "on_ray": (17, "errors", ""),
    "on_ray.scoring": (
        17,
        "artifact errors nesting on_ray.missing on_ray.packing on_ray.sizing on_ray.tables "
        "predictor workload",
        "pyarrow ray",
    ),
    "commands.common": (18, "commands.options errors settings terminal", "typer"),
    "commands.compare": (18, "commands.options duel findings rowfiles terminal units", "typer"),
    "commands.demo": (18, "commands.options demo report terminal units", "typer"),
    "commands.doctor": (18, "checkup commands.options doctor terminal", ""),
    "commands.export": (18, "commands.completing commands.options handover", "typer"),
    "commands.plan": (
        18,
        "artifact commands.options plan plan_report records service terminal units",
        "typer",
    ),
    "commands.predict": (18, "commands.options loading on_ray rowfiles scoring", "typer"),
    "commands.report": (18, "artifact commands.options records report report.writing", "typer"),
    "commands.show": (18, "artifact commands.options records report terminal", "typer"),
    "commands.tune": (
        18,
        "artifact commands.completing commands.options errors goal nesting rowfiles studies "
        "terminal tuning units workload",
        "typer",
    ),
    "commands.verify": (18, "commands.options findings rowfiles terminal units verifying", "typer"),
    "on_ray.scorefiles": (
        18,
        "artifact errors files on_ray.reading on_ray.scoring probe worker",
        "pyarrow ray",
    ),
    "cli": (
        19,
        "commands.common commands.compare commands.demo commands.doctor commands.export "
        "commands.plan commands.predict commands.report commands.show commands.tune "
        "commands.verify errors terminal",
        "typer",
    ),
}


def room_of(path: Path) -> str:
    """The name of a file as a room: a folder is the room of its __init__."""
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    room_of(path): path
    for path in HOME.rglob("*.py")
    if path.parent != HOME or path.stem != "__init__"
}


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            rooms = {name for name in inner if name.removeprefix("autotune.") in ROOMS}
            found |= rooms or {node.module}
    return found


def test_every_file_is_a_room_and_every_room_a_file() -> None:
    """The table names the files that there are, no more and no less."""
    assert set(FILES) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_allows(room: str) -> None:
    """A room imports just the rooms and packages in its row, and needs each of them."""
    names = imports_of(FILES[room])
    inside = {n.removeprefix("autotune.") for n in names if n.startswith("autotune.")}
    inside = {n if n in ROOMS else n.partition(".")[0] for n in inside}
    tops = {name.partition(".")[0] for name in names}
    outside = tops - set(sys.stdlib_module_names) - {"autotune"}
    _, rooms, packages = ROOMS[room]
    own_files = {name for name in ROOMS if name.startswith(f"{room}.")}
    assert inside - own_files == set(rooms.split())
    assert outside == set(packages.split())


@pytest.mark.parametrize("room", sorted(ROOMS.keys() - {"errors"}))
def test_a_room_stands_above_the_rooms_that_it_imports(room: str) -> None:
    """No room imports one from a higher floor, so that there is no ring."""
    floor, rooms, _ = ROOMS[room]
    assert all(ROOMS[other][0] < floor for other in rooms.split())
