"""The small pyramid: size, and that it sees no further than it says."""

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.network import Architecture, SegmentationNetwork, build, count_parameters
from rsseg_models.tiny import Tiny

# Half the head's interpolation from stride 32, and half of that from stride 4 to pixels.
HEAD_REACH_PX = 32 + 4


def settled(network: SegmentationNetwork) -> SegmentationNetwork:
    """With statistics and scales of a trained network rather than the zeros and ones it starts with."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.1
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            torch.nn.init.uniform_(module.weight, 0.5, 1.0, generator)
    return network.eval()


def test_it_stays_under_a_million_parameters() -> None:
    assert count_parameters(build(Architecture("tiny", tuple("abcdefghijkl"), 20))) < 1_000_000


def test_levels_have_the_channels_and_strides_it_states() -> None:
    encoder = Tiny(3)
    levels = encoder(torch.zeros(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]


@torch.no_grad()
def test_a_pixel_does_not_depend_on_what_lies_beyond_its_reach() -> None:
    torch.manual_seed(0)
    network = settled(build(Architecture("tiny", ("a", "b"), 3)))
    assert network.encoder.reach_px is not None
    reach_px = network.encoder.reach_px + HEAD_REACH_PX
    before = torch.randn(1, 2, 416, 416)
    after = before.clone()
    row, column = 203, 211
    after[:, :, row, column] += 100
    moved = (network(before) != network(after)).any(dim=1)[0].nonzero()
    distance = (moved - torch.tensor([row, column])).abs().max(dim=1).values
    assert 32 < distance.max() <= reach_px


@torch.no_grad()
def test_tiles_on_the_grid_give_what_the_whole_gives() -> None:
    torch.manual_seed(1)
    network = settled(build(Architecture("tiny", ("a",), 4)))
    scene = torch.randn(1, 1, 448, 704)
    whole = network(scene)
    tile = network(scene[..., 192:640])
    # 192 px: the reach, rounded up to whole cells.
    assert torch.allclose(tile[..., 192:256], whole[..., 384:448], atol=1e-5)
    assert torch.equal(tile[..., 192:256].argmax(1), whole[..., 384:448].argmax(1))


def test_a_batch_does_not_change_its_members() -> None:
    torch.manual_seed(2)
    network = settled(build(Architecture("tiny", ("a",), 4)))
    batch = torch.randn(4, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(batch)[2:3], network(batch[2:3]), atol=1e-5, rtol=1e-5)


def test_it_learns_a_pattern() -> None:
    torch.manual_seed(3)
    network = build(Architecture("tiny", ("a",), 2))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(4)
    for _ in range(30):
        # Fine noise against coarse noise: the same values, another texture.
        fine, coarse = torch.randn(2, 4, 1, 64, 64, generator=generator)
        coarse = coarse[..., ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
        logits = network(torch.cat([fine, coarse]))
        labels = torch.arange(2).repeat_interleave(4)[:, None, None].expand(8, 64, 64)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_nobody_else_publishes_weights_for_it() -> None:
    own = Tiny(3).state_dict()
    assert Tiny(3).translate(own).naming == "rsseg"
    with pytest.raises(ModelError, match="no weights of the encoder tiny"):
        Tiny(3).translate({"features.0.0.weight": torch.zeros(1)})


def test_it_has_no_variants() -> None:
    with pytest.raises(ModelError, match="no variant"):
        Tiny(3, "large")
