"""Every writing command on disks that are too small, also where several threads compress."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from commands_that_write import COMMANDS, Bench, Command, chosen, strays, summary

PAGE_KIB = 4
STEPS = 12  # to what the outputs take
QUICK_SHARES = (0.3, 1.1, 20)  # of what the outputs take
# GDAL as rasterio drives it says nothing when threads that compress meet a full disk.
THREADS = "os.environ['GDAL_NUM_THREADS'] = '2'; unreserved()"


@pytest.fixture
def disks(disk: Callable[..., Path], bench: Bench) -> Iterator[Callable[[int], None]]:
    """Has the bench on a disk of so many KiB."""
    usual = bench.place

    def use(kib: int) -> None:
        bench.place = disk(kib)

    yield use
    bench.place = usual


@pytest.mark.parametrize("threads", ["", THREADS], ids=["as usual", "two threads, no reservation"])
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_disks_of_all_sizes(
    command: Command, threads: str, bench: Bench, disks: Callable[[int], None], thorough: bool
) -> None:
    if command not in chosen(thorough) or not (thorough or threads):
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    faults, ends = {}, []
    needed = max(1, bench.usual(command).all_bytes // 1024)
    for more in _sizes(needed) if thorough else [int(needed * share) for share in QUICK_SHARES]:
        kib = more + needed * command.adds  # an old file takes its part of the disk
        disks(kib)
        ended, faults[kib] = bench.run(command, first=threads)
        ends.append(ended.code)
        if "--resume goes on" not in ended.stderr:
            faults[kib] += [f"left {name}" for name in strays(bench.place)]
        if ends[-2:] == [0, 0]:
            break
    print(summary(command, "small disks", faults.values()))
    assert {kib: found for kib, found in faults.items() if found} == {}
    assert ends[0] == 1
    assert ends[-1] == 0


def _sizes(needed_kib: int) -> Iterator[int]:
    """In KiB, to where all of it fits, work that is kept on the way too; in steps that grow."""
    step = max(PAGE_KIB, needed_kib // STEPS)
    return (PAGE_KIB + step * (number + number**2 // STEPS) for number in count())
