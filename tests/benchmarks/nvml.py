"""Whatever NVML does, tuning goes on: every call fails in every way, and all comes back.

    python -m tests.benchmarks.nvml

Each function of NVML that is called returns each error code, hangs, or is missing; then all that
can be asked is asked. Needs Linux and gcc, no GPU, and about ten seconds. Exits with 1 if anything
raised, hung, or was missing without a reason.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fake_driver import FakeDriver
from tests.fake_driver.campaign import (
    CODES,
    FUNCTIONS,
    Answers,
    ask_everything,
    break_call,
    impatience,
    prepare,
)

HANGS, ABSENT = "hangs", "absent"
PATIENCE_S = 60.0
ENDINGS = {
    "answer": "everything was answered as ever, by another call if need be",
    "none": "something is None or empty, and there is a reason",
    "silent": "something is None or empty, and there is no reason",
    "hung": "not everything came back",
    "raised": "an error came through",
}
GOOD = ("answer", "none")


def main() -> int:
    """Print the table, what was missing and why, and the count; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        cases = list(campaign(Path(folder)))
    print_table(cases)
    print_reasons(cases)
    counts = Counter(case.ending for case in cases)
    print(f"\n{len(cases)} cases:", ", ".join(f"{counts[name]} {name}" for name in ENDINGS))
    return 0 if all(case.ending in GOOD for case in cases) else 1


@dataclass(frozen=True, slots=True)
class Case:
    """A function, its fault and how that ended; with what was missing, and why."""

    function: str
    fault: str
    ending: str
    missing: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def campaign(folder: Path) -> Iterator[Case]:
    """Go through all functions and faults."""
    with new_driver(folder, "usual") as driver:
        usual = ask_everything()
        for function in FUNCTIONS:
            for code in CODES:
                break_call(driver, function, f"code {code}")
                yield try_case(function, str(code), usual)
                driver.heal()
    for function in FUNCTIONS:
        with new_driver(folder, f"{function}-hangs") as driver, impatience(driver):
            break_call(driver, function, "hang")
            yield try_case(function, HANGS, usual, directly=False)
    for function, newer in FUNCTIONS.items():
        lacking = tuple(name for name in (function, newer) if name)
        with new_driver(folder, f"{function}-absent", lacking):
            yield try_case(function, ABSENT, usual)


@contextlib.contextmanager
def new_driver(folder: Path, name: str, without: tuple[str, ...] = ()) -> Iterator[FakeDriver]:
    """A driver that has something to tell of everything, in a folder of its own."""
    (folder / name).mkdir()
    with FakeDriver(folder / name, without).loaded() as driver:
        prepare(driver)
        yield driver


def try_case(function: str, fault: str, usual: Answers, directly: bool = True) -> Case:
    """Ask everything in a thread that may raise or hang, and see what comes of it."""
    answers: list[Answers] = []
    errors: list[str] = []

    def ask() -> None:
        try:
            answers.append(ask_everything(directly))
        except BaseException as error:
            errors.append(repr(error))

    before = threading.excepthook
    threading.excepthook = lambda failed: errors.append(repr(failed.exc_value))
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    threading.excepthook = before
    if errors or not answers:
        return Case(function, fault, "raised" if errors else "hung", reasons=tuple(errors))
    expected = usual if directly else replace(usual, memory=None, health=None)
    return judge(function, fault, answers[0], expected)


def judge(function: str, fault: str, answers: Answers, usual: Answers) -> Case:
    """Compare what came back with the usual answers."""
    missing = tuple(answers.missing(usual))
    if not missing:
        return Case(function, fault, "answer")
    new = dict(answers.refused.items() - usual.refused.items())
    reasons = {answers.problem} if answers.problem else set(new.values())
    ending = "none" if answers.has_reason(usual) else "silent"
    return Case(function, fault, ending, missing, tuple(sorted(reasons)))


def print_table(cases: list[Case]) -> None:
    """One row a function, one column a fault."""
    faults = [*map(str, CODES), HANGS, ABSENT]
    endings = {(case.function, case.fault): case.ending for case in cases}
    print(f"{'':46}" + " ".join(f"{fault:>6}" for fault in faults))
    for function in FUNCTIONS:
        row = " ".join(f"{endings[function, fault]:>6}" for fault in faults)
        print(f"{function:46}{row}")
    print()
    print("\n".join(f"{name:>6}  {words}" for name, words in ENDINGS.items()))


def print_reasons(cases: list[Case]) -> None:
    """What was missing while a function failed, and which reasons each fault led to."""
    print("\nMissing at least once while it failed, but did not hang:")
    for function in FUNCTIONS:
        own = [case for case in cases if case.function == function and case.fault != HANGS]
        missing = {name for case in own for name in case.missing}
        print(f"{function:46}{', '.join(sorted(missing)) or 'nothing'}")
    print("\nReasons that were told:")
    for fault in (*map(str, CODES), HANGS, ABSENT):
        reasons = {why for case in cases if case.fault == fault for why in case.reasons}
        print(f"{fault:>6}  {CODES[int(fault)] if fault.isdigit() else ''}".rstrip())
        print("\n".join(f"{'':12}{why}" for why in sorted(reasons)))


if __name__ == "__main__":
    sys.exit(main())
