"""Mixed crops: what a teacher is sure of, what is pasted, how crops vary."""

import pytest
import torch
from rsseg_models.batch import Batch
from rsseg_models.losses import NO_LABEL
from rsseg_models.mixing import Confidences, Mixer, Mixing, blur, class_mix, vary_colours, with_given


def crops(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (4, 32, 32), generator=generator)
    bands = torch.randn(4, 3, 32, 32, generator=generator)
    return Batch(bands, torch.ones(4, 32, 32, dtype=torch.bool), labels)


# --- confidences --------------------------------------------------------------------------------------------------


def test_each_class_has_a_threshold_of_its_own() -> None:
    """A class that is never sure gives as large a part of its pixels as one that always is."""
    confidences = Confidences(3, 0.9)
    labels = torch.tensor([0, 1]).repeat_interleave(1000)
    confidence = torch.cat([torch.linspace(0.9, 0.9999, 1000), torch.linspace(0.35, 0.6, 1000)])
    confidences.remember(labels, confidence)
    sure = confidences.is_sure(labels, confidence, 0.3)
    for each in (0, 1):
        mine = sure[labels == each]
        assert 0.3 <= mine.float().mean() < 0.42
        assert mine[-300:].all()
        assert not mine[:580].any()


def test_all_are_kept_when_all_are_asked_for() -> None:
    confidences = Confidences(2, 0.9)
    labels, confidence = torch.randint(2, (500,)), torch.rand(500)
    confidences.remember(labels, confidence)
    assert confidences.is_sure(labels, confidence, 1.0).all()


def test_memory_fades_but_not_for_what_is_not_seen() -> None:
    """Old confidences give way to new ones; a class that was not met keeps its threshold."""
    confidences = Confidences(2, 0.5)
    confidences.remember(torch.zeros(100, dtype=torch.long), torch.full((100,), 0.95))
    confidences.remember(torch.ones(1000, dtype=torch.long), torch.full((1000,), 0.9))
    for _ in range(8):
        confidences.remember(torch.ones(100, dtype=torch.long), torch.full((100,), 0.6))
    asked = torch.tensor([0, 0, 1, 1]), torch.tensor([0.9, 0.95, 0.55, 0.6])
    assert confidences.is_sure(*asked, 0.5).tolist() == [False, True, False, True]


def test_rare_classes_weigh_more_and_pixels_one_on_average() -> None:
    confidences = Confidences(3, 0.9)
    labels = torch.tensor([0] * 800 + [1] * 200)
    confidences.remember(labels, torch.full((1000,), 0.7))
    weights = confidences.class_weights(0.5)
    assert weights[1] / weights[0] == pytest.approx(2.0)
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    assert weights[2] > weights[1]  # not met yet: the most there is, and no infinity
    assert weights.isfinite().all()
    torch.testing.assert_close(confidences.class_weights(0.0), torch.ones(3))


# --- mixing -------------------------------------------------------------------------------------------------------


def scene(classes: tuple[int, ...], value: float) -> Batch:
    """Two crops, striped; a column of them shows nothing."""
    labels = torch.tensor(classes).repeat_interleave(4)[None, None].expand(2, 8, -1).clone()
    valid = torch.ones(labels.shape, dtype=torch.bool)
    valid[:, :, 1] = False
    bands = torch.where(valid[:, None], torch.full((2, 3, *labels.shape[1:]), value), 0)
    return Batch(bands, valid, torch.where(valid, labels, NO_LABEL))


def test_half_of_the_classes_are_pasted_with_their_labels() -> None:
    source, target = scene((0, 1, 2, 3), 5.0), scene((9, 8, 9, 8), -5.0)
    torch.manual_seed(0)
    mixed, weights = class_mix(source, target, torch.tensor([0.25, 0.5])[:, None, None].expand(2, 8, 16))
    for crop in range(2):
        pasted = mixed.labels[crop] < 4
        chosen = set(mixed.labels[crop][pasted].tolist())
        assert len(chosen) == 2
        assert torch.equal(pasted, torch.isin(source.labels[crop], torch.tensor(list(chosen))))
        assert (mixed.bands[crop][:, pasted] == 5).all()
        assert torch.equal(mixed.bands[crop][:, ~pasted], target.bands[crop][:, ~pasted])
        assert torch.equal(mixed.labels[crop][~pasted], target.labels[crop][~pasted])
        assert (weights[crop][pasted] == 1).all()
        assert (weights[crop][~pasted] == (0.25, 0.5)[crop]).all()


def test_crops_draw_classes_of_their_own() -> None:
    source, target = scene((0, 1, 2, 3), 5.0), scene((9, 9, 9, 9), -5.0)
    torch.manual_seed(0)
    drawn = [class_mix(source, target, torch.ones(2, 8, 16))[0].labels for _ in range(8)]
    assert any(not torch.equal(first, second) for first, second in drawn)
    assert any(not torch.equal(drawn[0], other) for other in drawn)


