"""What rsseg says when the person, not the programmer, can put something right."""

from typing import Literal

Kind = Literal["input", "output", "space", "environment", "stopped"]


class Terminated(BaseException):
    """Somebody sent SIGTERM: unwind as for Ctrl-C, so that nothing half-written stays."""


class RssegError(Exception):
    """A problem the person can mend: what is wrong, and what to do about it."""

    def __init__(self, problem: str, hint: str, *, file: str | None = None, kind: Kind = "input") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.file = file
        self.kind = kind

    def as_json(self) -> dict[str, str | None]:
        return {"kind": self.kind, "file": self.file, "problem": self.problem, "hint": self.hint}
