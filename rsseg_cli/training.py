"""Training: a run through its stages, which can be interrupted at any step and goes on as if it had not been.

A method that adapts has two: a model of the source alone first, and then the method, which starts from it. Of the
second stage, checkpoints are judged without labels beside the model it started from, and the best is kept.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rsseg_models.kept import Kept
from rsseg_models.network import SegmentationNetwork
from rsseg_models.norms import norms_of, settled
from rsseg_models.optimise import Illustrated, Report, optimise, typical_seconds

from rsseg_cli.diary import Diary
from rsseg_cli.errors import RssegError
from rsseg_cli.methods import METHODS, Ingredients
from rsseg_cli.patches import ClipsOfBoth, Drawer, OfBoth, SourceCrops, TargetCrops, class_weights
from rsseg_cli.plan import Plan, Request
from rsseg_cli.progress import Track
from rsseg_cli.selection import CHECKPOINTS, CLEARLY, Candidates, Judge, Way, least_doubtful
from rsseg_cli.target import Target
from rsseg_cli.teachers import Teaching
from rsseg_cli.validation import seen_windows

CHECKPOINT_EVERY = 100
LOG_EVERY = 50
# What is tried out, at most, to learn how long a step takes.
TRIAL_STEPS, TRIAL_S = 8, 4.0
# Of the time there is, what is planned for; steps may turn out slower than those tried.
SPARE = 0.95
# Source-only is judged as it is and on the way chosen; to find out how sure the model may be takes as long once more.
OTHER_LOOKS = 3
# Batches that tell norms what the target is like, and the number of the first.
SETTLING, SETTLING_CROPS = 8, 20_000_000
# A model of fewer steps knows next to nothing.
FEW_STEPS = 50
# Where crops of the second stage are numbered from, so that they are others.
OTHER_CROPS = 10_000_000
# Before the names of settings that are of the first stage, in which a model of the source alone is learned.
OF_SOURCE = "source."
# Of a rate that was too fast, what is worth a try.
SLOWER = 0.25

logger = logging.getLogger(__name__)


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

    @property
    def seconds(self) -> float:
        return self.scoring_s + sum(n * s for n, s in zip(self.steps, self.step_s, strict=True))


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

    def settled(self, network: SegmentationNetwork, match: str) -> SegmentationNetwork | None:
        """The network with norms that know the target alone, where its encoder has any; a series is not of one kind.

        Those of a head alone would change what it makes of features that know nothing of the target: on Dubai, with a
        MobileNetV2, that cost two points of mIoU in the mean of four runs, and left less doubt all the same.
        """
        if not norms_of(network.encoder) or self._target(match).timeline.most_dates > 1:
            return None
        draw = TargetCrops(self._target(match), self.request.crops)
        bands = (draw(SETTLING_CROPS + number).bands.to(self.device) for number in range(SETTLING))
        return settled(copy.deepcopy(network).to(self.device), bands).cpu()

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
        step_s = tuple(map(self._step_s, range(len(self.stages))))
        pace = Pace(tuple(stage.steps for stage in self.stages), step_s, self._scoring_s(step_s[0]))
        if deadline == math.inf:
            return pace
        left = SPARE * (deadline - time.monotonic() - pace.scoring_s)
        if not self.stages[-1].adapts:
            fitting = max(1, int(left / step_s[0]))
            return replace(pace, steps=(min(fitting, self.request.steps or fitting),))
        part = min(1.0, left / (pace.seconds - pace.scoring_s))
        return replace(pace, steps=tuple(max(1, int(part * steps)) for steps in pace.steps))

    def _step_s(self, number: int) -> float:
        # Norms that know the target alone cost a pass more: what is expected is the longer way.
        adapter = self.adapter(number, TRIAL_STEPS, self.network, replace(self.first_way, target_norms=True))
        with closing(self.reports(number, adapter, self.first_way.match, TRIAL_STEPS)) as reports:
            return typical_seconds(reports, TRIAL_S)

    def _scoring_s(self, step_s: float) -> float:
        crops = self.request.crops
        scored_px: int = sum(window.height * window.width for _, _, window in seen_windows(self.plan.domain))
        seconds = 1 + scored_px * step_s / (crops.batch * crops.crop_px**2)
        if judge := self.judge():
            started = time.perf_counter()
            judge.score(self.network, self.first_way)
            seconds += (CHECKPOINTS + OTHER_LOOKS) * (time.perf_counter() - started)
            started = time.perf_counter()
            judge.outlook(self.network, self.first_way)
            seconds += (len(self.plan.normalisations) + 3) * (time.perf_counter() - started)
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


@dataclass(frozen=True, eq=False)
class Learned:
    """What a run ends with."""

    network: Kept  # that is delivered
    match: str  # how the target's bands are brought to the source's statistics for it
    before: SegmentationNetwork  # of the source alone
    candidates: Candidates | None  # None: nothing was judged
    pace: Pace  # with the steps that were done


class Run:
    """A run on its way: which stage, which step, and what was judged so far."""

    def __init__(self, work: Work, pace: Pace, diary: Diary | None = None) -> None:
        self.work, self.pace, self.diary = work, pace, diary
        self.candidates, self.judge, self.way = Candidates(), work.judge(), work.first_way
        self._enter(0, work.network)

    def _enter(self, number: int, start: SegmentationNetwork) -> None:
        """A stage, before its first step."""
        self.number, self.start, self.step = number, start, 0
        self.adapts = self.work.stages[number].adapts
        self.adapter = self._adapter(start)

    def _adapter(self, network: SegmentationNetwork) -> Illustrated[Any]:
        return self.work.adapter(self.number, self.pace.steps[self.number], network, self.way)

    def learn(self, track: Track, deadline: float, save: Callable[["Run"], None]) -> Learned:
        """All that is left of the stages. `save` is called where the run may go on from."""
        while True:
            if self.adapts and not self.candidates.scores:
                self._choose_way()
                save(self)
            self._stage(track, deadline, save)
            if self.number == len(self.work.stages) - 1:
                return self._delivered()
            self._enter(self.number + 1, self._own_network())
            save(self)

    def _choose_way(self) -> None:
        """Has source-only see the target in every way, and goes on with what leaves it least in doubt."""
        if self.judge is None:
            logger.warning(
                "too little target to hold some of it back: it is seen %s, and the last step is delivered unjudged",
                self.way,
            )
            return
        way, network = self._least_doubtful(self.judge)
        logger.info("the target is seen %s, judged by how sure that leaves source-only", way)
        # A map of one class alone holds together perfectly, and may be all that source-only makes of another sensor's
        # target as it is: what it finds in either way has to be found.
        self.judge.expect(self.start, self.way)
        self.judge.expect(network, way)
        self._offer(self.start)
        if way != self.way:
            self.way = way
            self._offer(network)
            self.adapter = self._adapter(network)

    def _least_doubtful(self, judge: Judge) -> tuple[Way, SegmentationNetwork]:
        """How bands are matched comes first: norms of the target make up for much of it, and doubt falls by them."""
        outlooks = {Way(match): judge.outlook(self.start, Way(match)) for match in self.work.plan.normalisations}
        way = least_doubtful(outlooks, CLEARLY)
        own, network = replace(way, target_norms=True), self.work.settled(self.start, way.match)
        if network is not None:
            outlooks[own] = judge.outlook(network, own)
        for seen, outlook in outlooks.items():
            logger.debug("%s: %.3f of all doubt is left, %.3f is told", seen, outlook.doubt, outlook.told)
        if network is not None and least_doubtful({way: outlooks[way], own: outlooks[own]}) == own:
            return own, network
        return way, self.start

    def _stage(self, track: Track, deadline: float, save: Callable[["Run"], None]) -> None:
        steps, stage = self.pace.steps[self.number], self.work.stages[self.number]
        reports = self.work.reports(self.number, self.adapter, self.way.match, steps, self.step)
        for report in track(reports, stage.method, steps - self.step):
            self.step = report.step
            if self.diary:
                self.diary.note(stage.method, self.step, report.losses)
            if self.step % LOG_EVERY == 0:
                logger.debug("%s, step %d: %s", stage.method, self.step, _in_words(report.losses))
            is_late = self._is_late(deadline)
            if self.adapts and (self.step in _judged_at(steps) or is_late):
                score = self._offer(self.adapter.network)
                logger.info("step %d of %d: %s", self.step, steps, _in_words(report.losses | score))
                save(self)
            elif self.step % CHECKPOINT_EVERY == 0:
                save(self)
            if is_late:
                logger.warning("stopped after step %d of %d: steps became slower, and time is up", self.step, steps)
                done = (*self.pace.steps[: self.number], self.step, *self.pace.steps[self.number + 1 :])
                self.pace = replace(self.pace, steps=done)
                return

    def _is_late(self, deadline: float) -> bool:
        """Whether there is no time for one more step of this stage, and for all that comes after it."""
        if deadline == math.inf or self.step == self.pace.steps[self.number]:
            return False
        later = slice(self.number + 1, None)
        after = sum(n * s for n, s in zip(self.pace.steps[later], self.pace.step_s[later], strict=True))
        return time.monotonic() > deadline - self.pace.scoring_s - after - self.pace.step_s[self.number]

    def _offer(self, network: Any) -> dict[str, float]:
        """Has a candidate judged."""
        if self.judge is None:
            return {}
        score = self.judge.score(network, self.way)
        self.candidates.offer(self.step, self.way, score, network)
        if self.diary:
            self.diary.note(self.work.stages[self.number].method, self.step, {f"score, {self.way}": score})
            self.diary.show(f"target_{self.step:06d}_{self.way.match}", *self.judge.shown())
            for name, (bands, labels) in self.adapter.pictures().items():
                self.diary.show(f"{name}_{self.step:06d}", bands.cpu().numpy(), labels.cpu().numpy())
        return {"score": score}

    def _own_network(self) -> SegmentationNetwork:
        network = self.adapter.network
        assert isinstance(network, SegmentationNetwork)
        return copy.deepcopy(network).cpu()

    def _delivered(self) -> Learned:
        last: Any = copy.deepcopy(self.adapter.network).cpu()
        if self.judge is None:
            return Learned(last, self.way.match, self.start if self.adapts else last, None, self.pace)
        kept = last if self.candidates.has_learned else copy.deepcopy(self.start)
        kept.load_state_dict(self.candidates.state)
        return Learned(kept, self.candidates.match, self.start, self.candidates, self.pace)

    def state_dict(self) -> dict[str, Any]:
        return {
            "pace": asdict(self.pace),
            "stage": self.number,
            "step": self.step,
            "start": self.start.state_dict() if self.number else None,
            "adapter": self.adapter.state_dict(),
            "way": asdict(self.way),
            "candidates": vars(self.candidates),
            "wanted": self.judge.wanted if self.judge else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["stage"]:
            start = copy.deepcopy(self.work.network)
            start.load_state_dict(state["start"])
            self._enter(state["stage"], start)
        self.step, self.way, self.candidates = state["step"], Way(**state["way"]), Candidates(**state["candidates"])
        self.adapter = self._adapter(self.start)
        self.adapter.load_state_dict(state["adapter"])
        if self.judge:
            self.judge.wanted = state["wanted"]


def _in_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _judged_at(steps: int) -> set[int]:
    """Equally spaced, the last step among them; all of fewer."""
    return {round(number * steps / CHECKPOINTS) for number in range(1, CHECKPOINTS + 1)} - {0}
