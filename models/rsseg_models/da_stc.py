"""`da-stc`: Zhang et al., *DA-STC* (arXiv 2311.13254). A series is a video that stands still.

Ground that was cut out by its class is pasted, the same on every date, into other ground of the source and into the
target; and ground of the target, by what a teacher says of it, into both. A patch then has two surroundings, one of
each domain, and learns to mean the same in both; its finest features are mixed across, too. What a teacher says of
the target comes from other dates and is carried to the one that is looked at. Dates are fused by one layer over their
logits. Classes of both domains are pulled together by their mean logits over space and dates, and pushed apart from
each other. A single image is a series of one date, and all but the work on dates is the same.

Not as released: mixed features reach the classifier (there they never did); the teacher is a moving average from the
first step; classes are aligned with themselves, not set with set; what a date does not show, no date is taught by. The
other ground is another crop of the same batch, not of the step before: nothing has to be carried from step to step.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rsseg_models.batch import Batch, Clips, Domains
from rsseg_models.da_stc_parts import (
    Patched,
    PatchForm,
    Prototypes,
    centroids,
    gathered,
    mix_features,
    mmd,
    patched,
    proto_loss,
)
from rsseg_models.fusion import TAU_DAYS, Fusion, OfSeries
from rsseg_models.losses import NO_LABEL, cross_entropy
from rsseg_models.mixing import Confidences, Mixing, blur, vary_colours
from rsseg_models.network import SegmentationNetwork
from rsseg_models.norms import Memory, remembering, untracked
from rsseg_models.optimise import Average, Descent, OfParts, Schedule
from rsseg_models.recipe import autocast, between, one_of
from rsseg_models.source_only import preference

# Dates nearer to each other than this may differ without anything having changed.
NEAR_DAYS = 30.0


@dataclass(frozen=True)
class Settings(Mixing):
    """What can be set with --set NAME=VALUE."""

    frames: int = between(1, 16, 3)
    """Dates of a series that are seen at once; 1 looks at single images, which is all there is without a series."""
    fusion_rate: float = between(0, 1000, 5.0)
    """Times the learning rate, for what fuses dates: few weights, which begin with references counting nothing."""
    alone: float = between(0, 1, 0.5)
    """Part of the losses in which a date is seen by itself, not with others: else it learns to leave it to them."""
    patches: int = between(1, 255, 2)
    """Classes of a crop that are cut out and pasted, of either domain."""
    rare_patches: int = between(0, 255, 0)
    """Rare classes pasted on top, the same in both domains."""
    quad: bool = False
    """Whether ground of the target is pasted, too, as published: a teacher of few steps is sure of too much."""
    sure: float = between(0, 1, 0.9)
    """Confidence from which ground of the target is cut out."""
    mixed_source: float = between(0, 100, 0.5)
    """Weight of the loss on source crops with patches."""
    mixed_target: float = between(0, 100, 1.0)
    """Weight of the loss on target crops with patches."""
    target: float = between(0, 100, 0.5)
    """Weight of the loss on the target itself."""
    labels: str = one_of("quantile", "threshold")
    """quantile: of each class the surest teach; threshold: all, and the surer a crop the more (as published)."""
    threshold: float = between(0, 1, 0.968)
    """threshold: confidence from which a pixel speaks for its crop."""
    gate: bool = True
    """Whether a label of another date counts half where the date itself is thought to be something else."""
    feature_fusion: str = one_of("finest", "none", "all")
    """Whose features are mixed across domains inside patches: none, those of the finest level, or of all."""
    fused_part: float = between(0, 1, 0.3)
    """Part of mixed features that comes from the other domain."""
    fused_after: float = between(0, 1, 0.2)
    """Part of the steps before features are mixed."""
    alignment: str = one_of("proto", "mmd", "none")
    """proto: classes are aligned with themselves; mmd: sets of classes, as published; or none."""
    alignment_weight: float = between(0, 10, 0.1)
    """Weight of the loss that aligns; with mmd, 0.01 as published."""
    gathered: str = one_of("mean", "entropy")
    """How pairs of dates make one centroid: their mean, or by entropy, the surer pair the louder."""
    tau: float = between(0.001, 100, 0.1)
    """Temperature of the alignment."""
    tau_days: float = between(0.001, 1e6, TAU_DAYS)
    """A date so many days away counts e times less as a reference."""
    dump: str = one_of("none", "mix")
    """mix: pictures of patched crops go to --workdir."""


def idle(settings: Settings) -> dict[str, str]:
    """Settings that do nothing, and which other one hinders them."""
    hindered = {
        "labels=quantile": ("threshold",) if settings.labels == "quantile" else (),
        "labels=threshold": ("kept", "floor") if settings.labels == "threshold" else (),
        "feature_fusion=none": ("fused_part", "fused_after") if settings.feature_fusion == "none" else (),
        "alignment=none": ("alignment_weight", "gathered", "tau") if settings.alignment == "none" else (),
        "alignment=mmd": ("tau",) if settings.alignment == "mmd" else (),
        "frames=1": ("alone", "fusion_rate", "tau_days", "gate") if settings.frames == 1 else (),
    }
    return {name: by for by, names in hindered.items() for name in names}


# As published, where that is known.
PAPER = Settings(
    frames=3,
    learning_rate=6e-4,
    pretrained_rate=0.1,
    average=0.999,
    balance=0.0,
    patches=2,
    rare_patches=2,
    quad=True,
    mixed_source=1.0,
    target=1.0,
    labels="threshold",
    rarity=0.0,
    gate=False,
    fusion_rate=1.0,
    alone=0.0,
    alignment="mmd",
    alignment_weight=0.01,
)


@dataclass(frozen=True)
class Seen:
    """What a network makes of clips."""

    logits: Tensor  # (B, T, K, H, W), of each date by itself
    fused: Tensor  # (B, K, H, W), of the first with all others as its references
    known: Tensor  # (B, H, W): where any date shows something
    shown: Tensor  # (B, H, W): where the first shows something


class DaStc(OfParts):
    """Learns from source, target and both with patches; the teacher, a moving average, is what is kept."""

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: Settings,
        steps: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
        *,
        pretrained: bool = False,
        target_norms: float = 0.0,  # how far norms are to know the target, and not the source; 0: what is learned from
    ) -> None:
        self.settings, self.target_norms, self.steps = settings, target_norms, steps
        self.memory = Memory.of(target_norms)
        device, classes = next(network.parameters()).device, network.architecture.classes
        self.student = network.train()
        self.fusion = Fusion(classes, settings.tau_days).to(device)
        self.teacher, self.taught_fusion = copy.deepcopy(network), copy.deepcopy(self.fusion)
        self.averages = [
            Average(self.student, self.teacher, settings.average),
            Average(self.fusion, self.taught_fusion, settings.average),
        ]
        self.confidences = Confidences(classes, settings.memory).to(device)
        self.prototypes = Prototypes(classes).to(device)
        self.class_weights = class_weights
        shares = torch.full((classes,), 1 / classes) if class_shares is None else class_shares
        self.rare = (shares < 0.5 / classes).nonzero()[:, 0].to(device)
        # Added while learning and not kept, as in source-only.
        self.preference: Tensor | float = 0.0 if class_shares is None else settings.balance * preference(class_shares)
        encoder_rate = settings.learning_rate * (settings.pretrained_rate if pretrained else 1.0)
        self.descent = Descent(
            [
                (network.encoder, encoder_rate),
                (network.head, settings.learning_rate),
                (self.fusion, settings.fusion_rate * settings.learning_rate),
            ],
            Schedule(steps, round(settings.warm_up * steps)),
            settings.weight_decay,
            settings.clip,
        )
        self.form = PatchForm(settings.patches, settings.rare_patches, settings.quad)
        self.mosaic: Patched | None = None  # crops as they were patched last, to be looked at

    @property
    def network(self) -> SegmentationNetwork | OfSeries:
        """What is kept: of single images a network like any other."""
        return self.teacher if self.settings.frames == 1 else OfSeries(self.teacher, self.taught_fusion)

    def step(self, batch: Domains[Clips], number: int) -> dict[str, Tensor]:
        settings, source, target = self.settings, batch.source, batch.target
        labels, trust, confidence = self.taught(target)
        given = target.labels
        target = replace(target, labels=torch.where(given != NO_LABEL, given, labels))
        trust = torch.where(given != NO_LABEL, 1, trust)
        sure = (confidence >= settings.sure) | (given != NO_LABEL)
        both = patched(source, target, trust, sure, self.rare, self.form)
        if settings.dump == "mix":
            self.mosaic = both
        if self.target_norms:
            with torch.no_grad(), self._mixed(), remembering(self.student, self.memory.target):
                self.student(target.date(0).bands)
        with remembering(self.student, self.memory.source):
            on_source = self.see(source)
        losses = {"source": self._loss(on_source, source.labels, None)}
        with remembering(self.student, self.memory.mixed):
            one, two = self.see_both(self.varied(both.source), self.varied(both.target), both.mask, number)
            losses["mixed_source"] = self._loss(one, both.source.labels, both.weights[0])
            losses["mixed_target"] = self._loss(two, both.target.labels, both.weights[1])
            total = losses["source"] + settings.mixed_source * losses["mixed_source"]
            total = total + settings.mixed_target * losses["mixed_target"]
            if settings.target or settings.alignment != "none":
                on_target = self.see(self.varied(target))
                losses["target"] = self._loss(on_target, target.labels, trust)
                total = total + settings.target * losses["target"]
                if settings.alignment != "none":
                    losses["alignment"] = self.alignment(on_source, source, on_target, target)
                    total = total + settings.alignment_weight * losses["alignment"]
        self.descent.minimise(total, number)
        for average in self.averages:
            average.update(number)
        told = {name: loss.detach() for name, loss in losses.items()} | {"trust": trust.mean()}
        return told | ({"fusion": self.fusion.strength} if settings.frames > 1 else {})

    def _loss(self, seen: Seen, labels: Tensor, weights: Tensor | None) -> Tensor:
        """A person's labels count by their classes, a teacher's by what it finds, too."""
        share = self.settings.alone if seen.logits.shape[1] > 1 else 0.0
        loss = self._cross_entropy(seen.fused, labels.masked_fill(~seen.known, NO_LABEL), weights)
        if share:
            own = seen.logits[:, 0]
            by_itself = self._cross_entropy(self.fusion(own, own), labels.masked_fill(~seen.shown, NO_LABEL), weights)
            loss = (1 - share) * loss + share * by_itself
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            return cross_entropy(logits + self.preference, labels, self.class_weights)
        return cross_entropy(logits, labels, self.confidences.class_weights(self.settings.rarity), weights)

    @torch.no_grad()
    def taught(self, target: Clips) -> tuple[Tensor, Tensor, Tensor]:
        """Labels of the date that is looked at, what each counts, and how sure the teacher is (all B, H, W).

        They come from the other dates, where these show anything: to be found again in another season.
        """
        settings = self.settings
        with self._mixed():
            logits = _by_date(self.teacher, target)
        known = target.valid[:, 0]
        alone = logits[:, 0] if logits.shape[1] == 1 else self.taught_fusion(logits[:, 0], logits[:, 0])
        confidence, labels = alone.softmax(1).max(1)
        agree = torch.ones_like(known)
        if logits.shape[1] > 1:
            rest = logits[:, 1:], target.valid[:, 1:], target.days[:, 1:]
            carried, there = self.taught_fusion.fuse_one(0, *rest)
            surer, found = carried.softmax(1).max(1)
            is_near = (target.days[:, 1] - target.days[:, 0]).abs() < NEAR_DAYS
            agree = (found == labels) | is_near[:, None, None] | ~known | ~there
            confidence, labels = torch.where(there, surer, confidence), torch.where(there, found, labels)
            known = known | there
        weights, kept = self._weighed(labels, confidence, known)
        if settings.gate:
            weights = torch.where(agree, weights, 0.5 * weights)
        return labels.masked_fill(~kept, NO_LABEL), weights, confidence

    def _weighed(self, labels: Tensor, confidence: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """What labels count, by how sure the teacher is of their crop; and which are learned from."""
        settings = self.settings
        self.confidences.remember(labels[known], confidence[known])
        if settings.labels == "threshold":
            kept, speaking = known, known & (confidence >= settings.threshold)
        else:
            kept = known & self.confidences.is_sure(labels, confidence, settings.kept)
            kept = speaking = kept & (confidence >= settings.floor)
        share = speaking.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
        return share[:, None, None].expand(labels.shape), kept

    def varied(self, clips: Clips) -> Clips:
        """Other colours and less sharp, all dates alike."""
        dates = clips.bands.shape[1]
        flat = Batch(clips.bands.flatten(0, 1), clips.valid.flatten(0, 1), clips.labels)
        flat = blur(vary_colours(flat, self.settings.jitter, dates), self.settings.blur, dates)
        return replace(clips, bands=flat.bands.view_as(clips.bands))

    def see(self, clips: Clips) -> Seen:
        """Clips as the student sees them."""
        with self._mixed():
            return self._seen(clips, self.student.levels(clips.date(0).bands))

    def see_both(self, one: Clips, two: Clips, mask: Tensor, number: int) -> tuple[Seen, Seen]:
        """Source and target with patches: of a patch, the target takes features of the source's surroundings, too."""
        settings = self.settings
        with self._mixed():
            first, second = (list(self.student.levels(clips.date(0).bands)) for clips in (one, two))
            if settings.feature_fusion != "none" and number >= settings.fused_after * self.steps:
                reach = 1 if settings.feature_fusion == "finest" else len(first)
                for level in range(reach):
                    second[level] = mix_features(first[level], second[level], mask, settings.fused_part)
            return self._seen(one, first), self._seen(two, second)

    def _seen(self, clips: Clips, levels: Sequence[Tensor]) -> Seen:
        """From features of the date that is looked at: only there does the network learn, and the fusion everywhere."""
        own = self.student.decode(levels, clips.labels.shape[-2:]).float()
        if clips.bands.shape[1] == 1:
            return Seen(own[:, None], own, clips.valid[:, 0], clips.valid[:, 0])
        with torch.no_grad(), untracked(self.student):
            others = _by_date(self.student, clips, first=1)
        logits = torch.cat([own[:, None], others], 1)
        return Seen(logits, *self.fusion.fuse_one(0, logits, clips.valid, clips.days), clips.valid[:, 0])

    def alignment(self, on_source: Seen, source: Clips, on_target: Seen, target: Clips) -> Tensor:
        """How far classes of the target are from those of the source, over all pairs of dates."""
        right = on_source.fused.argmax(1) == source.labels
        of_source, there = centroids(
            on_source.fused, source.labels.masked_fill(~(right & source.valid[:, 0]), NO_LABEL)
        )
        self.prototypes.remember(of_source, there)
        pairs, weights = [], []
        for fused, known in self._pairs(on_target, target):
            pairs.append(centroids(fused, fused.argmax(1).masked_fill(~known, NO_LABEL)))
            weights.append(
                -_entropy(fused, known)
                if self.settings.gathered == "entropy"
                else known.new_zeros((), dtype=fused.dtype)
            )
        of_target, seen = gathered(pairs, torch.stack(weights).softmax(0))
        if self.settings.alignment == "mmd":
            both = there & seen
            return mmd(of_source[both], of_target[both]) if both.sum() > 1 else of_target.sum() * 0
        return proto_loss(self.prototypes.means, of_target, (self.prototypes.known, seen), self.settings.tau)

    def _pairs(self, seen: Seen, clips: Clips) -> Iterator[tuple[Tensor, Tensor]]:
        """The date that is looked at with each other one as its only reference; a single date by itself."""
        dates = clips.bands.shape[1]
        if dates == 1:
            yield seen.fused, seen.known
        for other in range(1, dates):
            pair = [0, other]
            yield self.fusion.fuse_one(0, seen.logits[:, pair], clips.valid[:, pair], clips.days[:, pair])

    def _mixed(self) -> AbstractContextManager[Any]:
        return autocast(self.settings.precision, next(self.student.parameters()).device.type)

    def pictures(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Of the first crop: all dates among the source, and all among the target, with the same patches."""
        if self.mosaic is None:
            return {}
        one, two = self.mosaic.source, self.mosaic.target
        bands = torch.cat([one.bands[0], two.bands[0]])
        labels = torch.cat([part.labels[:1].expand(part.bands.shape[1], -1, -1) for part in (one, two)])
        return {"mix": (bands, labels)}

    def parts(self) -> dict[str, Any]:
        names = ("student", "fusion", "teacher", "taught_fusion", "descent", "confidences", "prototypes")
        return {name: getattr(self, name) for name in names}


def _by_date(network: SegmentationNetwork, clips: Clips, first: int = 0) -> Tensor:
    """Logits (B, T, K, H, W) of dates by themselves, from this one on."""
    return torch.stack([network(clips.date(date).bands).float() for date in range(first, clips.bands.shape[1])], 1)


def _entropy(logits: Tensor, known: Tensor) -> Tensor:
    """Mean over the pixels that are known."""
    logs = logits.detach().log_softmax(1)
    each = -(logs.exp() * logs).sum(1)
    return (each * known).sum() / known.sum().clamp(min=1)
