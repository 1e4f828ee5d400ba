"""Writing commands killed, interrupted and terminated at any moment; and the runs after that."""

import signal
import time
from collections import Counter

import numpy as np
import pytest
from commands_that_write import COMMANDS, Bench, Command, broken, chosen, found, strays

ROUNDS, QUICK_ROUNDS = 20, 3
STOPS = {signal.SIGKILL: (-9,), signal.SIGINT: (130,), signal.SIGTERM: (143,)}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_stopped_at_any_moment(command: Command, bench: Bench, thorough: bool) -> None:
    if command not in chosen(thorough):
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    shares = np.random.default_rng(7).uniform(0, 1, ROUNDS if thorough else QUICK_ROUNDS)
    seconds, ends, faults = bench.usual(command).seconds, Counter(), {}
    for number, share in enumerate(shares):
        stop, old = list(STOPS)[number % 3], number % 2 == 1
        code, found_now = _stopped(command, bench, share * seconds, stop, old)
        began = time.monotonic()
        faults[number, stop.name] = found_now + _goes_on(command, bench)
        if not command.adds:  # which is done once only
            seconds = time.monotonic() - began  # how busy the machine is changes
        ends[code] += 1
    print(f"{command}: {len(faults)} stops, ended by {dict(ends)}, {sum(map(len, faults.values()))} broken promises")
    assert {point: found for point, found in faults.items() if found} == {}


def _stopped(command: Command, bench: Bench, moment: float, stop: signal.Signals, old: bool) -> tuple[int, list[str]]:
    wanted = bench.usual(command).files
    bench.clear(command, old)
    before = found(bench.place, command)
    running = bench.start(command, old=old)
    time.sleep(moment)
    running.kill(stop)
    ended = running.end()
    faults = [fault for fault in broken(ended, before, found(bench.place, command), wanted) if fault != "ended"]
    if ended.code not in (0, *STOPS[stop]):
        faults.append(f"ended with {ended.code}: {ended.stderr}")
    return ended.code, faults


def _goes_on(command: Command, bench: Bench) -> list[str]:
    """The next run, which may go on where the first one was, comes to the same and clears up."""
    wanted, before = bench.usual(command).files, found(bench.place, command)
    if command.adds and before == wanted:  # it would add once more
        return []
    again = bench.start(command, old=True, resume=True).end()
    faults = broken(again, before, found(bench.place, command), wanted)
    return [f"then {fault}" for fault in (*faults, *strays(bench.place))] + [again.stderr] * again.code
