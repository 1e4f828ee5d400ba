"""Heads: counts, shapes, and that mixing early equals mixing late."""

import pytest
import torch
from rsseg_models.heads import AllMlpHead, FcnHead, UPerHead, resize
from rsseg_models.network import count_parameters
from torch import Tensor

CHANNELS = (32, 64, 160, 256)


def levels(channels: tuple[int, ...] = CHANNELS, batch: int = 2) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, count, 32 >> level, 48 >> level) for level, count in enumerate(channels)]


@pytest.mark.parametrize(("channels", "count"), [(CHANNELS, 395_776), ((32, 64, 160, 288), 403_968)])
@pytest.mark.parametrize("classes", [2, 6])
def test_all_mlp_counts(channels: tuple[int, ...], count: int, classes: int) -> None:
    # 403,968 is ST-DASegNet's figure: its last level brings 32 channels more than MiT-b0 alone.
    assert count_parameters(AllMlpHead(channels, classes)) == count + 257 * classes


@torch.no_grad()
def test_mixing_each_level_equals_mixing_their_concatenation() -> None:
    head = AllMlpHead(CHANNELS, 5, width=24).eval()
    given = levels()
    projected = [project(level) for project, level in zip(head.projections, given, strict=True)]
    together = torch.cat([resize(level, given[0]) for level in projected], dim=1)
    torch.testing.assert_close(head(given), head.classifier(head.fuse(together)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [AllMlpHead, UPerHead])
@pytest.mark.parametrize("batch", [1, 2])
def test_logits_lie_on_the_finest_level(make: type[AllMlpHead] | type[UPerHead], batch: int) -> None:
    head = make(CHANNELS, 7, 16)
    logits = head(levels(batch=batch))
    assert logits.shape == (batch, 7, 32, 48)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_the_auxiliary_head_stays_on_its_level() -> None:
    assert FcnHead(CHANNELS[2], 7)(levels()[2]).shape == (2, 7, 8, 12)


@torch.no_grad()
def test_pyramid_pooling_sees_the_whole_tile() -> None:
    head = UPerHead(CHANNELS, 2, 16).eval()
    given = levels()
    before = head(given)
    given[3][:, :, -1, -1] += 10
    assert not torch.equal(head(given)[..., 0, 0], before[..., 0, 0])
