"""Random bad input through the command line's doors: never a traceback, only known exit codes.

    python -m tests.benchmarks.doors [--seed 0]    # 2,000 command lines and damaged files
    python -m tests.benchmarks.doors --short       # 200

Half of them are command lines that Hypothesis draws from what there is, what is nearly so, and what
is no such thing; half are files of each kind that a command reads, cut off or with bytes changed.
No child is started: what a model does in one is the campaigns' of faults and kills.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from tests.doors import damaged, lines, shown, standing_in, try_door
from tests.test_doors import DOORS, furnish

EXAMPLES, SHORT = 2_000, 200

Found = collections.Counter[str]


def campaign(place: Path, count: int, number: int) -> tuple[Found, list[str]]:
    """Try so many doors, and return how often each was tried, and all that went wrong."""
    files, tried, wrong = furnish(place), Found(), list[str]()
    whole = {name: (place / name).read_bytes() for name in DOORS}
    # Hypothesis may not stop at the first: all that goes wrong is to be told.
    options = settings(
        max_examples=count // 2,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @options
    @given(lines(files))
    def type_lines(line: list[str]) -> None:
        tried["command lines"] += 1
        if why := try_door(line):
            wrong.append(f"{shown(line)}\n{why}")

    @seed(number)
    @options
    @given(st.sampled_from(sorted(DOORS)), st.data())
    def damage_files(name: str, data: st.DataObject) -> None:
        tried[name] += 1
        content = data.draw(damaged(whole[name]))
        (place / name).write_bytes(content)
        if why := try_door(DOORS[name].split()):
            wrong.append(f"{name}: {content[:200]!r}\n{why}")
        (place / name).write_bytes(whole[name])

    with standing_in(place):
        type_lines()
        for name, content in whole.items():  # a command line may have written one
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)
        damage_files()
    return tried, wrong


def main() -> None:
    """Print how often each door was tried, and what went wrong; fail if anything did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} in place of {EXAMPLES}")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tried, wrong = campaign(Path(folder), SHORT if chosen.short else EXAMPLES, chosen.seed)
    for name, count in sorted(tried.items()):
        print(f"{name:24}{count:6}")
    print(f"{'in all':24}{sum(tried.values()):6}   seed {chosen.seed}")
    print(f"{'wrong':24}{len(wrong):6}")
    for each in wrong[:10]:
        print(f"\n{each[:1000]}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
