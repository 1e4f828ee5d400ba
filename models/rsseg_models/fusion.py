"""Fusion over dates: the logits of one date, helped by those of others of the same ground.

From DA-STC (arXiv 2311.13254), which follows videos by their optical flow. Dates of a series lie on one map grid, so
that nothing flows but for a small shift between them that may remain. Any number of dates, at any distance in time;
what a date does not show, because of clouds or gaps, it does not speak about.
"""

import json
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.errors import ModelError
from rsseg_models.network import Architecture, SegmentationNetwork

# A date so far away counts e times less as a reference.
TAU_DAYS = 45.0


class Fusion(nn.Module):
    """One layer over the logits of a date and those of its references; at first it leaves the date's as they are."""

    def __init__(self, classes: int, tau_days: float = TAU_DAYS) -> None:
        super().__init__()
        self.tau_days = tau_days
        self.own = nn.Parameter(torch.eye(classes))
        self.others = nn.Parameter(torch.zeros(classes, classes))

    def forward(self, own: Tensor, reference: Tensor) -> Tensor:
        """Logits (..., K, H, W) of a date and of its combined references."""
        return _mixed(self.own, own) + _mixed(self.others, reference)

    def fuse(self, logits: Tensor, valid: Tensor, days: Tensor, shifts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each date with all others as its references, and where anything is known about it.

        Logits (B, T, K, H, W), valid (B, T, H, W), days (T,), and by how many pixels down and right each date lies
        off the first (T, 2). A date that does not show a pixel takes what the others say once they have been fused;
        where none does, what comes out has no meaning.
        """
        dates = range(logits.shape[1])
        fused = [self.fuse_one(date, *_seen_from(date, logits, valid, shifts), days) for date in dates]
        own, known = (torch.stack(parts, 1) for parts in zip(*fused, strict=True))
        told = own.clone()
        for date in dates:
            if not valid[:, date].all():
                said, _ = combined(date, *_seen_from(date, own, valid, shifts), days, self.tau_days)
                told[:, date] = torch.where(valid[:, date, None], own[:, date], said)
        return told, known

    def fuse_one(self, date: int, logits: Tensor, valid: Tensor, days: Tensor) -> tuple[Tensor, Tensor]:
        """One date (B, K, H, W) with all others as its references; and where anything is known about it.

        What a date does not show it takes from the others as they say it. Published, that goes through the layer too,
        as if the date had said the same: maps are as good so, and the layer learns from what nobody has seen.
        """
        reference, spoken = combined(date, logits, valid, days, self.tau_days)
        seen = valid[:, date, None]
        own = torch.where(seen, logits[:, date], reference)  # no NaN, which the layer would learn from
        fused: Tensor = self(own, torch.where(spoken, reference, own))
        return torch.where(seen, fused, reference), (seen | spoken)[:, 0]

    @property
    def strength(self) -> Tensor:
        """How much references count: 0 before anything is learned."""
        share: Tensor = self.others.norm() / self.own.norm()
        return share.detach()


def _mixed(weights: Tensor, logits: Tensor) -> Tensor:
    # Kept to the bit where nothing was learned: a sum with zeros may be rounded, a multiple of one is not.
    mixed: Tensor = torch.einsum("jk,...khw->...jhw", weights, logits)
    return mixed


def combined(
    date: int, logits: Tensor, valid: Tensor, days: Tensor, tau_days: float = TAU_DAYS
) -> tuple[Tensor, Tensor]:
    """What all other dates say, the nearer in time the louder (B, K, H, W); and where any does (B, 1, H, W)."""
    loudness = -(days - days[..., date, None]).abs().expand(logits.shape[:2]) / tau_days
    others = valid.clone()
    others[:, date] = False
    spoken = others.any(1, keepdim=True)
    # A softmax, so that dates decades apart do not all count nothing.
    share = loudness[..., None, None].masked_fill(~others, -torch.inf).softmax(1).masked_fill(~others, 0)
    # Where a date shows nothing its logits may be anything, even NaN.
    said = torch.where(others[:, :, None], logits, 0) * share[:, :, None]
    return said.sum(1), spoken


def _seen_from(date: int, logits: Tensor, valid: Tensor, shifts: Tensor | None) -> tuple[Tensor, Tensor]:
    """All dates as they lie under one of them."""
    if shifts is None or not shifts.any():
        return logits, valid
    offs = shifts - shifts[date]
    moved = [warp(logits[:, other], off) for other, off in enumerate(offs)]
    there = [warp(valid[:, other, None].float(), off)[:, 0] > 0.5 for other, off in enumerate(offs)]
    return torch.stack(moved, 1), torch.stack(there, 1)


def warp(planes: Tensor, flow: Tensor) -> Tensor:
    """What lies at (y + flow_y, x + flow_x) of planes (B, C, H, W); the flow is one for all (2,), or (B, 2, H, W).

    Beyond the border there is the border.
    """
    if not flow.any():
        return planes
    height, width = planes.shape[-2:]
    rows = torch.arange(height, device=planes.device, dtype=planes.dtype)[:, None]
    cols = torch.arange(width, device=planes.device, dtype=planes.dtype)
    down, right = flow.to(planes).unbind(-3 if flow.ndim > 1 else 0)
    across = (2 * (cols + right) / max(1, width - 1) - 1).expand(*down.shape[:-2], height, width)
    along = (2 * (rows + down) / max(1, height - 1) - 1).expand(*down.shape[:-2], height, width)
    at = torch.stack([across, along], -1)
    at = at.expand(len(planes), height, width, 2)
    return functional.grid_sample(planes, at, mode="bilinear", padding_mode="border", align_corners=True)


class OfSeries(nn.Module):
    """A segmentation network that has learned to take the dates of a series together."""

    def __init__(self, network: SegmentationNetwork, fusion: Fusion) -> None:
        super().__init__()
        self.network, self.fusion = network, fusion
        described = replace(network.architecture, fusion=json.dumps({"tau_days": fusion.tau_days}))
        self.architecture: Architecture = described

    def forward(self, bands: Tensor) -> Tensor:
        """Logits of a scene by itself: it is its own reference."""
        logits = self.network(bands)
        fused: Tensor = self.fusion(logits, logits)
        return fused


def of_series(network: SegmentationNetwork, described: str) -> OfSeries:
    """The network with a fresh fusion as described."""
    try:
        form = json.loads(described)
        tau_days = form["tau_days"]
        if set(form) != {"tau_days"} or type(tau_days) is not float or not tau_days > 0:
            raise ValueError(described)
    except (KeyError, TypeError, ValueError) as problem:
        raise ModelError("a fusion of dates is described in a way that is not known", "update rsseg") from problem
    return OfSeries(network, Fusion(network.architecture.classes, tau_days))


def parts_of(network: nn.Module, classes: int) -> tuple[nn.Module, Fusion]:
    """What gives the logits of one date, and the fusion; a network without one leaves dates as they are."""
    if isinstance(network, OfSeries):
        return network.network, network.fusion
    return network, Fusion(classes)
