"""Memory that runs out on the way: one error for all that libraries say of it, and one try with less at once."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rsseg_models.devices import is_out_of_memory

from rsseg_cli.errors import RssegError

Given = TypeVar("Given")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class OutOfMemoryError(RssegError):
    """There was not enough, of the machine's or of a device's."""


@contextmanager
def memory_told(whose: str, hint: str, file: str | None = None) -> Iterator[None]:
    """Around work that takes much."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
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
