"""Fusion over dates: what it is before it learns, whom it listens to, and what lies where."""

from dataclasses import replace

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.fusion import Fusion, OfSeries, combined, parts_of, warp
from rsseg_models.kept import rebuild
from rsseg_models.network import Architecture, build
from torch import Tensor

DAYS = torch.tensor([0.0, 45.0, 90.0])


def clips(dates: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, dates, 4, 6, 5, generator=generator), torch.ones(2, dates, 6, 5, dtype=torch.bool)


def taught() -> Fusion:
    fusion = Fusion(4)
    torch.manual_seed(2)
    torch.nn.init.normal_(fusion.others)
    return fusion


def test_before_it_learns_a_date_keeps_its_logits_to_the_bit() -> None:
    logits, valid = clips()
    fused, known = Fusion(4).fuse(logits, valid, DAYS)
    assert torch.equal(fused, logits)
    assert known.all()


def test_the_part_of_the_references_can_be_learned_from_the_start() -> None:
    fusion, (logits, valid) = Fusion(4), clips()
    fusion.fuse_one(0, logits, valid, DAYS)[0].square().sum().backward()
    assert fusion.others.grad is not None
    assert fusion.others.grad.norm() > 0


def test_a_reference_counts_less_the_farther_it_is_in_time() -> None:
    """exp(-dt / 45): 1, 0.3679, 0.1353, which is 0.6652, 0.2447, 0.0900 of the whole."""
    logits = torch.eye(4)[None, :, :, None, None]  # each date a class of its own
    valid, days = torch.ones(1, 4, 1, 1, dtype=torch.bool), torch.tensor([0.0, 0.0, 45.0, 90.0])
    said, spoken = combined(0, logits, valid, days)
    torch.testing.assert_close(said[0, :, 0, 0], torch.tensor([0.0, 0.6652, 0.2447, 0.0900]), atol=1e-4, rtol=0)
    assert spoken.all()


def test_one_reference_counts_in_full_however_far() -> None:
    logits, valid = clips(2)
    said, _ = combined(0, logits, valid, torch.tensor([0.0, 2000.0]))
    torch.testing.assert_close(said, logits[:, 1])


def test_dates_decades_apart_still_speak_for_each_other() -> None:
    logits, valid = clips(2)
    said, spoken = combined(0, logits, valid, torch.tensor([0.0, 12_784.0]))
    torch.testing.assert_close(said, logits[:, 1])
    assert spoken.all()


def test_references_that_show_nothing_change_nothing() -> None:
    fusion, (logits, valid) = taught(), clips()
    alone, _ = fusion.fuse(logits[:, :1], valid[:, :1], DAYS[:1])
    valid[:, 1:] = False
    clouded = logits.clone()
    clouded[:, 1:] = torch.nan
    fused, _ = fusion.fuse(clouded, valid, DAYS)
    assert torch.equal(fused[:, 0], alone[:, 0])


def test_where_a_date_shows_nothing_the_others_speak() -> None:
    """As they say it once they have been fused, however the layer mixes what a date shows with what they say."""
    logits, valid = clips()
    valid[:, 0, :3] = False
    fused, known = taught().fuse(logits, valid, DAYS)
    said, _ = combined(0, fused, valid, DAYS)
    torch.testing.assert_close(fused[:, 0, :, :3], said[:, :, :3])
    assert not torch.isclose(fused[:, 0, :, 3:], said[:, :, 3:]).all()
    assert known.all()


def test_who_speaks_for_a_hidden_date_has_heard_the_others() -> None:
    """Of three dates the first is hidden: the second speaks as fused with the third, and the third as fused with it."""
    fusion, (logits, valid) = taught(), clips()
    valid[:, 0] = False
    fused, _ = fusion.fuse(logits, valid, DAYS)
    second, third = (fusion(logits[:, one], logits[:, other]) for one, other in ((1, 2), (2, 1)))
    said, _ = combined(0, torch.stack([logits[:, 0], second, third], 1), valid, DAYS)
    torch.testing.assert_close(fused[:, 0], said)


