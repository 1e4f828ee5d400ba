"""Every writing command under a limit on the size of files, from nothing to more than it needs."""

import pytest
from commands_that_write import COMMANDS, Bench, Command, strays, summary

# Without a reservation, what does not fit shows only while it is written.
RESERVES = {"with": "", "without": "unreserved(); "}
STEPS, QUICK_STEPS = 64, 4


@pytest.mark.parametrize("reservation", RESERVES)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.quick], ids=str)
def test_every_byte_budget(command: Command, reservation: str, bench: Bench, thorough: bool) -> None:
    if not thorough and reservation == "with":
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    budgets = _budgets(bench.usual(command).most_bytes, thorough)
    faults, ends = {}, []
    for number, budget in enumerate(budgets):
        ended, faults[budget] = bench.run(command, old=number % 2 == 1, first=f"{RESERVES[reservation]}limit({budget})")
        ends.append(ended.code)
        if strays(bench.place):
            faults[budget].append(f"left {strays(bench.place)}")
    print(summary(command, f"budgets {reservation} reservation", faults.values()))
    assert {budget: found for budget, found in faults.items() if found} == {}
    assert ends[0] == 1
    assert ends.count(1) >= len(ends) // 2


def _budgets(most: int, thorough: bool) -> list[int]:
    """KiB by KiB, or in wider steps, up to what the largest file takes, and one byte less and more."""
    step = max(1024, most // (STEPS if thorough else QUICK_STEPS))
    return sorted({*range(0, most, step), most - 1, most + 1})
