"""Without the step that looks at what was written, the suite would find damage that nobody speaks of."""

import errno

import pytest
from commands_that_write import COMMANDS, Bench, Command

# Of rasters, tests/raster/test_write.py shows the same: it takes larger ones, and several threads.
WRITTEN = [command for command in COMMANDS if command.name == "vectorize to gpkg"]


@pytest.mark.parametrize("command", WRITTEN, ids=str)
def test_without_verification_damage_would_be_silent(command: Command, bench: Bench, thorough: bool) -> None:
    most = bench.usual(command).most_bytes
    budgets = range(most // 2, most, 1024 if thorough else most // 8)
    silent = [size for size in budgets if "silent" in _faults(command, bench, f"limit({size})")]
    if bench.rsseg.can_fail:
        calls = range(1, bench.usual(command).calls + 1, 4 if thorough else 24)
        failing = [bench.failing(number, errno.ENOSPC) for number in calls]
        silent += [first for first in failing if "silent" in _faults(command, bench, first)]
    print(f"{command}: {len(silent)} silent without verification")
    assert silent


def _faults(command: Command, bench: Bench, first: str) -> list[str]:
    return bench.run(command, first=f"unverified(); unreserved(); {first}")[1]
