"""DA-STC: patches, labels across dates, classes across domains; numbers from its specification; and that it helps."""

import copy
from dataclasses import replace

import pytest
import torch
from rsseg_models import source_only
from rsseg_models.batch import Batch, Clips, Domains, alone
from rsseg_models.da_stc import PAPER, DaStc, Settings
from rsseg_models.da_stc_parts import (
    PatchForm,
    Prototypes,
    centroids,
    gathered,
    mix,
    mix_features,
    mmd,
    patched,
    proto_loss,
    some_classes,
)
from rsseg_models.errors import ModelError
from rsseg_models.fusion import Fusion, OfSeries
from rsseg_models.losses import NO_LABEL
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.norms import remembering
from rsseg_models.optimise import Average, optimise
from torch import Tensor

STEPS = 4
SCALES, OFFSETS = torch.tensor([2.5, 0.4, 1.0]), torch.tensor([0.3, -0.2, 0.4])
COLOURS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 1.2]])


def series(seed: int, dates: int = 3, shifted: bool = False) -> Clips:
    """Fields of 16 px of three classes, each with its colour, noise and light of every date."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (4, 2, 2), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    clean = COLOURS[labels].permute(0, 3, 1, 2)[:, None]
    bands = clean + 0.3 * torch.randn(4, dates, 3, 32, 32, generator=generator)
    bands = bands + 0.1 * torch.randn(1, dates, 3, 1, 1, generator=generator)
    if shifted:
        bands = bands * SCALES[:, None, None] + OFFSETS[:, None, None]
    days = 40.0 * torch.arange(dates).expand(4, dates)
    return Clips(bands, torch.ones(4, dates, 32, 32, dtype=torch.bool), days, labels)


def unlabelled(clips: Clips) -> Clips:
    return replace(clips, labels=torch.full_like(clips.labels, NO_LABEL))


def draw(number: int, dates: int = 3) -> Domains[Clips]:
    return Domains(series(number, dates), unlabelled(series(1000 + number, dates, shifted=True)))


def network(classes: int = 3) -> SegmentationNetwork:
    torch.manual_seed(1)
    return build(Architecture("tiny", ("red", "green", "blue"), classes, width=16))


def adapter(start: SegmentationNetwork | None = None, steps: int = STEPS, **chosen: float | str | bool) -> DaStc:
    return DaStc(start or network(), replace(Settings(), **chosen), steps)


def weights_of(taught: DaStc) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in taught.network.state_dict().items()}


def learned(taught: DaStc, dates: int = 3, steps: int = STEPS) -> DaStc:
    for _ in optimise(taught, lambda number: draw(number, dates), steps, seed=0):
        pass
    return taught


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --- patches ------------------------------------------------------------------------------------------------------


def test_a_full_mask_gives_the_patch_and_an_empty_one_the_ground() -> None:
    one, two = series(1), series(2)
    two = replace(two, valid=torch.rand(two.valid.shape) > 0.3)
    for patch, onto in ((one, two), (two, one)):
        for mask, wanted in ((torch.ones(4, 32, 32, dtype=torch.bool), patch), (torch.zeros(4, 32, 32).bool(), onto)):
            mixed = mix(mask, patch, onto)
            for part in ("bands", "valid", "labels"):
                assert torch.equal(getattr(mixed, part), getattr(wanted, part))


def everywhere(value: float) -> Tensor:
    return torch.full((4, 32, 32), value)


def test_both_domains_have_the_same_patches_on_every_date() -> None:
    source, target = series(1), series(2, shifted=True)
    torch.manual_seed(0)
    both = patched(source, target, everywhere(0.5), everywhere(1).bool(), torch.tensor([2]), PatchForm())
    inside = both.mask[:, None, None].expand_as(both.source.bands)
    assert 0.1 < both.mask.float().mean() < 0.99
    assert torch.equal(both.source.bands[inside], both.target.bands[inside])
    assert torch.equal(both.source.labels[both.mask], both.target.labels[both.mask])
    assert torch.equal(both.source.bands[~inside], source.bands[~inside])
    assert torch.equal(both.target.bands[~inside], target.bands[~inside])
    assert (both.source.bands[~inside] != both.target.bands[~inside]).all()


def test_patches_of_the_target_count_as_its_labels_do_and_those_of_the_source_in_full() -> None:
    source, target = series(1), series(2, shifted=True)
    both = patched(source, target, everywhere(0.25), everywhere(1).bool(), torch.tensor([]), PatchForm())
    of_source = (both.source.bands[:, 0, 0] == source.rolled(1).bands[:, 0, 0]) & both.mask
    of_target = (both.source.bands[:, 0, 0] == target.rolled(1).bands[:, 0, 0]) & both.mask
    assert of_source.any()
    assert of_target.any()
    for weights in both.weights:
        assert (weights[of_source] == 1).all()
        assert (weights[of_target] == 0.25).all()
    assert (both.weights[0][~both.mask] == 1).all()
    assert (both.weights[1][~both.mask] == 0.25).all()


def test_of_the_target_other_classes_are_cut_out_than_of_the_source() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    torch.manual_seed(0)
    for _ in range(20):
        first = some_classes(labels, 2)
        assert set(some_classes(labels, 2, first)[0].tolist()) == {0, 1, 2} - set(first[0].tolist())


def test_unsure_ground_of_the_target_is_not_pasted() -> None:
    source, target = series(1), series(2, shifted=True)
    both = patched(source, target, everywhere(1), everywhere(0).bool(), torch.tensor([]), PatchForm())
    assert not (both.source.bands[both.mask[:, None, None].expand_as(both.source.bands)] == 0).any()
    other = target.rolled(1).bands[:, 0, 0]
    assert not ((both.source.bands[:, 0, 0] == other) & both.mask).any()


def test_what_a_date_of_a_patch_does_not_show_is_nothing_there() -> None:
    source, target = series(1), series(2)
    source.valid[:, 1] = False
    both = patched(source, target, everywhere(1), everywhere(0).bool(), torch.tensor([]), PatchForm(quad=False, rare=0))
    assert both.target.valid[:, 0].all()
    assert torch.equal(both.target.valid[:, 1], ~both.mask)


def test_a_patch_of_one_date_goes_onto_every_date() -> None:
    one, many = series(1, dates=1), series(2)
    mixed = mix(everywhere(1).bool(), one, many)
    for date in range(3):
        assert torch.equal(mixed.bands[:, date], one.bands[:, 0])


def test_mixed_features_are_three_tenths_of_the_other_domain() -> None:
    first, second = torch.full((1, 2, 4, 4), 10.0, requires_grad=True), torch.zeros(1, 2, 4, 4, requires_grad=True)
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, :8] = True
    mixed = mix_features(first, second, mask, 0.3)
    assert (mixed[:, :, :2] == 3).all()
    assert (mixed[:, :, 2:] == 0).all()
    mixed.sum().backward()
    assert first.grad is None
    assert second.grad is not None
    torch.testing.assert_close(second.grad[:, :, :2], torch.full((1, 2, 2, 4), 0.7))
    assert (second.grad[:, :, 2:] == 1).all()


def test_mixed_features_reach_the_classifier() -> None:
    """In what was released they did not: the loss on the patched target was the same without them."""
    batch, found = draw(0), {}
    for part in (0.0, 0.3, 0.9):
        torch.manual_seed(0)
        taught = adapter(fused_part=part, fused_after=0.0, frames=1, alignment="none")
        found[part] = float(taught.step(Domains(first_date(batch.source), first_date(batch.target)), 0)["mixed_target"])
    assert len(set(found.values())) == 3


def first_date(clips: Clips) -> Clips:
    return Clips(clips.bands[:, :1], clips.valid[:, :1], clips.days[:, :1], clips.labels)


# --- classes across domains ---------------------------------------------------------------------------------------


def test_the_centroid_of_a_constant_is_the_constant() -> None:
    constant = torch.tensor([0.5, -1.0, 2.0])
    found, present = centroids(constant[None, :, None, None].expand(1, 3, 4, 4), torch.ones(1, 4, 4, dtype=torch.long))
    torch.testing.assert_close(found[1], constant)
    assert present.tolist() == [False, True, False]


def test_a_class_of_four_pixels_is_absent_and_of_five_present() -> None:
    places = torch.full((1, 3, 3), NO_LABEL)
    places.view(-1)[:5] = 2
    assert centroids(torch.randn(1, 3, 3, 3), places)[1].tolist() == [False, False, True]
    places.view(-1)[4] = NO_LABEL
    assert not centroids(torch.randn(1, 3, 3, 3), places)[1].any()


def test_a_class_of_one_pair_of_dates_is_that_pairs() -> None:
    one = (torch.tensor([[2.0], [4.0], [6.0]]), torch.tensor([True, True, False]))
    two = (torch.tensor([[4.0], [8.0], [9.0]]), torch.tensor([True, False, False]))
    means, present = gathered([one, two], torch.tensor([0.5, 0.5]))
    assert means[:, 0].tolist() == [3.0, 4.0, 0.0]
    assert present.tolist() == [True, True, False]


def test_matched_classes_cost_little_and_exchanged_ones_much() -> None:
    three = torch.eye(3)
    there = torch.ones(3, dtype=torch.bool)
    assert float(proto_loss(three, three, (there, there), 0.1)) == pytest.approx(9.08e-5, rel=1e-3)
    assert float(proto_loss(three, three.roll(1, 0), (there, there), 0.1)) == pytest.approx(10.00009, abs=1e-4)


def test_absent_classes_do_not_count() -> None:
    four, some = torch.eye(4), torch.tensor([True, True, True, False])
    strange = four.clone()
    strange[3] = 7.0
    assert float(proto_loss(four, strange, (some, some), 0.1)) == pytest.approx(9.08e-5, rel=1e-3)
    one = torch.tensor([True, False, False, False])
    assert float(proto_loss(four, strange, (some, one), 0.1)) == 0


def test_mmd_has_the_published_values_and_does_not_know_classes() -> None:
    assert float(mmd(torch.zeros(2, 1), torch.ones(2, 1))) == pytest.approx(7.129896, abs=1e-5)
    rows = torch.randn(5, 5)
    assert float(mmd(rows, rows)) == pytest.approx(0, abs=1e-6)
    assert float(mmd(rows, rows.roll(2, 0))) == pytest.approx(0, abs=1e-6)


def test_prototypes_are_a_slow_mean() -> None:
    bank, present = Prototypes(2), torch.tensor([True, False])
    bank.remember(torch.ones(2, 2), present)
    assert bank.means.tolist() == [[1, 1], [0, 0]]
    bank.remember(torch.zeros(2, 2), present)
    torch.testing.assert_close(bank.means[0], torch.tensor([0.99, 0.99]))
    assert bank.known.tolist() == [True, False]


# --- labels across dates ------------------------------------------------------------------------------------------


class Fixed(torch.nn.Module):
    """Says of any date what its first band is: class 0 below zero, 1 above; sure of it."""

    def forward(self, bands: Tensor) -> Tensor:
        return torch.stack([-20 * bands[:, 0], 20 * bands[:, 0], torch.full_like(bands[:, 0], -50)], 1)


def clips_of(*values: float, days: tuple[float, ...] = (0.0, 100.0, 140.0)) -> Clips:
    bands = torch.tensor(values)[None, :, None, None, None].expand(1, len(values), 3, 8, 8).clone()
    valid = torch.ones(1, len(values), 8, 8, dtype=torch.bool)
    return Clips(bands, valid, torch.tensor([days[: len(values)]]), torch.full((1, 8, 8), NO_LABEL))


def teaching(**chosen: float | str | bool) -> DaStc:
    taught = adapter(**chosen)
    taught.teacher = Fixed()  # type: ignore[assignment]
    return taught


def test_labels_come_from_other_dates() -> None:
    labels, _, _ = teaching(gate=False).taught(clips_of(-1.0, 1.0, 1.0))
    assert (labels == 1).all()


def test_where_other_dates_show_nothing_the_date_speaks_for_itself() -> None:
    clips = clips_of(-1.0, 1.0, 1.0)
    clips.valid[:, 1:, :, :4] = False
    labels, _, _ = teaching().taught(clips)
    assert (labels[..., :4] == 0).all()
    assert (labels[..., 4:] == 1).all()


def test_a_single_date_teaches_itself() -> None:
    assert (teaching(frames=1).taught(clips_of(-1.0))[0] == 0).all()


@pytest.mark.parametrize(("days", "part"), [((0.0, 100.0), 0.5), ((0.0, 20.0), 1.0)])
def test_where_dates_far_apart_disagree_a_label_counts_half(days: tuple[float, ...], part: float) -> None:
    agreeing = teaching().taught(clips_of(1.0, 1.0, days=days))[1]
    contrary = teaching().taught(clips_of(-1.0, 1.0, days=days))[1]
    torch.testing.assert_close(contrary, part * agreeing)
    assert torch.equal(teaching(gate=False).taught(clips_of(-1.0, 1.0, days=days))[1], agreeing)


def test_all_pixels_teach_when_a_threshold_tells_how_far_to_trust_a_crop() -> None:
    clips = clips_of(1.0)
    clips.bands[:, :, :, :4] = 0.01  # unsure: half of the crop
    labels, trust, _ = teaching(frames=1, labels="threshold").taught(clips)
    assert (labels != NO_LABEL).all()
    torch.testing.assert_close(trust, torch.full_like(trust, 0.5))


# --- the method ---------------------------------------------------------------------------------------------------


def test_a_series_of_one_date_is_a_single_image() -> None:
    one, two = learned(adapter(frames=1), dates=1), learned(adapter(frames=3), dates=1)
    assert_same(one.teacher.state_dict(), two.teacher.state_dict())


def test_single_images_leave_a_network_like_any_other() -> None:
    assert isinstance(adapter(frames=1).network, SegmentationNetwork)
    assert isinstance(adapter(frames=2).network, OfSeries)


def test_dates_under_clouds_change_nothing() -> None:
    def clouded(number: int) -> Domains[Clips]:
        both = draw(number)
        for clips in (both.source, both.target):
            clips.valid[:, 1:] = False
            clips.bands[:, 1:] = 7.0 * number
        return both

    def clear(number: int) -> Domains[Clips]:
        both = draw(number)
        for clips in (both.source, both.target):
            clips.valid[:, 1:] = False
        return both

    one, two = adapter(), adapter()
    for taught, drawn in ((one, clouded), (two, clear)):
        for _ in optimise(taught, drawn, STEPS, seed=0):
            pass
    torch.testing.assert_close(weights_of(one), weights_of(two), atol=1e-6, rtol=1e-5)


def test_the_fusion_learns_to_listen_to_other_dates() -> None:
    taught = learned(adapter())
    assert float(taught.fusion.strength) > 0
    assert float(Fusion(3).strength) == 0


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_date_learns_by_itself_even_where_others_say_all(share: float) -> None:
    taught, clips = adapter(alone=share), series(1)
    with torch.no_grad():
        taught.fusion.own.zero_()
        taught.fusion.others.copy_(torch.eye(3))
    taught._loss(taught.see(clips), clips.labels, None).backward()
    learns = any(bool(weights.grad.any()) for weights in taught.student.parameters() if weights.grad is not None)
    assert learns == bool(share)


def test_a_date_learns_nothing_by_itself_of_what_it_does_not_show() -> None:
    taught, clips = adapter(alone=1.0), series(1)
    clips.valid[:, 0, :16] = False
    seen, others = taught.see(clips), clips.labels.clone()
    others[:, :16] = (others[:, :16] + 1) % 3
    assert torch.equal(taught._loss(seen, others, None), taught._loss(seen, clips.labels, None))


def test_the_student_sees_other_colours_on_all_dates_alike() -> None:
    clips, taught = series(1), adapter(jitter=0.5, blur=0.0)
    torch.manual_seed(0)
    varied = taught.varied(clips)
    ratio = (varied.bands[:, :, :, 0, 0] - varied.bands[:, :, :, 1, 1]) / (
        clips.bands[:, :, :, 0, 0] - clips.bands[:, :, :, 1, 1]
    )
    torch.testing.assert_close(ratio[:, 0], ratio[:, 2], atol=1e-4, rtol=1e-3)
    assert ratio.std() > 0.1


def test_goes_on_where_it_stopped() -> None:
    whole = learned(adapter())
    first = adapter()
    for _ in optimise(first, draw, 2, seed=0):
        pass
    second = adapter()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in optimise(second, draw, STEPS, seed=0, first_step=2):
        pass
    assert_same(weights_of(whole), weights_of(second))


def test_a_persons_labels_are_taken_and_no_others() -> None:
    """Labels that nobody gave are 255; one that somebody gave moves the model."""

    def run(label: int) -> dict[str, Tensor]:
        def drawn(number: int) -> Domains[Clips]:
            both = draw(number)
            both.target.labels[:, :4] = label
            return both

        taught = adapter(frames=1)
        for _ in optimise(
            taught, lambda number: Domains(*map(first_date, (drawn(number).source, drawn(number).target))), 2, seed=0
        ):
            pass
        return weights_of(taught)

    assert_same(run(NO_LABEL), run(NO_LABEL))
    assert any(not torch.equal(a, b) for a, b in zip(run(NO_LABEL).values(), run(1).values(), strict=True))


def test_the_teacher_is_a_plain_mean_at_first() -> None:
    """A constant student of 1 from a mean of 0: k / (k + 1) after k updates."""
    one = torch.nn.Linear(1, 1, bias=False)
    mean = copy.deepcopy(one)
    torch.nn.init.ones_(one.weight)
    torch.nn.init.zeros_(mean.weight)
    average = Average(one, mean, 0.999)
    for number in range(5):
        average.update(number)
        assert float(mean.weight) == pytest.approx((number + 1) / (number + 2), rel=1e-5)


@pytest.mark.parametrize(
    "chosen",
    [
        {"alignment": "mmd"},
        {"alignment": "none"},
        {"feature_fusion": "all"},
        {"feature_fusion": "none"},
        {"gathered": "entropy"},
        {"quad": True},
    ],
)
def test_every_variant_learns(chosen: dict[str, str | bool]) -> None:
    before, taught = network().state_dict(), adapter(fused_after=0.0, **chosen)
    learned(taught, steps=2)
    assert any(not torch.equal(value, before[name]) for name, value in taught.teacher.state_dict().items())


def test_without_alignment_nothing_is_aligned() -> None:
    batch = draw(0)
    assert "alignment" in adapter().step(batch, 0)
    assert "alignment" not in adapter(alignment="none").step(batch, 0)


def test_the_published_settings_learn() -> None:
    taught = learned(DaStc(network(), PAPER, 2), steps=2)
    assert float(taught.fusion.strength) > 0


@pytest.mark.parametrize(("name", "value"), [("frames", 0), ("tau", 0.0), ("alignment", "all"), ("labels", "none")])
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=name):
        replace(Settings(), **{name: value})


def test_the_same_patches_are_kept_to_be_looked_at() -> None:
    assert adapter().mosaic is None
    seen = learned(adapter(dump="mix"), steps=1).mosaic
    assert seen is not None
    inside = seen.mask[:, None, None].expand_as(seen.source.bands)
    assert torch.equal(seen.source.bands[inside], seen.target.bands[inside])


def test_it_finds_more_in_a_shifted_place_than_its_source_does() -> None:
    start = network()
    first = source_only.SourceOnly(start, source_only.Settings(), 60)
    for _ in optimise(first, lambda number: series(number).date(0), 60, seed=0):
        pass
    model = copy.deepcopy(first.network)
    truth = series(5000, shifted=True)

    def right(found: torch.nn.Module) -> float:
        with torch.no_grad():
            return float((found.eval()(truth.bands[:, 0]).argmax(1) == truth.labels).float().mean())

    before = right(model)
    taught = DaStc(copy.deepcopy(model).requires_grad_(True), Settings(), 40)
    for _ in optimise(taught, draw, 40, seed=0):
        pass
    assert right(taught.network) > before + 0.05


def test_a_batch_of_single_images_becomes_clips_of_one_date() -> None:
    batch = series(1).date(1)
    clips = alone(batch)
    assert clips.bands.shape == (4, 1, 3, 32, 32)
    again: Batch = clips.date(0)
    assert torch.equal(again.bands, batch.bands)


def test_norms_of_both_know_crops_as_they_are() -> None:
    taught, still = DaStc(network(), replace(Settings(), learning_rate=0.0), STEPS, target_norms=0.5), network().train()
    domains = draw(0, dates=1)
    taught.step(domains, 0)
    with remembering(still, 0.5), torch.no_grad():
        still(domains.target.date(0).bands)
        still(domains.source.date(0).bands)
    for name, value in still.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(taught.student.state_dict()[name], value)
