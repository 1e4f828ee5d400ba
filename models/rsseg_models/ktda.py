"""`ktda`: Zhang et al., *Knowledge Transfer and Domain Adaptation for Fine-Grained Remote Sensing Image Segmentation*
(ICME 2025, arXiv 2412.06664). A light student learns from labels, and from how a frozen vision transformer sees.

The student's four levels, brought onto the teacher's grid of tokens, are pulled towards the teacher's maps of four
depths. From the same aligned levels a neck, blocks that adapt them to the task, and a UPerNet head make the map. The
teacher is gone afterwards.

Not as released: one pass of the student a step; softmax over channels, not over image columns; the teacher's last norm
on every depth; the student's levels go to the neck past the tokens as well, because what is finer than a token is lost
in them; blocks of `mlp` with a skip connection; attention in windows; a grid of tokens from the size of the image; what
is not valid counts nowhere; the teacher sees colours as they are, the student varied ones; the teacher also looks at
unlabelled ground, and, where there is one, at the target. `PAPER` has the published settings.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.batch import Batch, Domains
from rsseg_models.errors import ModelError
from rsseg_models.heads import FcnHead
from rsseg_models.ktda_modules import Form, Transferred, transferred
from rsseg_models.losses import NO_LABEL, cross_entropy
from rsseg_models.mixing import vary_colours
from rsseg_models.network import SegmentationNetwork
from rsseg_models.optimise import Average, Descent, OfParts, Schedule
from rsseg_models.recipe import Recipe, autocast, between, one_of
from rsseg_models.source_only import preference
from rsseg_models.st_dasegnet import cleared
from rsseg_models.teachers import DEPTHS, Lesson, Teacher

# The pyramid's level, on the grid of the tokens, that the auxiliary head looks at.
AUXILIARY_LEVEL = 2
AUXILIARY_WIDTH = 256
# Without a teacher that says how far its tokens lie apart.
PITCH_PX = 14
# What of the rate there is at the first step.
START = 1e-3
REMEMBERED = 0.99  # of the statistics of a teacher's maps, from step to step


@dataclass(frozen=True)
class Settings(Recipe):
    """What can be set with --set NAME=VALUE; the defaults, preset `tiny`, are for a CPU."""

    auxiliary: float = between(0, 10, 0.4)
    """Weight of the loss on a second, simple head."""
    dice: float = between(0, 10, 1.0)
    """Weight of a Dice loss, in which each class counts alike however rare it is."""
    distil: float = between(0, 1e6, 1.0)
    """Weight of the loss that pulls towards the teacher."""
    alpha: float = between(0, 1, 0.5)
    """Part of that loss that compares distributions (KL); the rest compares values (mean square)."""
    temperature: float = between(0.01, 100, 1.0)
    """Of the distributions that are compared."""
    kl_axis: str = one_of("channel", "spatial", "width")
    """channel: distributions over channels, token by token; spatial: over tokens; width: over columns, as released."""
    fade: float = between(0, 1, 0.0)
    """Last part of the steps, in which the teacher's weight falls to nothing."""
    teacher_norm: str = one_of("final", "published", "standardised")
    """final: the teacher's last norm at each depth; published: at the last alone; standardised: maps by themselves."""
    teacher_blocks: str = ""
    """Four blocks whose maps are looked at, such as 2,5,8,11; else evenly spaced."""
    teacher_zoom: int = between(1, 4, 1)
    """Times that the image is enlarged for the teacher, so that tokens cover less ground."""
    aligned_width: int = between(0, 4096, 0)
    """Channels of the aligned levels; 0: the teacher's, or without one as wide as what follows."""
    width: int = between(0, 4096, 64)
    """Channels after alignment; 0: as many as are aligned."""
    fmm: str = one_of("vit", "mlp", "none")
    """How levels are adapted to the task: vit, mlp or none."""
    blocks: int = 1
    """Of that, at each level."""
    heads: int = 2
    """Of its attention."""
    window: int = 8
    """Tokens on a side that look at each other; 0: all."""
    residual: bool = True
    """Whether blocks of mlp have a skip connection."""
    skip: bool = True
    """Whether the student's levels also reach the pyramid as they are: what is finer than a token is lost otherwise."""
    decoder: int = between(1, 4096, 64)
    """Channels of the UPerNet head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.depths

    @property
    def depths(self) -> tuple[int, ...]:
        """The teacher's blocks by number; () leaves the choice to it."""
        if not self.teacher_blocks:
            return ()
        try:
            found = tuple(map(int, self.teacher_blocks.split(",")))
        except ValueError:
            found = ()
        if len(found) != DEPTHS:
            raise ModelError(f"teacher_blocks = {self.teacher_blocks}: not four blocks", "give four, such as 2,5,8,11")
        return found

    def form(self, teacher: Teacher | None) -> Form:
        """Of the network that learns from this teacher."""
        aligned = self.aligned_width or (teacher.width if teacher else self.width or 768)
        if teacher and aligned != teacher.width:
            raise ModelError(
                f"aligned_width = {aligned}, and the teacher has {teacher.width} channels", "leave aligned_width away"
            )
        pitch_px = teacher.pitch_px if teacher else PITCH_PX // self.teacher_zoom
        width, of_fmm = self.width or aligned, (self.fmm, self.blocks, self.heads, self.window, self.residual)
        return Form(aligned, pitch_px, width, *of_fmm, self.skip)


