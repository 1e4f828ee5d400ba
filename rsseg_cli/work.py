"""Work: what a run has to do, with everything settled but how many steps there is time for.

A method that adapts has two stages: a model of the source alone first, and then the method, which starts from it.
"""

import copy
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rsseg_models.network import SegmentationNetwork
from rsseg_models.norms import norms_of, settled
from rsseg_models.optimise import Illustrated, Report, optimise, typical_seconds

from rsseg_cli.errors import RssegError
from rsseg_cli.methods import METHODS, Ingredients
from rsseg_cli.patches import ClipsOfBoth, Drawer, OfBoth, SourceCrops, TargetCrops, class_weights
from rsseg_cli.plan import Plan, Request
from rsseg_cli.selection import CHECKPOINTS, Judge, Way
from rsseg_cli.target import Target
from rsseg_cli.teachers import Teaching
from rsseg_cli.validation import seen_windows

# What is done, at most, to learn how long a step takes.
MEASURED_STEPS, MEASURED_S = 8, 4.0
# Of the time there is, what is planned for; steps may turn out slower than those measured.
SPARE = 0.95
# Source-only is judged as it is and seen in a way; to find out how sure the model may be takes as long once more.
OTHER_LOOKS = 3
# How far norms may know the target, and not the source. Which is better is not seen before something is learned: over
# five pairs drawn alike, each was the better one by up to eight points of mIoU.
TARGET_NORMS = (0.5, 1.0)
# Of the steps of the second stage, those after which the better one goes on alone; and how many it takes to tell: of
# seven runs of 480 steps the worse one was ahead in two after 120 and after 240, in none after 360.
TRIED, LEAST_TRIED = 0.25, 360
# Batches that tell norms what the target is like, and the number of the first.
SETTLING, SETTLING_CROPS = 8, 20_000_000
# Where crops of the second stage are numbered from, so that they are others.
OTHER_CROPS = 10_000_000
# Before the names of settings that are of the first stage, in which a model of the source alone is learned.
OF_SOURCE = "source."
# Of a rate that was too fast, what is worth a try.
SLOWER = 0.25


@dataclass(frozen=True)
class Stage:
    """One method for so many steps."""

    method: str
    settings: Any
    steps: int
    adapts: bool  # whether it sees the target


@dataclass(frozen=True)
class Pace:
    """How many steps each stage has, and what they cost."""

    steps: tuple[int, ...]
    step_s: tuple[float, ...] = ()
    scoring_s: float = 0.0  # of the held-back source, and of all candidates
    others: int = 0  # ways that have a trial in the last stage beside the one that goes on

    @property
    def seconds(self) -> float:
        return self.scoring_s + self.seconds_from(0)

    def seconds_from(self, number: int) -> float:
        """Of this stage and those after it."""
        tried = [0] * (len(self.steps) - 1) + [self.others * trial_steps(self.steps[-1])]
        return sum([(n + more) * s for n, more, s in zip(self.steps, tried, self.step_s, strict=True)][number:])

    def within(self, seconds: float) -> "Pace":
        """With fewer steps of each stage, in proportion, where there is no time for all."""
        pace, part = self, 1.0
        while pace.seconds_from(0) > seconds and max(pace.steps) > 1:
            part *= 0.99
            pace = replace(self, steps=tuple(max(1, int(part * steps)) for steps in self.steps))
        return pace


def trial_steps(steps: int) -> int:
    return min(steps, max(LEAST_TRIED, round(TRIED * steps)))


