"""`st-dasegnet`: Zhao et al., *ST-DASegNet* (JAG 2024, arXiv 2301.05526). Two styles, a shared part, an adversary.

Two students, one of the source's style and one of the target's, both look at images of both domains: four streams.
Within a student an adversary makes both domains look alike. Then the two views of an image are taken apart: gates
leave each view what is its own, and what both have in common is given to each. Labels teach both students on the
source, slow copies of their decoders teach them on the target. Maps are the mean of both students' logits.

Not as released: what the slow copies say is learned on mixed crops, as in `self-training`; they start as copies and
hold their norms' statistics too; all learn at the rates of `Recipe`; nothing that is not valid counts anywhere; both
domains are cropped alike. Students start from one trained network, and predict the same as it before the first step.
Each pass normalises by its own batch; whose statistics are kept is said from outside.
"""

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.batch import Batch, Domains
from rsseg_models.losses import NO_LABEL, cross_entropy
from rsseg_models.mixing import Mixer, Mixing
from rsseg_models.network import SegmentationNetwork
from rsseg_models.norms import Memory, remembering
from rsseg_models.optimise import Average, Descent, OfParts, Schedule
from rsseg_models.recipe import Recipe, autocast, between, one_of
from rsseg_models.source_only import preference
from rsseg_models.st_dasegnet_modules import (
    FORM,
    Adapted,
    Discriminator,
    Disentangle,
    Pair,
    PairOfLevels,
    Universal,
    Views,
    decode,
    fitting_depth,
    spatial_softmax,
)


@dataclass(frozen=True)
class Settings(Mixing):
    """What can be set with --set NAME=VALUE; the defaults are for a few hundred steps, `PAPER` is as published."""

    average: float = between(0, 0.99999, 0.99)
    """Momentum of the slow copies that make pseudo-labels."""
    smoothed: float = between(0, 0.99999, 0.99)
    """Momentum of the moving average of both students that is kept; 0 keeps the students themselves, as published."""
    discriminator_rate: float = between(0, 1, 1e-4)
    """Learning rate of the discriminators."""
    discriminator_depth: int = between(1, 6, 2)
    """Layers of a discriminator that halve the map, at most; fewer where crops are small."""
    adversary: float = between(0, 10, 0.005)
    """Weight of the adversarial loss."""
    self_training: float = between(0, 10, 1.0)
    """Weight of the loss on pseudo-labels."""
    mixing: bool = True
    """Whether those are learned on target crops with classes of the source pasted in; if not, on crops as they are."""
    teachers: str = one_of("decoder-only", "single-target")
    """decoder-only: slow copies of both decoders; single-target: of the whole student of the target."""
    pseudo_labels: str = one_of("averaged", "separate")
    """averaged: both teachers agree on one label; separate: each teaches its own student. Without mixing only."""
    sure: float = between(0, 1, 0.9)
    """Probability from which a pseudo-label speaks for the quality of all. Without mixing only."""
    likely: float = between(0, 1, 0.7)
    """Probability from which a pseudo-label counts in full; below, by half. Without mixing only."""
    quality: str = one_of("image", "batch")
    """image: each is weighed by the sure part of itself; batch: by that of all together. Without mixing only."""
    gates: bool = True
    """Whether gates tell the views apart; without, each keeps half of every channel."""
    universal: bool = True
    """Whether what the views have in common is given to both decoders."""
    attention: str = one_of("inverse", "plain")
    """inverse: channels look at those least like them, as released; plain: at those most like them."""
    attention_scale: str = one_of("mean", "none")
    """mean: likeness of channels is a mean over pixels; none: a sum, as released."""
    one_encoder: bool = False
    """Lets both students share an encoder: an ablation."""
    checkpointing: bool = False
    """Makes the encoders' maps again on the way back: less memory, a third more time."""


def idle(settings: Settings) -> dict[str, str]:
    """Settings that do nothing, and which other one hinders them."""
    common = {each.name for each in fields(Recipe)}
    of_mixing = [each.name for each in fields(Mixing) if each.name not in common]
    without = ("pseudo_labels", "sure", "likely", "quality")
    found = dict.fromkeys(without, "mixing=true") if settings.mixing else dict.fromkeys(of_mixing, "mixing=false")
    alone = {} if settings.universal else dict.fromkeys(("attention", "attention_scale"), "universal=false")
    return found | alone


