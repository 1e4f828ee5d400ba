"""`metric-cd-paper`: Bandara & Patel, *Deep Metric Learning for Unsupervised Remote Sensing Change Detection* (WACV
2025, arXiv 2303.09536), as it was released. No label, no training set: a network is optimised on one pair of dates.

The first date is shown as the second would show it (two regressions), both are compared as images and by the features
of a fixed network, and a generator turns their difference into a map. It learns to call unchanged what is alike and
changed what is not. The whole pair is in memory at every step, since its batch norm looks at all of it.

Not as released: steps and threshold are fixed, where the authors chose both by the truth; the second regression is
over pixels, where theirs mixed up pixels and bands. Two of their terms have no effect on the map and are left out:
one on jittered images compares a date with itself (`jitter` has it as it was meant), one does not reach the generator.
As the feature network then stays as it is, features are made once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rsseg_models.batch import Batch
from rsseg_models.change_features import STRIDES, Extractor
from rsseg_models.errors import ModelError
from rsseg_models.losses import NO_LABEL
from rsseg_models.optimise import Report, optimise

Dates = tuple[Tensor, Tensor]
NORMS = ("separate", "joint")
# Memory that a pixel takes, rounded up: 3,400 measured on a scene of 824 x 716.
BYTES_PX = 4_000
# Blocks whose maps are made again for the way back, in a fifth more time: kept, they take 17,000 bytes a pixel.
BLOCKS_TOGETHER = 4
# Pixels that a regression looks at together.
CHUNK = 1 << 16
# Part by which a jitter changes brightness, contrast and saturation, either way.
JITTER = 0.2
LEAST_SIDE_PX = 8


@dataclass(frozen=True)
class Settings:
    """What can be set with --set NAME=VALUE; the defaults are the paper's."""

    cc: bool = True
    """Shows the first date as the second would, by a linear regression over all pixels (chronochrome)."""
    norm: str = "separate"
    """separate: each date by its least and greatest value; joint: each band by the 2 and 98 % of both dates."""
    pcc: bool = True
    """Then once more, by a polynomial regression."""
    jitter: bool = False
    """Compares the dates after a change of colours as well, another one for each, drawn anew in every step."""
    steps: int = 50
    """Steps of the optimisation."""
    learning_rate: float = 1e-4
    """Of Adam."""
    threshold: float = 0.7
    """Above it the map says changed."""
    memory_gb: float = 8.0
    """What the optimisation may take; a pair that needs more is refused."""

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ModelError(f"norm = {self.norm}: not a way to scale two dates", f"use {' or '.join(NORMS)}")
        for name, value, least, most in (
            ("steps", self.steps, 1, 1_000_000),
            ("learning_rate", self.learning_rate, 0, 1),
            ("threshold", self.threshold, 0, 1),
            ("memory_gb", self.memory_gb, 0, 1e6),
        ):
            if not least <= value <= most:
                raise ModelError(f"{name} = {value}: out of range", f"give between {least} and {most:g}")


def detect(
    before: Tensor,
    after: Tensor,
    valid: Tensor,
    features: Extractor,
    settings: Settings,
    *,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[Report], None] = lambda done: None,
) -> Tensor:
    """How likely each pixel changed (H, W), NaN where either date has nothing, from two dates (N, H, W) on the CPU."""
    detector = begin(before, after, valid, features, settings, seed, device)
    for done in optimise(detector, lambda number: detector.scene, settings.steps, seed):
        report(done)
    return detector.map()