def test_what_a_date_does_not_show_teaches_the_layer_nothing() -> None:
    fusion, (logits, valid) = taught(), clips()
    logits[:, 0, :, :3] = torch.nan
    valid[:, 0, :3] = False
    fused, _ = fusion.fuse_one(0, logits, valid, DAYS)
    fused[..., 3:, :].sum().backward()
    assert fusion.own.grad is not None
    assert fusion.own.grad.isfinite().all()


def test_where_no_date_shows_anything_nothing_is_known() -> None:
    logits, valid = clips()
    valid[..., 2] = False
    assert (Fusion(4).fuse(logits, valid, DAYS)[1] == valid).all()


def test_dates_may_differ_from_crop_to_crop() -> None:
    fusion, (logits, valid) = taught(), clips()
    days = torch.stack([DAYS, 2 * DAYS])
    both, _ = fusion.fuse_one(1, logits, valid, days)
    for number in (0, 1):
        one, _ = fusion.fuse_one(1, logits[[number]], valid[[number]], days[number])
        torch.testing.assert_close(both[[number]], one)


def test_no_flow_moves_nothing() -> None:
    plane = torch.randn(1, 2, 7, 5)
    assert torch.equal(warp(plane, torch.zeros(2)), plane)


def test_flow_takes_what_lies_there() -> None:
    """Flow (0, +1) on a ramp v = x gives x + 1 away from the border; 4 px at 512 are 1 px at 128."""
    ramp = torch.arange(128.0).expand(1, 1, 128, 128)
    flow_of_bands = torch.tensor([0.0, 4.0])
    moved = warp(ramp, flow_of_bands * 128 / 512)
    torch.testing.assert_close(moved[..., :-1], ramp[..., :-1] + 1)
    each = torch.zeros(1, 2, 128, 128)
    each[:, 1] = 1
    torch.testing.assert_close(warp(ramp, each), moved)


def test_shifted_dates_are_brought_under_each_other() -> None:
    logits, valid = clips(2)
    logits = torch.nn.functional.interpolate(logits.flatten(0, 1), scale_factor=6, mode="bilinear").view(
        2, 2, 4, 36, 30
    )
    logits[:, 1] = logits[:, 0].roll((1, -1), (-2, -1))  # one down, one to the left
    valid = torch.ones(2, 2, 36, 30, dtype=torch.bool)
    shifts, inner = torch.tensor([[0.0, 0.0], [1.0, -1.0]]), (..., slice(2, -2), slice(2, -2))
    fusion = Fusion(4)
    torch.nn.init.eye_(fusion.others)
    fused, _ = fusion.fuse(logits, valid, DAYS[:2], shifts)
    torch.testing.assert_close(fused[:, 0][inner], 2 * logits[:, 0][inner], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fused[:, 1][inner], 2 * logits[:, 1][inner], atol=1e-4, rtol=1e-4)


def test_a_network_for_series_is_rebuilt_from_its_description() -> None:
    plain = build(Architecture("tiny", ("red", "nir"), 4, width=16))
    network = OfSeries(plain.eval(), taught()).eval()
    again = rebuild(network.architecture)
    again.load_state_dict(network.state_dict())
    bands = torch.randn(1, 2, 32, 32)
    assert torch.equal(again.eval()(bands), network(bands))
    one, fusion = parts_of(again, 4)
    logits = one(bands)
    alone, _ = fusion.fuse(logits[:, None], torch.ones(1, 1, 32, 32, dtype=torch.bool), DAYS[:1])
    assert torch.equal(alone[:, 0], network(bands))


@pytest.mark.parametrize("described", ["{}", "[1]", "no", '{"tau_days": "long"}', '{"tau_days": -1.0}'])
def test_an_unknown_fusion_is_refused(described: str) -> None:
    architecture = replace(Architecture("tiny", ("red",), 2, width=16), fusion=described)
    with pytest.raises(ModelError, match="fusion of dates"):
        rebuild(architecture)
