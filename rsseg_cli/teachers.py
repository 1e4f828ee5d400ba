"""The teacher that a person names for `ktda`, and how it sees the bands of the scenes."""

import logging
from dataclasses import dataclass
from typing import Any

from rsseg_models.ktda import Settings
from rsseg_models.stem import RGB
from rsseg_models.teachers import (
    SPREAD,
    Composite,
    Teacher,
    described,
    of_colours,
    of_components,
    open_vision_transformer,
)

from rsseg_cli.domain import moments_of
from rsseg_cli.normalisation import FIXED
from rsseg_cli.plan import NO_TEACHER, Plan, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Teaching:
    """A teacher, and what a model's card says of it."""

    teacher: Teacher
    name: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **described(self.teacher)}


def open_teacher(request: Request, plan: Plan, settings: Any) -> Teaching | None:
    """As the person asked for it; None where nothing teaches."""
    name = request.teacher
    if name is None or name == NO_TEACHER:
        return None
    assert isinstance(settings, Settings)
    backbone = open_vision_transformer(name, settings.depths, settings.teacher_norm)
    composite = composite_of(plan)
    logger.info(
        "%s teaches, with tokens of %d pixels of %d channels; it sees %s",
        name,
        backbone.patch_px // settings.teacher_zoom,
        backbone.width,
        composite.rule,
    )
    return Teaching(Teacher(backbone, composite, settings.teacher_zoom), name)


def composite_of(plan: Plan) -> Composite:
    """Red, green and blue where the scenes have them, else the directions in which their bands vary most.

    Bands come standardised: the 2nd and 98th percentile of a domain, or of photographs, are brought to 0 and 1.
    """
    names = [name.casefold() for name in plan.bands]
    normalisation = plan.domain.normalisations[0]
    if set(RGB) <= set(names):
        if normalisation.rule == "robust":
            return of_colours(names, RGB, 1 / SPREAD, 0.5)
        centre, spread = FIXED["uint8"]
        return of_colours(names, RGB, spread / 255, centre / 255)
    moments = moments_of([pair.scene for pair in plan.domain.pairs], normalisation)
    return of_components(moments.mean.tolist(), moments.covariance.tolist())