def test_nothing_is_pasted_where_the_source_shows_nothing_or_has_no_label() -> None:
    source, target = scene((0, 0, NO_LABEL, NO_LABEL), 5.0), scene((9, 9, 9, 9), -5.0)
    mixed, _ = class_mix(source, target, torch.ones(2, 8, 16))
    # The one class there is; column 1 shows nothing in either.
    assert (mixed.labels[:, :, 8:] == 9).all()
    assert (mixed.labels[:, :, 2:8] == 0).all()
    assert not mixed.valid[:, :, 1].any()
    assert (mixed.labels[:, :, 1] == NO_LABEL).all()
    assert not mixed.bands[:, :, :, 1].any()


def test_a_source_without_labels_leaves_the_target_alone() -> None:
    source, target = scene((NO_LABEL,) * 4, 5.0), scene((9, 8, 9, 8), -5.0)
    mixed, _ = class_mix(source, target, torch.ones(2, 8, 16))
    assert torch.equal(mixed.bands, target.bands)
    assert torch.equal(mixed.labels, target.labels)


def test_a_smaller_source_batch_is_used_again() -> None:
    source, target = scene((0, 1, 2, 3), 5.0), scene((9, 9, 9, 9), -5.0)
    one = Batch(source.bands[:1], source.valid[:1], source.labels[:1])
    mixed, _ = class_mix(one, target, torch.ones(2, 8, 16))
    assert ((mixed.labels < 4).sum((1, 2)) > 0).all()


# --- augmentation -------------------------------------------------------------------------------------------------


def test_colours_vary_by_crop_and_band_on_valid_pixels_alone() -> None:
    batch = scene((0, 1, 2, 3), 5.0)
    torch.manual_seed(0)
    bands = vary_colours(batch, 0.2).bands
    assert not bands[:, :, :, 1].any()
    levels = bands[:, :, 0, 0]
    assert len(levels.unique()) == 6
    assert torch.equal(bands[:, :, :, 2:], levels[..., None, None].expand(2, 3, 8, 14))
    torch.testing.assert_close(vary_colours(batch, 0.0).bands, batch.bands)


def test_a_blur_smooths_some_crops_and_does_not_bleed_from_where_there_is_nothing() -> None:
    valid = torch.ones(16, 20, 20, dtype=torch.bool)
    valid[:, :, 8:10] = False
    torch.manual_seed(0)
    bands = torch.where(valid[:, None], 7 + torch.randn(16, 1, 20, 20), 0)
    labels = torch.zeros(16, 20, 20, dtype=torch.long)
    rough = blur(Batch(bands, valid, labels), 2.0).bands
    changed = [not torch.allclose(a, b, atol=1e-5) for a, b in zip(rough, bands, strict=True)]
    assert 4 <= sum(changed) <= 12
    assert rough.transpose(0, 1)[:, valid].std() < bands.transpose(0, 1)[:, valid].std()
    flat = torch.where(valid[:, None], 7.0, 0.0)
    torch.testing.assert_close(blur(Batch(flat, valid, labels), 2.0).bands, flat)
    assert torch.allclose(blur(Batch(bands, valid, labels), 0.0).bands, bands, atol=1e-5)


# --- labels of a teacher ------------------------------------------------------------------------------------------


def test_the_teacher_labels_valid_sure_pixels_alone() -> None:
    mixer, target = Mixer(3, Mixing(kept=1.0, floor=0.0)), crops(5)
    target.valid[:, :, :20] = False
    logits = crops(6).bands
    taught, trust = mixer.taught(target, logits)
    assert (taught.labels[~target.valid] == NO_LABEL).all()
    assert torch.equal(trust, torch.ones(4))
    assert torch.equal(taught.labels[target.valid], logits.argmax(1)[target.valid])
    assert float(mixer.confidences.counts.sum()) == target.valid.sum()


def test_below_the_floor_nothing_is_learned_from() -> None:
    taught, trust = Mixer(3, Mixing(floor=1.0)).taught(crops(5), crops(6).bands)
    assert (taught.labels == NO_LABEL).all()
    assert torch.equal(trust, torch.zeros(4))


def test_labels_that_a_person_gave_count_in_full_and_in_place_of_the_teachers() -> None:
    given, taught = crops(5), crops(6)
    given.labels[:, :16] = NO_LABEL
    given.valid[:, :, :4] = False
    target, weights = with_given(given, taught, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    known = given.valid.clone()
    known[:, :16] = False
    assert torch.equal(target.labels[known], given.labels[known])
    assert torch.equal(target.labels[~known], taught.labels[~known])
    assert (weights[known] == 1).all()
    assert torch.equal(weights[:, 0, 0], torch.tensor([0.1, 0.2, 0.3, 0.4]))
