"""What `--method` names: the settings of each method, how long it learns, and how it is made ready."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rsseg_models.da_stc import PAPER as DA_STC_PAPER
from rsseg_models.da_stc import DaStc
from rsseg_models.da_stc import Settings as DaStcSettings
from rsseg_models.da_stc import idle as idle_of_da_stc
from rsseg_models.ktda import PRESETS as KTDA_PRESETS
from rsseg_models.ktda import Ktda
from rsseg_models.ktda import Settings as KtdaSettings
from rsseg_models.network import SegmentationNetwork
from rsseg_models.optimise import Illustrated
from rsseg_models.self_training import SelfTraining
from rsseg_models.self_training import Settings as SelfTrainingSettings
from rsseg_models.source_only import Settings as SourceOnlySettings
from rsseg_models.source_only import SourceOnly
from rsseg_models.st_dasegnet import PAPER, StDasegnet
from rsseg_models.st_dasegnet import Settings as StDasegnetSettings
from rsseg_models.st_dasegnet import idle as idle_of_st_dasegnet
from rsseg_models.teachers import Teacher
from torch import Tensor


@dataclass(frozen=True)
class Ingredients:
    """What methods are made of."""

    network: SegmentationNetwork  # as it starts
    steps: int
    class_weights: Tensor
    class_shares: Tensor  # of the source
    pretrained: bool  # whether the encoder started from published weights
    crop_px: int
    target_norms: float = 0.0  # how far batch norms are to know the target, and not the source
    teacher: Teacher | None = None
    radiometry: float = 0.0  # how colours are to vary, for methods that vary them themselves


@dataclass(frozen=True)
class Method:
    """One way to learn."""

    settings: type[Any]
    make: Callable[[Any, Ingredients], Illustrated[Any]]
    # Steps that reach their best on a CPU in a few minutes.
    steps_from_nothing: int
    steps_from_weights: int
    # The same where the target is a series, if that makes a difference.
    steps_of_series: int | None = None
    # Settings that are usually others for a network that starts from published weights or an earlier model.
    from_weights: Mapping[str, Any] = field(default_factory=dict)
    # Settings to start from, by name: --set preset=NAME.
    presets: Mapping[str, Any] = field(default_factory=dict)
    # Whether crops come as they are: a teacher does not see the colours that its student sees.
    varies_colours: bool = False
    # Whether it looks at clips of series; else at crops of single scenes.
    sees_series: bool = False
    # Whether norms can be told what to know.
    tells_norms: bool = False
    # Names of settings that do nothing, and which other one hinders them.
    idle: Callable[[Any], Mapping[str, str]] = lambda settings: {}


def _made(kind: Callable[..., Illustrated[Any]], settings: Any, given: Ingredients, **own: Any) -> Illustrated[Any]:
    """What all methods are made of, and what one of them has for itself."""
    weights, shares = given.class_weights, given.class_shares
    return kind(given.network, settings, given.steps, weights, shares, pretrained=given.pretrained, **own)


def _self_taught(kind: type[SelfTraining] | type[DaStc], settings: Any, given: Ingredients) -> Illustrated[Any]:
    """A method whose teacher is its own moving average."""
    return _made(kind, settings, given, target_norms=given.target_norms)


def _st_dasegnet(settings: StDasegnetSettings, given: Ingredients) -> Illustrated[Any]:
    return _made(StDasegnet, settings, given, crop_px=given.crop_px, target_norms=given.target_norms)


def _ktda(settings: KtdaSettings, given: Ingredients) -> Illustrated[Any]:
    return _made(Ktda, settings, given, teacher=given.teacher, colours=given.radiometry)


SOURCE_ONLY = "source-only"
METHODS: Mapping[str, Method] = {
    # Published weights lie near many good networks. Learning that never slows down wanders among them, and the mean of
    # where it was carries over better to other places (Cha et al. 2021, arXiv 2102.08604).
    SOURCE_ONLY: Method(
        SourceOnlySettings, partial(_made, SourceOnly), 1200, 600, from_weights={"average": 0.998, "fall": 0.0}
    ),
    # A network from nothing goes on getting better on the target; one from published weights soon does no more.
    "self-training": Method(SelfTrainingSettings, partial(_self_taught, SelfTraining), 1440, 160, tells_norms=True),
    "st-dasegnet": Method(
        StDasegnetSettings, _st_dasegnet, 480, 160, presets={"paper": PAPER}, tells_norms=True, idle=idle_of_st_dasegnet
    ),
    "ktda": Method(KtdaSettings, _ktda, 1200, 600, presets=KTDA_PRESETS, varies_colours=True),
    # On the sample series 480 steps are worse than 160.
    "da-stc": Method(
        DaStcSettings,
        partial(_self_taught, DaStc),
        1440,
        160,
        steps_of_series=160,
        presets={"paper": DA_STC_PAPER},
        sees_series=True,
        tells_norms=True,
        idle=idle_of_da_stc,
    ),
}
