"""What a person says about a method, looked at before anything is opened: what it has no use for is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from rsseg_cli.change.methods import Choice, Method
from rsseg_cli.change.threshold import Cut
from rsseg_cli.errors import RssegError

# Methods that optimise a network on the pair; all others are statistics.
OPTIMISED: tuple[Method, ...] = ("metric-cd", "metric-cd-paper")
# Methods that give a score on a scale of its own, with a threshold that belongs to it.
OWN_SCALE: tuple[Method, ...] = ("metric-cd-paper",)


def check_choice(choice: Choice, threshold: str | float) -> None:
    """RssegError for options that do not go with the method. One that is not known is refused with the request."""
    if choice.method not in get_args(Method):
        return
    if choice.method not in OPTIMISED:
        _refuse(choice.method, [option for option, value in _options(choice).items() if value])
    if choice.method in OWN_SCALE and threshold != "auto" and not Cut.of(threshold).is_given:
        raise RssegError(
            f"--threshold {threshold}: {choice.method} has no use for a rule, because its score has a scale of its own",
            "leave it out, or give a number such as 0.7",
        )
    if choice.minutes is not None and not choice.minutes > 0:
        raise RssegError(f"--minutes {choice.minutes:g}: is no time", "give minutes, as in --minutes 5")
    if choice.encoder_weights:
        _check_file(choice.encoder_weights)


def _options(choice: Choice) -> Mapping[str, Any]:
    """What only an optimised network has a use for, where it was given."""
    return {
        "--steps": choice.steps is not None,
        "--minutes": choice.minutes is not None,
        "--encoder": choice.encoder is not None,
        "--encoder-weights": choice.encoder_weights is not None,
        "--set": choice.settings,
        "--device": choice.device != "auto",
    }


def _refuse(method: Method, given: list[str]) -> None:
    if given:
        raise RssegError(
            f"{', '.join(given)}: {method} compares by statistics, without a network that is optimised or a GPU",
            f"leave {'it' if len(given) == 1 else 'them'} out, or use --method {' or '.join(OPTIMISED)}",
        )


def _check_file(weights: str) -> None:
    """What looks like a file has to be one; anything else may be the id of a model."""
    from rsseg_cli.plan import WEIGHT_SUFFIXES

    if not Path(weights).exists() and (weights.count("/") != 1 or weights.endswith(WEIGHT_SUFFIXES)):
        raise RssegError(
            f"{weights}: no such file or folder",
            "check the name; or give the id of a model, OWNER/NAME",
            file=weights,
        )
