"""Training: a run through its stages, which can be interrupted at any step and goes on as if it had not been.

Of a stage that adapts, checkpoints are judged without labels beside the model it started from, and the best is kept.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

from rsseg_models.kept import Kept
from rsseg_models.network import SegmentationNetwork
from rsseg_models.optimise import Illustrated

from rsseg_cli.diary import Diary
from rsseg_cli.progress import Track
from rsseg_cli.selection import CHECKPOINTS, Candidates, Way, least_doubtful
from rsseg_cli.work import Pace, Work, trial_steps

CHECKPOINT_EVERY = 100
LOG_EVERY = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a run ends with."""

    network: Kept  # that is delivered
    match: str  # how the target's bands are brought to the source's statistics for it
    before: SegmentationNetwork  # of the source alone
    candidates: Candidates | None  # None: nothing was judged
    pace: Pace  # with the steps that were done


@dataclass(eq=False)
class Line:
    """One way to see the target, and how far learning has come along it. The source is seen as it is."""

    way: Way
    adapter: Illustrated[Any]
    step: int = 0
    candidates: Candidates = field(default_factory=Candidates)

    def state_dict(self) -> dict[str, Any]:
        return {
            "way": asdict(self.way),
            "adapter": self.adapter.state_dict(),
            "step": self.step,
            "candidates": vars(self.candidates),
        }