@dataclass(frozen=True, eq=False)
class Work:
    """A request with everything settled but how many steps there is time for."""

    request: Request
    plan: Plan
    network: SegmentationNetwork  # as it starts
    origin: Mapping[str, Any]  # what its weights come from; empty: from nothing
    stages: tuple[Stage, ...]
    device: str
    teaching: Teaching | None = None

    @property
    def taught_by(self) -> dict[str, Any]:
        """For the model's card."""
        return {"teacher": self.teaching.to_json()} if self.teaching else {}

    @property
    def first_way(self) -> Way:
        """How the target is seen before there is anything to choose by."""
        return Way(next(iter(self.plan.normalisations)))

    def adapter(self, number: int, steps: int, network: SegmentationNetwork, way: Way) -> Illustrated[Any]:
        """The method of a stage before its first step; the same each time."""
        torch.manual_seed(self.request.crops.seed)
        stage, training = self.stages[number], self.plan.domain.training
        given = Ingredients(
            copy.deepcopy(network).to(self.device).requires_grad_(True),
            steps,
            class_weights(training).to(self.device),
            torch.tensor(training.shares, dtype=torch.float32, device=self.device),
            "encoder_weights" in self.origin if stage.adapts else bool(self.origin),
            self.request.crops.crop_px,
            way.target_norms,
            self.teaching.teacher.to(self.device) if self.teaching else None,
            self.request.crops.radiometry,
        )
        return METHODS[stage.method].make(stage.settings, given)

    def ways(self, match: str) -> tuple[Way, ...]:
        """How the target may be seen, with its bands matched so: what norms know can differ where an encoder has any.

        Those of a head alone would change what it makes of features that know nothing of the target: on Dubai, with a
        MobileNetV2, that cost two points of mIoU in the mean of four runs. A series is not of one kind.
        """
        tells = METHODS[self.stages[-1].method].tells_norms and norms_of(self.network.encoder)
        if not tells or self._target(match).timeline.most_dates > 1:
            return (Way(match),)
        return tuple(Way(match, part) for part in TARGET_NORMS)

    def settled(self, network: SegmentationNetwork, way: Way) -> SegmentationNetwork:
        """The network with norms that know the target as far as that."""
        if not way.target_norms:
            return network
        draw = TargetCrops(self._target(way.match), self.request.crops)
        bands = (draw(SETTLING_CROPS + number).bands.to(self.device) for number in range(SETTLING))
        return settled(copy.deepcopy(network).to(self.device), bands, way.target_norms).cpu()

    def _target(self, match: str) -> Target:
        assert self.plan.target is not None
        return replace(self.plan.target, normalisation=self.plan.normalisations[match])

    def reports(
        self, number: int, adapter: Illustrated[Any], match: str, steps: int, first: int = 0
    ) -> Generator[Report]:
        """Steps of a stage as they are done."""
        crops, draw = self.request.crops, self._draw(number, match)
        first_crops = OTHER_CROPS if self.stages[number].adapts else 0
        drawer = Drawer(lambda step: draw(first_crops + step), steps)
        try:
            yield from optimise(adapter, lambda step: drawer(step).to(self.device), steps, crops.seed, first)
        except FloatingPointError as problem:
            raise RssegError(f"{self.stages[number].method} failed: {problem}", self._slower(number)) from problem
        finally:
            drawer.close()

    def _slower(self, number: int) -> str:
        """What to do where a stage learned too fast. Nothing of that is in the checkpoint."""
        name = "learning_rate" if number == len(self.stages) - 1 else f"{OF_SOURCE}learning_rate"
        rate, workdir = SLOWER * self.stages[number].settings.learning_rate, self.request.workdir
        anew = f", from the first step; {workdir} holds what was sound before" if workdir else ""
        return f"learn more slowly: --set {name}={rate:.2g}{anew}"

    def _draw(self, number: int, match: str) -> Callable[[int], Any]:
        crops = self.request.crops
        if METHODS[self.stages[number].method].varies_colours:
            crops = replace(crops, radiometry=0.0)
        source = SourceCrops(self.plan.domain, crops)
        if not self.stages[number].adapts:
            return source
        target, stage = TargetCrops(self._target(match), self.request.crops), self.stages[number]
        if METHODS[stage.method].sees_series:
            return ClipsOfBoth(source, target, stage.settings.frames)
        return OfBoth(source, target)

    def judge(self) -> Judge | None:
        """Who compares candidates, where there is more than one."""
        if not self.stages[-1].adapts:
            return None
        assert self.plan.target is not None
        judge = Judge(self.plan.target, self.plan.normalisations, self.device, self.request.crops.seed)
        return judge if judge else None

    def pace(self, deadline: float) -> Pace:
        """All steps, or as many as there is time for, judged by a few that are forgotten again."""
        judge = self.judge()
        way, *others = self.ways(self.first_way.match) if judge else (self.first_way,)
        step_s = tuple(self._step_s(number, way) for number in range(len(self.stages)))
        scoring_s = self._scoring_s(step_s[0], judge, len(others))
        pace = Pace(tuple(stage.steps for stage in self.stages), step_s, scoring_s, len(others))
        if deadline == math.inf:
            return pace
        left = SPARE * (deadline - time.monotonic() - pace.scoring_s)
        if not self.stages[-1].adapts:
            fitting = max(1, int(left / step_s[0]))
            return replace(pace, steps=(min(fitting, self.request.steps or fitting),))
        return pace.within(left)

    def _step_s(self, number: int, way: Way) -> float:
        adapter = self.adapter(number, MEASURED_STEPS, self.network, way)
        with closing(self.reports(number, adapter, way.match, MEASURED_STEPS)) as reports:
            return typical_seconds(reports, MEASURED_S)

    def _scoring_s(self, step_s: float, judge: Judge | None, others: int) -> float:
        crops = self.request.crops
        scored_px: int = sum(window.height * window.width for _, _, window in seen_windows(self.plan.domain))
        seconds = 1 + scored_px * step_s / (crops.batch * crops.crop_px**2)
        if judge:
            started = time.perf_counter()
            judge.score(self.network, self.first_way)
            # Where steps are few a trial is the whole stage.
            looks = CHECKPOINTS + OTHER_LOOKS + others * (CHECKPOINTS + 1)
            seconds += looks * (time.perf_counter() - started)
            started = time.perf_counter()
            judge.outlook(self.network, self.first_way)
            seconds += (len(self.plan.normalisations) + 2 + others) * (time.perf_counter() - started)
        return seconds

    def settings_in_full(self, pace: Pace) -> dict[str, Any]:
        """What --settings reads again."""
        *earlier, last = zip(self.stages, pace.steps, strict=True)
        own = {"steps": last[1]} | asdict(self.request.crops) | asdict(last[0].settings)
        return own | {
            f"{OF_SOURCE}{name}": value
            for stage, steps in earlier
            for name, value in ({"steps": steps} | asdict(stage.settings)).items()
        }
