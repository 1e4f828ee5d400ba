"""Settings of methods: what may be set, between which limits, and what most of them have in common."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch

from rsseg_models.errors import ModelError

Number = TypeVar("Number", int, float)


def between(least: float, most: float, default: Number) -> Number:
    """A setting that is a number, both limits included."""
    limited: Any = field(default=default, metadata={"limits": (least, most)})
    return limited  # type: ignore[no-any-return]  # to those who read the class it is its default


def one_of(*known: str) -> str:
    """A setting that is a word; the first is its default."""
    chosen: Any = field(default=known[0], metadata={"known": known})
    return chosen  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Checked:
    """Settings that are refused where they lie beyond their limits."""

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each.name, getattr(self, each.name), each.metadata)


def _check(name: str, value: Any, metadata: Any) -> None:
    least, most = metadata.get("limits", (value, value))
    if not least <= value <= most:
        raise ModelError(f"{name} = {value}: out of range", f"give between {least:g} and {most:g}")
    known = metadata.get("known", (value,))
    if value not in known:
        raise ModelError(f"{name} = {value}: not known", f"use {' or '.join(known)}")


@dataclass(frozen=True)
class Recipe(Checked):
    """How a network learns, whatever from."""

    learning_rate: float = between(0, 1, 2e-3)
    """Of the head, and of an encoder trained from nothing."""
    pretrained_rate: float = between(0, 10, 0.2)
    """Times the learning rate, for an encoder that starts from published weights."""
    weight_decay: float = between(0, 1, 0.01)
    """Pull of weights towards zero."""
    warm_up: float = between(0, 1, 0.05)
    """Part of the steps in which the rate rises."""
    clip: float = between(0, 1e9, 1.0)
    """Longest gradient, as a whole."""
    average: float = between(0, 0.99999, 0.99)
    """Momentum of the moving average that is kept, and teaches where one teaches; 0 keeps the last weights."""
    balance: float = between(0, 1, 0.25)
    """How much of the source's preference for frequent classes is left out of the model: 0 none, 1 all."""
    precision: str = one_of("auto", "float32", "bfloat16")
    """float32, bfloat16, or auto: bfloat16 where the processor is quicker with it."""


def autocast(precision: str, device: str) -> torch.autocast:
    """Within it a network computes with so many bits; `device` is its kind, such as cuda."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