class Run:
    """A run on its way: which stage, how far, and what was judged so far."""

    def __init__(self, work: Work, pace: Pace, diary: Diary | None = None) -> None:
        self.work, self.pace, self.diary, self.judge = work, pace, diary, work.judge()
        self.rival: Line | None = None  # tried before this one; one of them goes on
        self.untried: tuple[Way, ...] = ()
        self._enter(0, work.network)

    def _enter(self, number: int, start: SegmentationNetwork) -> None:
        """A stage, before its first step."""
        self.number, self.start = number, start
        self.adapts = self.work.stages[number].adapts
        self.line = self._line(self.work.first_way, start)

    def _line(self, way: Way, network: SegmentationNetwork) -> Line:
        return Line(way, self.work.adapter(self.number, self.pace.steps[self.number], network, way))

    def learn(self, track: Track, deadline: float, save: Callable[["Run"], None]) -> Learned:
        """All that is left of the stages. `save` is called where the run may go on from."""
        while True:
            if self.adapts and not self.line.candidates.scores:
                self._choose_ways()
                save(self)
            self._stage(track, deadline, save)
            if self.number == len(self.work.stages) - 1:
                return self._delivered()
            self._enter(self.number + 1, self._own_network())
            save(self)

    def _choose_ways(self) -> None:
        """Has source-only see the target with its bands matched in every way, and goes on with the least doubtful.

        What norms are to know comes after it: norms of the target make up for much of what bands differ by.
        """
        if self.judge is None:
            logger.warning(
                "too little target to hold some of it back: it is seen %s, and the last step is delivered unjudged",
                self.line.way,
            )
            return
        outlooks = {Way(match): self.judge.outlook(self.start, Way(match)) for match in self.work.plan.normalisations}
        for seen, outlook in outlooks.items():
            logger.debug("%s: %.3f of all doubt is left, %.3f is told", seen, outlook.doubt, outlook.told)
        chosen = least_doubtful(outlooks)
        logger.info("the target is seen %s, judged by how sure that leaves source-only", chosen)
        ways = self.work.ways(chosen.match)
        # A map of one class alone holds together perfectly, and may be all that source-only makes of another sensor's
        # target as it is: what it finds in any way has to be found.
        self.judge.expect(self.start, self.line.way)
        for way in ways:
            self.judge.expect(self.work.settled(self.start, way), way)
        self._offer(self.start)
        self._begin(ways)

    def _begin(self, ways: tuple[Way, ...]) -> None:
        """The first of these ways, from source-only; the others have their turn later."""
        way, *others = ways
        self.untried = tuple(others)
        as_it_is = Candidates(self.line.candidates.scores[:1], 0, self.start.state_dict())
        if way == self.work.first_way:
            self.line.candidates = as_it_is
            return
        network = self.work.settled(self.start, way)
        self.line = self._line(way, network)
        self.line.candidates = as_it_is
        self._offer(network)

    def _stage(self, track: Track, deadline: float, save: Callable[["Run"], None]) -> None:
        """All steps that are left; of several ways some each, and then those of the better one."""
        while not (is_late := self._steps(track, deadline, save)) and self._is_trial:
            self._take_turns()
            save(self)
        if is_late:
            self._end()

    def _end(self) -> None:
        """Time is up: of several ways, the one that is there is what is delivered."""
        if self.rival and self.rival.step == self.line.step:
            self._decide(self.rival)
        elif self.rival:
            logger.warning("no time to try the target seen %s as well", self.line.way)
            self.line = self.rival
        self.rival, self.untried = None, ()
        step, steps = self.line.step, self.pace.steps
        if step < steps[self.number]:
            logger.warning("stopped after step %d of %d: steps became slower, and time is up", step, steps[self.number])
            self.pace = replace(self.pace, steps=(*steps[: self.number], step, *steps[self.number + 1 :]))

    @property
    def _is_trial(self) -> bool:
        return bool(self.rival or self.untried)

    def _take_turns(self) -> None:
        """After its trial a way is held against the one before it, and the next has its turn."""
        if self.rival:
            self._decide(self.rival)
        if self.untried:
            self.rival = self.line
            self._begin(self.untried)

    def _decide(self, rival: Line) -> None:
        """Which of two goes on, after as many steps of either."""
        ours, theirs = (line.candidates.scores[-1]["score"] for line in (self.line, rival))
        better, other = (self.line, rival) if ours > theirs else (rival, self.line)
        told = better.step, better.way, max(ours, theirs), other.way, min(ours, theirs)
        logger.info("after %d steps each: seen %s, score %.3f; seen %s, %.3f; the first goes on", *told)
        self.line, self.rival = better, None

    def _steps(self, track: Track, deadline: float, save: Callable[["Run"], None]) -> bool:
        """Those of one way, or of its trial. Whether time was up before."""
        line, stage, steps = self.line, self.work.stages[self.number], self.pace.steps[self.number]
        last = trial_steps(steps) if self._is_trial else steps
        if line.step == last:
            return False
        label = f"{stage.method}, on trial" if self._is_trial else stage.method
        seen = f", seen {line.way}" if self._is_trial else ""
        reports = self.work.reports(self.number, line.adapter, line.way.match, steps, line.step)
        with closing(reports):
            for report in track(islice(reports, last - line.step), label, last - line.step):
                line.step = report.step
                self._note(report.losses)
                if line.step % LOG_EVERY == 0:
                    logger.debug("%s, step %d: %s", label, line.step, _in_words(report.losses))
                is_late = line.step < steps and self._is_late(deadline)
                if self.adapts and (line.step in _judged_at(steps) or line.step == last or is_late):
                    score = self._offer(line.adapter.network)
                    logger.info("step %d of %d%s: %s", line.step, steps, seen, _in_words(report.losses | score))
                    save(self)
                elif line.step % CHECKPOINT_EVERY == 0:
                    save(self)
                if is_late:
                    return True
        return False

    def _is_late(self, deadline: float) -> bool:
        """Whether there is no time for one more step of this stage, and for all that comes after it."""
        if deadline == math.inf:
            return False
        after = self.pace.scoring_s + self.pace.seconds_from(self.number + 1)
        return time.monotonic() > deadline - after - self.pace.step_s[self.number]

    def _offer(self, network: Any) -> dict[str, float]:
        """Has a candidate judged."""
        if self.judge is None:
            return {}
        line = self.line
        score = {"score": self.judge.score(network, line.way)}
        line.candidates.offer(line.step, line.way, score["score"], network)
        self._note(score)
        if self.diary:
            self.diary.show(f"target_{line.step:06d}_{line.way.short}", *self.judge.shown())
            for name, (bands, labels) in line.adapter.pictures().items():
                self.diary.show(f"{name}_{line.step:06d}_{line.way.short}", bands.cpu().numpy(), labels.cpu().numpy())
        return score

    def _note(self, values: dict[str, float]) -> None:
        if self.diary:
            way = str(self.line.way) if self.adapts else ""
            self.diary.note(self.work.stages[self.number].method, way, self.line.step, values)

    def _own_network(self) -> SegmentationNetwork:
        network = self.line.adapter.network
        assert isinstance(network, SegmentationNetwork)
        return copy.deepcopy(network).cpu()

    def _delivered(self) -> Learned:
        last: Any = copy.deepcopy(self.line.adapter.network).cpu()
        if self.judge is None:
            return Learned(last, self.line.way.match, self.start if self.adapts else last, None, self.pace)
        candidates = self.line.candidates
        kept = last if candidates.has_learned else copy.deepcopy(self.start)
        kept.load_state_dict(candidates.state)
        return Learned(kept, candidates.match, self.start, candidates, self.pace)

    def state_dict(self) -> dict[str, Any]:
        return {
            "pace": asdict(self.pace),
            "stage": self.number,
            "start": self.start.state_dict() if self.number else None,
            "line": self.line.state_dict(),
            "rival": self.rival.state_dict() if self.rival else None,
            "untried": [asdict(way) for way in self.untried],
            "wanted": self.judge.wanted if self.judge else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["stage"]:
            start = copy.deepcopy(self.work.network)
            start.load_state_dict(state["start"])
            self._enter(state["stage"], start)
        self.line = self._restored(state["line"])
        self.rival = self._restored(state["rival"]) if state["rival"] else None
        self.untried = tuple(Way(**way) for way in state["untried"])
        if self.judge:
            self.judge.wanted = state["wanted"]

    def _restored(self, state: Mapping[str, Any]) -> Line:
        line = self._line(Way(**state["way"]), self.start)
        line.adapter.load_state_dict(state["adapter"])
        line.step, line.candidates = state["step"], Candidates(**state["candidates"])
        return line


def _in_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _judged_at(steps: int) -> set[int]:
    """Equally spaced, the last step among them; all of fewer."""
    return {round(number * steps / CHECKPOINTS) for number in range(1, CHECKPOINTS + 1)} - {0}