TINY = Settings()
BASE = replace(TINY, learning_rate=6e-4, width=160, heads=5, window=19, decoder=160)
# As it was run for the cover levels of grass.
PAPER = replace(
    TINY,
    learning_rate=6e-4,
    pretrained_rate=1.0,
    clip=1e9,
    average=0.0,
    balance=0.0,
    dice=0.0,
    kl_axis="width",
    teacher_norm="published",
    width=0,
    blocks=4,
    heads=8,
    window=0,
    residual=False,
    skip=False,
    decoder=512,
)
PRESETS = {"tiny": TINY, "base": BASE, "paper": PAPER}


# 1. The loss that pulls towards the teacher.


def divergence(aligned: Tensor, taught: Tensor, valid: Tensor, axis: str, temperature: float) -> Tensor:
    """tau^2 KL(softmax(T / tau) || softmax(A / tau)) of maps (B, C, h, w); tokens (B, h, w) that are not valid are out.

    By channel the mean over tokens, in space the mean over channels; by width, as released, the sum over rows and
    channels, divided by B alone.
    """
    inside = valid[:, None].expand_as(taught)
    if axis == "channel":
        losses = _kl(aligned, taught, 1, temperature).sum(1)
        found = losses[valid].sum() / valid.sum().clamp(min=1)
    else:
        dims = -1
        if axis == "spatial":
            aligned, taught, inside = (part.flatten(2) for part in (aligned, taught, inside))
        lowest = torch.finfo(taught.dtype).min
        aligned, taught = (torch.where(inside, part, lowest) for part in (aligned, taught))
        rows = torch.where(inside, _kl(aligned, taught, dims, temperature), 0).sum(dims)
        counted = inside.any(dims).sum() if axis == "spatial" else torch.tensor(len(taught), device=taught.device)
        found = rows.sum() / counted.clamp(min=1)
    return temperature**2 * found


def _kl(aligned: Tensor, taught: Tensor, dim: int, temperature: float) -> Tensor:
    wanted = (taught / temperature).log_softmax(dim)
    return wanted.exp() * (wanted - (aligned / temperature).log_softmax(dim))


def distance(aligned: Tensor, taught: Tensor, valid: Tensor) -> Tensor:
    """Mean square over the elements of valid tokens."""
    squares = (aligned - taught).square().mean(1)
    return squares[valid].sum() / valid.sum().clamp(min=1)


def distillation(aligned: list[Tensor], lesson: Lesson, settings: Settings) -> dict[str, Tensor]:
    """Means over depths: `distil` is what is minimised, `likeness` the cosine between student and teacher."""
    alpha, zero = settings.alpha, aligned[0].new_zeros(())
    kl, mse, likeness = [], [], []
    for ours, theirs in zip((level.float() for level in aligned), lesson.maps, strict=True):
        kl.append(divergence(ours, theirs, lesson.valid, settings.kl_axis, settings.temperature) if alpha else zero)
        mse.append(distance(ours, theirs, lesson.valid))
        cosines = functional.cosine_similarity(ours.detach(), theirs, dim=1)
        likeness.append(cosines[lesson.valid].sum() / lesson.valid.sum().clamp(min=1))
    found = {name: torch.stack(parts).mean() for name, parts in (("kl", kl), ("mse", mse), ("likeness", likeness))}
    return {"distil": alpha * found["kl"] + (1 - alpha) * found["mse"], **found}


class Standardise(nn.Module):
    """Each channel of each depth less its mean and by its deviation, as they were of late."""

    mean: Tensor
    square: Tensor
    weight: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros(DEPTHS, width))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def forward(self, lesson: Lesson) -> Lesson:
        if lesson.valid.any():
            tokens = torch.stack([level.permute(0, 2, 3, 1)[lesson.valid] for level in lesson.maps])
            self.mean.mul_(REMEMBERED).add_((1 - REMEMBERED) * tokens.mean(1))
            self.square.mul_(REMEMBERED).add_((1 - REMEMBERED) * tokens.square().mean(1))
            self.weight.mul_(REMEMBERED).add_(1 - REMEMBERED)
        mean, square = (part / self.weight.clamp(min=1e-6) for part in (self.mean, self.square))
        deviation = (square - mean.square()).clamp(min=1e-6).sqrt()
        maps = [
            (level - m[:, None, None]) / d[:, None, None]
            for level, m, d in zip(lesson.maps, mean, deviation, strict=True)
        ]
        return replace(lesson, maps=maps)


