"""What the networks say when weights or an architecture cannot be used."""


class ModelError(ValueError):
    """A problem with weights or an architecture: what is wrong, and what to do about it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem = problem
        self.hint = hint
