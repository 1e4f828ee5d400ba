"""Several runs on one output, readers that cannot wait, and programs that hold what is to be written."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from commands_that_write import COMMANDS, VECTORIZE, Bench, Command, chosen, found, strays
from running import is_running

RUNS = 8
ROUNDS, QUICK_ROUNDS = 10, 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.adds], ids=str)
def test_of_many_runs_on_one_output_one_wins(command: Command, bench: Bench, thorough: bool) -> None:
    if command not in chosen(thorough) or not (thorough or command.name in ("segment", "vectorize to gpkg")):
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    wanted = bench.usual(command).files
    bench.clear(command)
    ends = [running.end() for running in [bench.start(command) for _ in range(RUNS)]]
    assert sorted(ended.code for ended in ends) == [0] + [1] * (RUNS - 1)
    refused = [ended.stderr for ended in ends if ended.code == 1]
    assert all("another rsseg run" in said or "exists already" in said for said in refused), refused
    assert not any("Traceback" in said for said in refused)
    assert (found(bench.place, command), strays(bench.place)) == (wanted, [])
    print(f"{command}: {sum('another rsseg run' in said for said in refused)} of {RUNS} refused while one wrote")


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.adds], ids=str)
def test_who_reads_all_the_time_sees_no_partial_file(command: Command, bench: Bench, thorough: bool) -> None:
    if command not in chosen(thorough):
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    wanted, looks = bench.usual(command).files, 0
    for _ in range(ROUNDS if thorough else QUICK_ROUNDS):
        bench.clear(command, old=True)
        before = found(bench.place, command)
        running = bench.start(command, old=True)
        while is_running(running.pid):
            seen = found(bench.place, command)
            assert not [name for name in seen if seen[name] not in (before[name], wanted[name])]
            looks += 1
            time.sleep(0.003)  # the run needs the core too
        assert running.end().code == 0
        assert found(bench.place, command) == wanted
    print(f"{command}: {looks} looks, 0 partial")
    assert looks > 10


@pytest.mark.parametrize("more", [["--overwrite"], ["--append", "--layer", "more"]], ids=["overwrite", "append"])
def test_a_geopackage_that_another_program_holds_is_not_touched(bench: Bench, more: list[str]) -> None:
    command = VECTORIZE[0]
    bench.clear(command)
    file = bench.place / "map.gpkg"
    assert bench.start(command).end().code == 0
    with closing(sqlite3.connect(file)) as held:
        held.execute("PRAGMA journal_mode = WAL")
        held.execute("CREATE TABLE theirs (x)")
        held.commit()
        before = file.read_bytes()
        ended = bench.start(command, *more).end()
        assert (ended.code, file.read_bytes()) == (1, before)
        assert "map.gpkg: is open in another program" in ended.stderr
        held.execute("INSERT INTO theirs VALUES (1)")
        held.commit()
    assert _check(file) == "ok"
    assert strays(bench.place) == []


def _check(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return found


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_failure_is_one_json_object(command: Command, bench: Bench, thorough: bool) -> None:
    if command not in chosen(thorough):
        pytest.skip("RSSEG_ALL_FAULTS=1 takes it too")
    bench.clear(command)
    ended = bench.start(command, "--json", first="limit(0)").end()
    assert ended.code == 1
    (line,) = ended.stdout.splitlines()
    error = json.loads(line)["error"]
    assert set(error) == {"kind", "file", "problem", "hint"}
    assert error["hint"]
    assert Path(error["file"]).name in (*command.outputs, "work", "checkpoint.pt")