def begin(
    before: Tensor, after: Tensor, valid: Tensor, features: Extractor, settings: Settings, seed: int, device: str
) -> "MetricCdPaper":
    """The method before its first step, for who wants to stop it early."""
    valid = valid & before.isfinite().all(dim=0) & after.isfinite().all(dim=0)
    check(valid, settings)
    one, other = (date[None].to(device) for date in prepare(before, after, valid, settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Generator(len(before))
    return MetricCdPaper(network.to(device), (one, other), valid.to(device), features.to(device), settings)


def check(valid: Tensor, settings: Settings) -> None:
    """ModelError for a pair that cannot be worked on."""
    height, width = valid.shape
    if min(height, width) < LEAST_SIDE_PX:
        raise ModelError(f"{width} x {height} pixels are too few", f"give at least {LEAST_SIDE_PX} a side")
    if not valid.any():
        raise ModelError("no pixel has values in both dates", "check the overlap, nodata and masks")
    needed_gb = valid.numel() * BYTES_PX / 1e9
    if needed_gb > settings.memory_gb:
        raise ModelError(
            f"{width} x {height} pixels need about {needed_gb:.1f} GB, because metric-cd-paper works on all at once",
            f"use metric-cd, which works at any size, or a smaller area; or set memory_gb above {settings.memory_gb:g}",
        )


# 1. Two dates that can be compared.


def prepare(before: Tensor, after: Tensor, valid: Tensor, settings: Settings) -> Dates:
    """Both dates in about [0, 1], the first as the second would show it; alike where there is nothing."""
    # Tables (pixel, band) of what is valid. In double: a regression on float32 shows in the sixth digit.
    x, y = (date[:, valid].T.double() for date in (before, after))
    if settings.cc:
        x = regressed(x, y, linear_terms)
    x, y = scaled_apart(x, y) if settings.norm == "separate" else scaled_together(x, y)
    if settings.pcc:
        x = regressed(x, y, polynomial_terms)
    nothing = y.mean(dim=0)
    return placed(x, valid, nothing), placed(y, valid, nothing)


def regressed(x: Tensor, y: Tensor, terms: Callable[[Tensor], Tensor]) -> Tensor:
    """y as least squares predict it from terms of x: chronochrome, C_yx C_xx^-1 (x - m_x) + m_y, for linear ones."""
    triangle = y.new_zeros(0, terms(x[:1]).shape[1] + y.shape[1])
    for some_x, some_y in zip(chunks(x), chunks(y), strict=True):
        # QR and not sums of products, which would lose half of the digits; bit by bit, because terms are many.
        rows = torch.cat([triangle, torch.cat([terms(some_x), some_y], dim=1)])
        triangle = torch.linalg.qr(rows, mode="r").R
    known, wanted = triangle.tensor_split([triangle.shape[1] - y.shape[1]], dim=1)
    # `gelsd` takes the smallest solution where bands repeat each other.
    weights = torch.linalg.lstsq(known, wanted, driver="gelsd").solution
    return torch.cat([terms(some) @ weights for some in chunks(x)])


def chunks(table: Tensor) -> Iterator[Tensor]:
    return (table[start : start + CHUNK] for start in range(0, len(table), CHUNK))


def linear_terms(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def polynomial_terms(x: Tensor) -> Tensor:
    """Bands, their products and squares, and 1; of three bands the product of all as well, as in the paper."""
    one, other = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    products = [x[:, one] * x[:, other]] + ([x.prod(dim=1, keepdim=True)] if x.shape[1] == 3 else [])
    return torch.cat([linear_terms(x), *products], dim=1)


def scaled_apart(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return between(x, x.min(), x.max()), between(y, y.min(), y.max())


def scaled_together(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([x, y]).sort(dim=0).values
    low, high = both[round(0.02 * (len(both) - 1))], both[round(0.98 * (len(both) - 1))]
    return between(x, low, high), between(y, low, high)


def between(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """0 at low and 1 at high; 0 where both are the same."""
    return (x - low) / torch.where(high > low, high - low, torch.inf)


def placed(pixels: Tensor, valid: Tensor, nothing: Tensor) -> Tensor:
    """A table of valid pixels as float32 bands (N, H, W)."""
    bands = nothing[:, None, None].repeat(1, *valid.shape)
    bands[:, valid] = pixels.T
    return bands.float()


# 2. How far apart they are.


@dataclass(frozen=True)
class Level:
    """The distance of two dates at one stride, a mean over bands or channels."""

    stride: int
    distance: Tensor  # (H // stride, W // stride)
    valid: Tensor  # the same, bool: where all pixels of a cell are


def image_level(before: Tensor, after: Tensor, valid: Tensor) -> Level:
    return Level(1, (before - after).abs().mean(dim=1)[0], valid)


@torch.no_grad()
def feature_levels(before: Tensor, after: Tensor, valid: Tensor, features: Extractor) -> list[Level]:
    """Of standardised features, the distances of two dates (1, N, H, W)."""
    pairs = zip(STRIDES, features(before), features(after), strict=True)
    levels = []
    for stride, one, other in pairs:
        whole = functional.max_pool2d((~valid).float()[None], stride)[0] == 0
        apart = (standardised(one[0], whole) - standardised(other[0], whole)).abs().mean(dim=0)
        levels.append(Level(stride, apart, whole))
    return levels


def standardised(level: Tensor, valid: Tensor) -> Tensor:
    """Each channel (C, H, W) with mean 0 and deviation 1 over what is valid; 0 for a channel that is flat."""
    if not valid.any():
        return torch.zeros_like(level)
    deviation, mean = torch.std_mean(level[:, valid], dim=1, correction=0)
    # What is left of a flat channel is rounding, which would be blown up.
    deviation = torch.where(deviation > 1e-6 * mean.abs(), deviation + 1e-9, torch.inf)
    return (level - mean[:, None, None]) / deviation[:, None, None]


# 3. The network that draws the map.


class ValidNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the valid pixels; 0 elsewhere, where by those statistics anything could grow."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is None or not self.training:
            normed: Tensor = super().forward(x)
            return normed
        variance, mean = torch.var_mean(x[..., valid], dim=(0, 2), correction=0)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normed = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return torch.where(valid, normed, 0)


class Block(nn.Module):
    """Two convolutions on top of what is there; nothing is cut off after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.first_norm, self.second_norm = ValidNorm(width), ValidNorm(width)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = functional.leaky_relu(self.first_norm(self.first(x), valid), 0.2, inplace=True)
        risen: Tensor = x + self.second_norm(self.second(y), valid)
        return risen


class Generator(nn.Module):
    """The difference of two dates (B, N, H, W) to (B, 2, H, W) in (0, 1), the first of which is the map (D-CPG)."""

    def __init__(self, bands: int, outputs: int = 2, width: int = 32, blocks: int = 32) -> None:
        super().__init__()
        self.enter = nn.Conv2d(bands, width, 3, padding=1, padding_mode="reflect")
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.mix_norm = ValidNorm(width)
        self.leave = nn.Conv2d(width, outputs, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = functional.leaky_relu(self.enter(x), 0.2, inplace=True)
        for start in range(0, len(self.blocks), BLOCKS_TOGETHER):
            some = self.blocks[start : start + BLOCKS_TOGETHER]
            x = checkpoint(in_turn, some, x, valid, use_reentrant=False, preserve_rng_state=False)
        return torch.sigmoid(self.leave(self.mix_norm(self.mix(x), valid)))


def in_turn(blocks: Iterable[nn.Module], x: Tensor, valid: Tensor | None) -> Tensor:
    for block in blocks:
        x = block(x, valid)
    return x


# 4. What it learns from.


def similarity(change: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """S = mean of q n d and D = - mean of p m d, with p the change (H, W), q = 1 - p, m = 1 where p > q, n = 1 - m.

    Coarser levels take p from the first pixel of a cell.
    """
    height, width = level.distance.shape
    p = change[:: level.stride, :: level.stride][:height, :width][level.valid]
    d = level.distance[level.valid]
    changed = p > 1 - p
    count = max(len(p), 1)
    return ((1 - p) * d)[~changed].sum() / count, -(p * d)[changed].sum() / count


def information(change: Tensor, valid: Tensor) -> Tensor:
    """L_cm = log(e^A / (e^A + e^B)) - log(e^B / (e^A + e^B)) = A - B, A = mean of m p^2, B = mean of n q^2."""
    p = change[valid]
    changed = p > 1 - p
    return (p[changed].square().sum() - (1 - p[~changed]).square().sum()) / len(p)


def losses(change: Tensor, image: Level, levels: Sequence[Level]) -> dict[str, Tensor]:
    """All terms have weight 1. What is changed is decided hard, and no gradient passes through the decision."""
    of_image = similarity(change, image)
    of_levels = [torch.stack(terms).sum() for terms in zip(*(similarity(change, x) for x in levels), strict=True)]
    return {
        "image_similarity": of_image[0],
        "image_dissimilarity": of_image[1],
        "feature_similarity": of_levels[0],
        "feature_dissimilarity": of_levels[1],
        "information": information(change, image.valid),
    }


def jittered(bands: Tensor) -> Tensor:
    """Other brightness, contrast and saturation, within [0, 1]."""
    brightness, contrast, saturation = (1 + JITTER * (2 * torch.rand(3) - 1)).tolist()
    bright = (bands * brightness).clamp(0, 1)
    contrasted = torch.lerp(bright.mean(), bright, contrast).clamp(0, 1)
    return torch.lerp(contrasted.mean(dim=1, keepdim=True), contrasted, saturation).clamp(0, 1)


# 5. The method at work.


class MetricCdPaper:
    """One pair of dates (1, N, H, W), and the generator that is optimised on it."""

    def __init__(
        self, network: Generator, dates: Dates, valid: Tensor, features: Extractor, settings: Settings
    ) -> None:
        self.network: Generator = network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dates, self.features, self.settings = dates, features, settings
        difference = (dates[0] - dates[1]).abs().contiguous(memory_format=torch.channels_last)
        self.scene = Batch(difference, valid[None], torch.full_like(valid[None], NO_LABEL, dtype=torch.int64))
        self.valid, self.mask = valid, None if valid.all() else valid
        self.image, self.levels = image_level(*dates, valid), feature_levels(*dates, valid, features)
        self.changed = torch.zeros_like(valid)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        change = self.network(batch.bands, self.mask)[0, 0]
        terms = losses(change, self.image, self.levels)
        if self.settings.jitter:
            terms |= self.jitter_losses(change)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {name: term.detach() for name, term in terms.items()} | self.shares(change.detach())

    def shares(self, change: Tensor) -> dict[str, Tensor]:
        """How much is called changed, and how much of the scene is not what it was a step ago."""
        changed = change > self.settings.threshold
        flipped, self.changed = changed != self.changed, changed
        return {
            "changed_share": changed[self.valid].float().mean(),
            "flipped_share": flipped[self.valid].float().mean(),
        }

    def jitter_losses(self, change: Tensor) -> dict[str, Tensor]:
        """The feature terms of both dates under other colours."""
        levels = feature_levels(jittered(self.dates[0]), jittered(self.dates[1]), self.valid, self.features)
        terms = losses(change, self.image, levels)
        return {f"jitter_{part}": terms[f"feature_{part}"] for part in ("similarity", "dissimilarity")}

    @torch.no_grad()
    def probability(self) -> Tensor:
        """The map (H, W); batch norm takes the statistics of this scene here too, as it did in every step."""
        change: Tensor = self.network(self.scene.bands, self.mask)[0, 0]
        return change

    def map(self) -> Tensor:
        """The same on the CPU, NaN where there is nothing."""
        return torch.where(self.valid, self.probability(), torch.nan).cpu()

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
