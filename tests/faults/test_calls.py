"""Every call by which a writing command changes a file fails once: the first, the second, and so on."""

import errno
from itertools import cycle

import pytest
from commands_that_write import COMMANDS, Bench, Command, broken, found, strays, summary

SHORT = -1  # half of what was to be written is
KINDS = {"once": (errno.EIO, errno.ENOSPC, SHORT, errno.EINTR), "for good": (errno.EIO, errno.ENOSPC)}
QUICK_POINTS = 4
FOR_GOOD_STEP = 10  # what fails for good fails as what follows does, too


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.quick], ids=str)
def test_every_failing_call(command: Command, how: str, bench: Bench, thorough: bool) -> None:
    if not thorough and how == "for good":
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    if not bench.rsseg.can_fail:
        pytest.skip("needs Linux and a C compiler, for a library that makes calls fail")
    faults = {}
    for number, problem in zip(_points(bench.usual(command).calls, how, thorough), cycle(KINDS[how]), strict=False):
        old = number // len(KINDS[how]) % 2 == 1
        first = bench.failing(number, problem, how == "for good")
        _, faults[number, problem] = bench.run(command, old=old, first=first)
        if how == "for good":  # a disk that takes nothing any more does not take the old file back, either
            faults[number, problem] = [fault for fault in faults[number, problem] if fault != "replaced"]
        if strays(bench.place):
            faults[number, problem] += _after_another_run(command, bench)
    print(summary(command, f"calls fail {how}", faults.values()))
    assert {point: found for point, found in faults.items() if found} == {}


def _points(calls: int, how: str, thorough: bool) -> range:
    step = 1 if how == "once" else FOR_GOOD_STEP
    return range(1, calls + 1, step if thorough else max(1, calls // QUICK_POINTS))


def _after_another_run(command: Command, bench: Bench) -> list[str]:
    """What could not be cleared away because clearing failed, the next run clears."""
    before = found(bench.place, command)
    if command.adds:
        return []
    again = bench.start(command, old=True).end()
    left = strays(bench.place)
    wanted = bench.usual(command).files
    return broken(again, before, found(bench.place, command), wanted) + ([f"left {left}"] if left else [])
