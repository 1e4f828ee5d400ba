"""Memory that runs out: one error, and one try with less."""

import weakref

import pytest
import torch

from rsseg_cli.errors import RssegError
from rsseg_cli.memory import OutOfMemoryError, is_out_of_memory, memory_told, with_less

SHORT = (
    MemoryError("Unable to allocate 37.3 GiB for an array"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 80 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    RuntimeError("can't start new thread"),
    ImportError("_pydantic_core.so: failed to map segment from shared object"),
)


@pytest.mark.parametrize("problem", SHORT, ids=repr)
def test_what_libraries_say_of_it_is_one_error(problem: Exception) -> None:
    assert is_out_of_memory(problem)
    with pytest.raises(OutOfMemoryError, match=r"^a\.tif: not enough memory$") as told, memory_told("a.tif", "do so"):
        raise problem
    assert (told.value.hint, told.value.kind) == ("do so", "environment")


@pytest.mark.parametrize("problem", [RuntimeError("shapes cannot be multiplied"), ValueError("bad_alloc")])
def test_other_errors_stay_what_they_are(problem: Exception) -> None:
    with pytest.raises(type(problem)) as raised, memory_told("a.tif", "do so"):
        raise problem
    assert raised.value is problem


class Held:
    """Stands for what a run takes."""


def test_what_the_first_try_held_is_free_before_the_second(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[weakref.ref[Held]] = []

    def run(given: int) -> int:
        own = Held()
        assert not any(earlier() for earlier in taken)
        taken.append(weakref.ref(own))
        if given > 4:
            with memory_told("a.tif", "do so"):
                raise MemoryError
        return 10 * given

    assert with_less(run, 8, lambda: ("--batch 4", 4)) == (4, 40)
    assert "a.tif: not enough memory; trying once more with --batch 4" in caplog.text
    assert len(taken) == 2


def test_it_is_tried_twice_at_most_and_once_where_nothing_is_less() -> None:
    given: list[int] = []

    def run(batch: int) -> None:
        given.append(batch)
        raise OutOfMemoryError("a.tif: not enough memory", "do so")

    for less in (lambda: ("half", 4), lambda: None):
        with pytest.raises(RssegError, match="not enough memory"):
            with_less(run, 8, less)
    assert given == [8, 4, 8]