# As it was run: heads at the rate of the encoders, because a key of its configuration was never matched.
PAPER = Settings(
    learning_rate=6e-5,
    pretrained_rate=1.0,
    warm_up=0.02,
    clip=1e9,
    average=0.999,
    smoothed=0.0,
    balance=0.0,
    mixing=False,
    self_training=0.25,
    discriminator_rate=1e-5,
    sure=0.975,
    likely=0.8,
    quality="batch",
    attention_scale="none",
)


def adapted(network: SegmentationNetwork, settings: Settings) -> Adapted:
    """Both students, as they start from a network; also to be filled with stored weights."""
    channels = network.encoder.channels
    universal = Universal(channels[-1], settings.attention, settings.attention_scale) if settings.universal else None
    return Adapted(
        network,
        Disentangle(channels, settings.gates, universal),
        one_encoder=settings.one_encoder,
        checkpointing=settings.checkpointing,
        students=json.dumps({name: getattr(settings, name) for name in FORM}),
    )


# 1. The adversary.


def taken_for(discriminator: Callable[[Tensor], Tensor], level: Tensor, valid: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of its judgement on a level, where that holds anything."""
    logits = discriminator(spatial_softmax(level, valid)).float()
    inside = functional.adaptive_max_pool2d(valid.float()[:, None], logits.shape[-2:])
    wanted = torch.full_like(logits, float(real))
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (losses * inside).sum() / inside.sum().clamp(min=1)


# 2. Teachers and their labels.


@dataclass(frozen=True)
class PseudoLabels:
    """What a teacher says about target images."""

    labels: Tensor  # (B, H, W), 255 where there is nothing
    weights: Tensor  # (B, H, W)
    quality: Tensor  # the part of all pixels that is sure


def pseudo_labels(logits: Tensor, valid: Tensor, class_weights: Tensor | None, settings: Settings) -> PseudoLabels:
    """No pixel is left out for being unlikely: it counts less. With class weights only; without, all count alike."""
    probability, labels = logits.float().softmax(dim=1).max(dim=1)
    sure = ((probability >= settings.sure) & valid).float()
    dims = (1, 2) if settings.quality == "image" else (0, 1, 2)
    rho = sure.sum(dims, keepdim=True) / valid.sum(dims, keepdim=True).clamp(min=1)
    weights = rho.expand_as(probability)
    if class_weights is not None:
        weights = rho * torch.where(probability >= settings.likely, class_weights[labels], 0.5)
    quality = sure.sum() / valid.sum().clamp(min=1)
    return PseudoLabels(labels.masked_fill(~valid, NO_LABEL), weights, quality)


def with_given(pseudo: PseudoLabels, given: Tensor) -> PseudoLabels:
    """Labels that a person gave count in full, in place of what a teacher says."""
    known = given != NO_LABEL
    return replace(
        pseudo,
        labels=torch.where(known, given, pseudo.labels),
        weights=torch.where(known, pseudo.weights.new_ones(()), pseudo.weights),
    )


def rarity(shares: Tensor) -> Tensor:
    """Weights of classes from their shares of the source: up to 2 for rare ones, 1 for the others."""
    usual = shares[shares > 0].median()
    return torch.where(shares > 0, (usual / shares).sqrt().clamp(1, 2), 1.0)


def learned(logits: Pair, taught: tuple[PseudoLabels, PseudoLabels]) -> Tensor:
    """The loss of both students on what they are taught."""
    return _sum(
        cross_entropy(part, pseudo.labels, pixel_weights=pseudo.weights)
        for part, pseudo in zip(logits, taught, strict=True)
    )


class Teachers:
    """Slow copies of both decoders, or of the whole student of the target; no gradient reaches them."""

    def __init__(self, students: Adapted, settings: Settings) -> None:
        self.students, self.whole = students, settings.teachers == "single-target"
        self.source = students.source if self.whole else _slow(students.source, False)
        self.target = _slow(students.target, self.whole)
        followed = [(students.target.head, self.target.head)]
        followed += (
            [(students.target.encoder, self.target.encoder)]
            if self.whole
            else [(students.source.head, self.source.head)]
        )
        self.averages = [Average(quick, slow, settings.average) for quick, slow in followed]

    def update(self, number: int) -> None:
        for average in self.averages:
            average.update(number)

    @torch.no_grad()
    def logits(self, bands: Tensor, views: Views, levels: PairOfLevels, live: Pair) -> Pair:
        """From the levels that the students have of these bands, and from their logits where a student teaches."""
        size = bands.shape[-2:]
        if not self.whole:
            return decode(self.source, levels[0], size), decode(self.target, levels[1], size)
        _, seen = self.students.disentangle(replace(views, target=self.target.levels(bands)))
        return live[0].detach(), decode(self.target, seen, size)

    def state_dict(self) -> dict[str, Any]:
        return {str(number): average.average.state_dict() for number, average in enumerate(self.averages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, average in enumerate(self.averages):
            average.average.load_state_dict(state[str(number)])


def _slow(student: SegmentationNetwork, whole: bool) -> SegmentationNetwork:
    encoder = copy.deepcopy(student.encoder) if whole else student.encoder
    return SegmentationNetwork(encoder, copy.deepcopy(student.head), student.architecture)


# 3. The method at work.


class StDasegnet(OfParts):
    """Students against discriminators, with labels on the source and teachers on the target."""

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: Settings,
        steps: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
        *,
        crop_px: int,
        pretrained: bool = False,
        target_norms: float = 0.0,  # how far norms are to know the target, and not the source; 0: what is learned from
    ) -> None:
        self.settings, self.memory = settings, Memory.of(target_norms)
        self.students = adapted(network, settings).train()
        self.network = copy.deepcopy(self.students)
        self.smooth = Average(self.students, self.network, settings.smoothed)
        self.teachers = Teachers(self.students, settings)
        device = next(network.parameters()).device
        self.mixer = Mixer(network.architecture.classes, settings).to(device)
        self.pseudo_weights = None if class_shares is None else rarity(class_shares)
        self.class_weights = self.pseudo_weights if class_weights is None else class_weights
        # Added while learning and not kept, as in source-only.
        self.preference = 0.0 if class_shares is None else settings.balance * preference(class_shares)
        for weights in (self.class_weights, self.pseudo_weights):
            if weights is not None and weights.shape != (network.architecture.classes,):
                raise ValueError(f"{network.architecture.classes} classes need as many weights, not {len(weights)}")
        self.schedule = Schedule(steps, round(settings.warm_up * steps), power=1.0)
        self.descent = self._descent(pretrained)
        self.discriminators = self._discriminators(crop_px).to(device)
        self.judges = torch.optim.Adam(self.discriminators.parameters(), lr=1.0, betas=(0.9, 0.99))

    def step(self, batch: Domains[Batch], number: int) -> dict[str, Tensor]:
        source, target = cleared(batch.source), cleared(batch.target)
        if number:
            self.teachers.update(number - 1)
        with self._mixed(source.bands):
            with remembering(self.students, self.memory.source):
                of_source, _, on_source = self.students.see(source.bands, source.valid)
            with remembering(self.students, self.memory.target):
                of_target = self.students.look(target.bands, target.valid)
                # The adversary looks no further; what comes after is learned from where crops are not mixed.
                with torch.set_grad_enabled(not self.settings.mixing):
                    levels = self.students.disentangle(of_target)
                    on_target = self.students.decode(levels, target.bands.shape[-2:])
            said = self.teachers.logits(target.bands, of_target, levels, on_target)
            adversary = self.fooling(of_source, of_target)
        if self.settings.mixing:
            of_teachers, quality = self.on_mixed_crops(source, target, said)
        else:
            of_teachers, quality = self.on_plain_crops(target, said, on_target)
        of_labels = self.supervised(on_source, source.labels)
        settings = self.settings
        self.descent.minimise(of_labels + settings.self_training * of_teachers + settings.adversary * adversary, number)
        self.smooth.update(number)
        judged = self.judge(of_source, of_target, number)
        losses = {"source": of_labels, "target": of_teachers, "adversary": adversary, "discriminators": judged}
        return {name: loss.detach() for name, loss in losses.items()} | {"quality": quality}

    def supervised(self, logits: Pair, labels: Tensor) -> Tensor:
        return _sum(cross_entropy(part + self.preference, labels, self.class_weights) for part in logits)

    def taught(self, logits: Pair, valid: Tensor) -> tuple[PseudoLabels, PseudoLabels]:
        """What each student learns of the target."""
        if self.settings.pseudo_labels == "averaged":
            logits = ((logits[0] + logits[1]) / 2,) * 2
        one, other = (pseudo_labels(part, valid, self.pseudo_weights, self.settings) for part in logits)
        return one, other

    def on_mixed_crops(self, source: Batch, target: Batch, said: Pair) -> tuple[Tensor, Tensor]:
        """The loss on target crops with classes of the source, and what part of the target teachers are sure of."""
        mixed, weights, trust = self.mixer.mix(source, target, (said[0] + said[1]) / 2)
        with self._mixed(mixed.bands), remembering(self.students, self.memory.mixed):
            _, _, logits = self.students.see(mixed.bands, mixed.valid)
        return _sum(self.mixer.loss(part, mixed, weights) for part in logits), trust.mean()

    def on_plain_crops(self, target: Batch, said: Pair, seen: Pair) -> tuple[Tensor, Tensor]:
        """The same on target crops as they are."""
        one, other = (with_given(pseudo, target.labels) for pseudo in self.taught(said, target.valid))
        return learned(seen, (one, other)), (one.quality + other.quality) / 2

    def fooling(self, source: Views, target: Views) -> Tensor:
        """The target passes for the source with the source's student, the source for the target with the other."""
        self.discriminators.requires_grad_(False)
        of_source = taken_for(self.discriminators["source"], target.source[-1], target.valid[-1], real=True)
        of_target = taken_for(self.discriminators["target"], source.target[-1], source.valid[-1], real=True)
        self.discriminators.requires_grad_(True)
        return of_source + of_target

    def judge(self, source: Views, target: Views, number: int) -> Tensor:
        """Discriminators learn to tell the domains apart, each with its own domain as the real one."""
        with self._mixed(source.source[-1]):
            total = _sum(
                taken_for(self.discriminators[style], level.detach(), views.valid[-1], real)
                for style, level, views, real in (
                    ("source", source.source[-1], source, True),
                    ("source", target.source[-1], target, False),
                    ("target", target.target[-1], target, True),
                    ("target", source.target[-1], source, False),
                )
            )
        self.judges.param_groups[0]["lr"] = self.settings.discriminator_rate * self.schedule.factor(number)
        self.judges.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.judges.step()
        return total

    def parts(self) -> dict[str, Any]:
        names = ("students", "network", "teachers", "mixer", "descent", "discriminators", "judges")
        return {name: getattr(self, name) for name in names}

    def _mixed(self, like: Tensor) -> Any:
        return autocast(self.settings.precision, like.device.type)

    def _descent(self, pretrained: bool) -> Descent:
        students, settings = self.students, self.settings
        of_encoders = settings.pretrained_rate if pretrained else 1.0
        rate = settings.learning_rate
        # A list of modules names a shared encoder once.
        encoders = nn.ModuleList([students.source.encoder, students.target.encoder])
        others = nn.ModuleList([students.source.head, students.target.head, students.disentangle])
        groups = [(encoders, of_encoders * rate), (others, rate)]
        return Descent(groups, self.schedule, settings.weight_decay, settings.clip)

    def _discriminators(self, crop_px: int) -> nn.ModuleDict:
        encoder = self.students.source.encoder
        side = -(-crop_px // encoder.strides[-1])
        depth = fitting_depth(side, self.settings.discriminator_depth)
        return nn.ModuleDict({s: Discriminator(encoder.channels[-1], depth, side) for s in ("source", "target")})


def cleared(batch: Batch) -> Batch:
    """Nothing but 0, and no label, where nothing is valid: a convolution would carry it over the border."""
    bands = batch.bands.masked_fill(~batch.valid[:, None], 0)
    return replace(batch, bands=bands, labels=batch.labels.masked_fill(~batch.valid, NO_LABEL))


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()