# 2. What labels teach.


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 less twice the overlap of probabilities and labels by their sum; the mean over classes that are labelled."""
    known = labels != NO_LABEL
    wanted = functional.one_hot(torch.where(known, labels, 0), logits.shape[1]).permute(0, 3, 1, 2) * known[:, None]
    found = logits.float().softmax(1) * known[:, None]
    overlap, total = (found * wanted).sum((0, 2, 3)), (found + wanted).sum((0, 2, 3))
    present = wanted.sum((0, 2, 3)) > 0
    return (1 - 2 * overlap / total.clamp(min=1e-6))[present].sum() / present.sum().clamp(min=1)


class RiseAndFall(Schedule):
    """From a thousandth of the rate up to all of it, and down to nothing."""

    def factor(self, number: int) -> float:
        if number < self.warm_up:
            return START + (1 - START) * number / self.warm_up
        return float((1 - (number - self.warm_up) / max(1, self.steps - self.warm_up)) ** self.power)


def joined(batch: Batch | Domains[Batch]) -> Batch:
    """Of both domains, where there are two; so that a student looks once."""
    if isinstance(batch, Batch):
        return cleared(batch)
    parts = batch.source, batch.target
    return cleared(
        Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("bands", "valid", "labels")))
    )


# 3. The method at work.


class Ktda(OfParts):
    """Labels and a teacher; keeps the moving average of the student."""

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: Settings,
        steps: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
        *,
        teacher: Teacher | None,
        pretrained: bool = False,
        colours: float = 0.0,  # spread of brightness and contrast, of what the student sees
    ) -> None:
        self.settings, self.steps, self.colours = settings, steps, colours
        self.teacher = teacher if settings.distil else None
        self.student = transferred(network, settings.form(teacher), settings.decoder).train()
        self.network: Transferred = copy.deepcopy(self.student)
        self.average = Average(self.student, self.network, settings.average)
        device, width = next(network.parameters()).device, self.student.head.form.width
        self.auxiliary = FcnHead(width, network.architecture.classes, AUXILIARY_WIDTH).to(device)
        self.standardise = Standardise(teacher.width).to(device) if teacher else None
        self.class_weights = class_weights
        # Added while learning and not kept, as in source-only.
        self.preference = 0.0 if class_shares is None else settings.balance * preference(class_shares)
        encoder_rate = settings.learning_rate * (settings.pretrained_rate if pretrained else 1.0)
        heads = nn.ModuleList([self.student.head, self.auxiliary])
        self.descent = Descent(
            [(self.student.encoder, encoder_rate), (heads, settings.learning_rate)],
            RiseAndFall(steps, round(settings.warm_up * steps)),
            settings.weight_decay,
            settings.clip,
        )

    def step(self, batch: Batch | Domains[Batch], number: int) -> dict[str, Tensor]:
        plain = joined(batch)
        varied = vary_colours(plain, self.colours) if self.colours else plain
        device, size = plain.bands.device.type, plain.labels.shape[-2:]
        with autocast(self.settings.precision, device):
            seen = self.student.see(varied.bands, varied.valid)
            aside = self.student.head.enlarged(self.auxiliary(seen.pyramid[AUXILIARY_LEVEL]), size)
            lesson = self.lesson(plain)
        losses = self.supervised(seen.logits, aside, plain.labels)
        total = losses["source"] + self.settings.auxiliary * losses["auxiliary"]
        if "dice" in losses:
            total = total + self.settings.dice * losses["dice"]
        if lesson:
            losses |= distillation(seen.aligned, lesson, self.settings)
            total = total + self.pull(number) * losses["distil"]
        self.descent.minimise(total, number)
        self.average.update(number)
        return {name: loss.detach() for name, loss in losses.items()}

    def lesson(self, batch: Batch) -> Lesson | None:
        if self.teacher is None:
            return None
        lesson: Lesson = self.teacher(batch.bands, batch.valid)
        if self.settings.teacher_norm != "standardised":
            return lesson
        assert self.standardise is not None
        standardised: Lesson = self.standardise(lesson)
        return standardised

    def supervised(self, logits: Tensor, aside: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = logits + self.preference
        losses = {
            "source": cross_entropy(logits, labels, self.class_weights),
            "auxiliary": cross_entropy(aside, labels, self.class_weights),
        }
        return losses | ({"dice": dice_loss(logits, labels)} if self.settings.dice else {})

    def pull(self, number: int) -> float:
        """Weight of the teacher at a step."""
        left = self.steps - number
        fading = math.ceil(self.settings.fade * self.steps)
        return self.settings.distil * min(1.0, left / (fading + 1))

    def parts(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("student", "network", "auxiliary", "descent")}
        return parts if self.standardise is None else parts | {"standardise": self.standardise}
