"""What it costs to start: `import autotune`, `autotune --help`, `autotune demo`.

    python tests/benchmarks/startup.py

Prints medians and ranges in seconds; nothing else should run meanwhile.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": (["-c", "pass"], 15),
    "import autotune": (["-c", "import autotune"], 15),
    "autotune --help": (["-m", "autotune.cli", "--help"], 15),
    "autotune demo": (["-m", "autotune.cli", "demo"], 3),
}


def main() -> None:
    """Print the table."""
    for name, (arguments, rounds) in COMMANDS.items():
        times = []
        for turn in range(rounds + 1):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            if turn:  # the first one fills the disk cache
                times.append(time.perf_counter() - start)
        middle, low, high = statistics.median(times), min(times), max(times)
        print(f"{name:18} {middle:7.3f} s  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
