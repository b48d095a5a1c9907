"""autotune export: what a server needs to serve a tuned model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands import completing
from autotune.commands.options import Imports, Json, Tuned, Unsafe, print_json


def export(
    tuned: Tuned,
    to: Annotated[
        str,
        typer.Option(
            help="tfserving, triton, bentoml, rayserve, spark, fastapi, or csv.",
            autocompletion=completing.targets,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier export that was changed since.")
    ] = False,
    imports: Imports = None,
    unsafe_load: Unsafe = False,
    json: Json = False,
) -> None:
    """Write what a server needs to serve a tuned model the way that was measured to be best.

    Example: autotune export tuned/ --to fastapi --out service/
    """
    from autotune.handover import hand_over

    written = hand_over(tuned, to, out, force=force, imports=imports or (), unsafe=unsafe_load)
    if json:
        print_json(written)
        return
    mine = [name for name in written.files if not name.startswith("tuned/")]
    sys.stdout.write(f"Written to {out}: {', '.join(mine)}\n")
