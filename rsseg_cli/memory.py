"""Memory that runs out on the way: one error for all that libraries say of it, and one try with less at once."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rsseg_cli.environment import free_memory
from rsseg_cli.errors import RssegError

Given = TypeVar("Given")
Result = TypeVar("Result")

# Where there is no error of its own for it: PyTorch, on a GPU and on a CPU (Linux, Windows), C++, a thread's stack, a
# library that is loaded, and oneDNN, which says no more than what it could not do.
SHORT_OF_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc"),
    *("can't start new thread", "failed to map segment"),
    *("could not create a primitive", "could not execute a primitive", "could not create a memory"),
)

logger = logging.getLogger(__name__)


class OutOfMemoryError(RssegError):
    """There was not enough, of the machine's or of a device's."""


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether this process, or the device, has not enough of it: each library says so in its own way."""
    if isinstance(problem, MemoryError):
        return True
    text = str(problem).lower()
    return isinstance(problem, RuntimeError | ImportError) and any(words in text for words in SHORT_OF_MEMORY)


def out_of_memory() -> OutOfMemoryError:
    """Where nothing is known of what took it."""
    return OutOfMemoryError(
        f"not enough memory: {free_memory() >> 20} MiB are free",
        "close other programs, or give a part of the input, cut out with gdal_translate -srcwin",
        kind="environment",
    )


@contextmanager
def memory_told(whose: str, hint: str, file: str | None = None) -> Iterator[None]:
    """Around work that takes much."""
    try:
        yield
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        raise OutOfMemoryError(f"{whose}: not enough memory", hint, file=file, kind="environment") from problem


def with_less(
    run: Callable[[Given], Result], given: Given, less: Callable[[], tuple[str, Given] | None]
) -> tuple[Given, Result]:
    """What a run came to, and what it was given; where memory runs out, once more with what is less, in words.

    None is less where nothing is, or where a second try would lose what the first has finished.
    """
    try:
        return given, run(given)
    except OutOfMemoryError as problem:
        lighter = less()
        if lighter is None:
            raise
        words, given = lighter
        logger.warning("%s; trying once more with %s", problem.problem, words)
    gc.collect()  # what the first try held
    return given, run(given)
