"""Self-training: what is pasted, kept and trusted; what a person gave; and that it helps."""

import copy
from dataclasses import replace

import pytest
import torch
from rsseg_models import source_only
from rsseg_models.batch import Batch, Domains
from rsseg_models.errors import ModelError
from rsseg_models.losses import NO_LABEL
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.optimise import optimise
from rsseg_models.self_training import (
    Confidences,
    SelfTraining,
    Settings,
    blur,
    class_mix,
    only_valid,
    vary_colours,
    with_given,
)
from torch import Tensor

STEPS = 4
# What the target's sensor does to each band.
SCALES, OFFSETS = torch.tensor([2.5, 0.4, 1.0]), torch.tensor([0.3, -0.2, 0.4])
COLOURS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 1.2]])


def world(seed: int, shifted: bool = False) -> Batch:
    """Fields of 16 px of three classes, each with its colour."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (4, 2, 2), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    bands = COLOURS[labels].permute(0, 3, 1, 2) + 0.35 * torch.randn(4, 3, 32, 32, generator=generator)
    if shifted:
        bands = bands * SCALES[:, None, None] + OFFSETS[:, None, None]
    return Batch(bands, torch.ones(4, 32, 32, dtype=torch.bool), labels)


def unlabelled(batch: Batch) -> Batch:
    return replace(batch, labels=torch.full_like(batch.labels, NO_LABEL))


def draw(number: int) -> Domains[Batch]:
    return Domains(world(number), unlabelled(world(1000 + number, shifted=True)))


def network() -> SegmentationNetwork:
    torch.manual_seed(1)
    return build(Architecture("tiny", ("red", "green", "blue"), 3, width=16))


def adapter(
    start: SegmentationNetwork | None = None, steps: int = STEPS, target_norms: bool = False, **chosen: float | str
) -> SelfTraining:
    return SelfTraining(start or network(), replace(Settings(), **chosen), steps, target_norms=target_norms)


def assert_same(one: SelfTraining, other: SelfTraining) -> None:
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name


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
    return only_valid(Batch(bands, valid, labels))


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


# --- the method ---------------------------------------------------------------------------------------------------


def test_the_teacher_labels_valid_sure_pixels_alone() -> None:
    method = adapter(kept=1.0, floor=0.0)
    target = world(5, shifted=True)
    target.valid[:, :, :20] = False
    taught, trust = method.taught(target)
    assert (taught.labels[~target.valid] == NO_LABEL).all()
    assert torch.equal(trust, torch.ones(4))
    logits = method.network(target.bands)
    assert torch.equal(taught.labels[target.valid], logits.argmax(1)[target.valid])
    assert float(method.confidences.counts.sum()) == target.valid.sum()


def test_below_the_floor_nothing_is_learned_from() -> None:
    taught, trust = adapter(floor=1.0).taught(world(5, shifted=True))
    assert (taught.labels == NO_LABEL).all()
    assert torch.equal(trust, torch.zeros(4))


def test_labels_of_the_source_where_it_shows_nothing_change_nothing() -> None:
    def drawn(number: int, label: int) -> Domains[Batch]:
        domains = draw(number)
        source = domains.source
        source.valid[:, 10:20] = False
        source.bands[:, :, 10:20] = 0
        source.labels[:, 10:20] = label
        return domains

    one, other = adapter(), adapter()
    list(optimise(one, lambda number: drawn(number, 1), 2, seed=0))
    list(optimise(other, lambda number: drawn(number, NO_LABEL), 2, seed=0))
    assert_same(one, other)


def test_labels_that_a_person_gave_count_in_full_and_in_place_of_the_teachers() -> None:
    given, taught = world(5), world(6)
    given.labels[:, :16] = NO_LABEL
    given.valid[:, :, :4] = False
    target, weights = with_given(given, taught, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    known = given.valid.clone()
    known[:, :16] = False
    assert torch.equal(target.labels[known], given.labels[known])
    assert torch.equal(target.labels[~known], taught.labels[~known])
    assert (weights[known] == 1).all()
    assert torch.equal(weights[:, 0, 0], torch.tensor([0.1, 0.2, 0.3, 0.4]))


def test_norms_of_the_target_know_nothing_of_the_source() -> None:
    def statistics(offset: float) -> list[Tensor]:
        method = adapter(learning_rate=0.0, target_norms=True)
        for number in range(2):
            domains = draw(number)
            source = replace(domains.source, bands=domains.source.bands + offset)
            method.step(replace(domains, source=source), number)
        return [value for name, value in method.student.state_dict().items() if "running" in name]

    for one, other in zip(statistics(0.0), statistics(9.0), strict=True):
        torch.testing.assert_close(one, other)


def test_the_teacher_gets_no_gradient_and_follows_the_student() -> None:
    method = adapter()
    start = copy.deepcopy(method.network.state_dict())
    method.step(draw(0), 0)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in method.network.parameters())
    assert all(parameter.grad is not None for parameter in method.student.parameters())
    name = "head.classifier.1.weight"
    assert not torch.equal(start[name], method.student.state_dict()[name])
    halfway = (start[name] + method.student.state_dict()[name]) / 2  # the plain mean at first
    torch.testing.assert_close(method.network.state_dict()[name], halfway)
    assert not method.network.training


def test_mixed_crops_alone_are_augmented() -> None:
    plain, varied = (adapter(jitter=jitter, blur=jitter).step(draw(0), 0) for jitter in (0.0, 1.0))
    assert torch.equal(plain["source"], varied["source"])
    assert torch.equal(plain["kept"], varied["kept"])
    assert not torch.equal(plain["mixed"], varied["mixed"])


def test_the_loss_on_mixed_crops_trusts_the_teacher_in_part_and_balances_classes() -> None:
    start = network()
    start.get_parameter("head.classifier.1.weight").data.mul_(100)  # confidences that differ
    for module in start.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    chosen = {"kept": 0.4, "floor": 0.0, "jitter": 0.0, "blur": 0.0, "rarity": 1.0}
    method, other = (adapter(copy.deepcopy(start), **chosen) for _ in range(2))
    domains = draw(0)
    torch.manual_seed(3)
    found = method.step(domains, 0)["mixed"]
    taught, trust = other.taught(domains.target)
    torch.manual_seed(3)
    mixed, weights = class_mix(domains.source, taught, trust[:, None, None].expand(4, 32, 32))
    assert 0.2 < trust.mean() < 0.8
    with torch.no_grad():
        likely = other.student(mixed.bands).log_softmax(1)
    labelled = mixed.labels != NO_LABEL
    places = mixed.labels.clamp(max=2)
    each = -likely.gather(1, places[:, None])[:, 0] * weights * other.confidences.class_weights(1.0)[places]
    torch.testing.assert_close(found, each[labelled].mean(), rtol=1e-4, atol=1e-5)


def test_a_run_that_goes_on_ends_with_the_same_weights() -> None:
    whole, first, later = adapter(), adapter(), adapter()
    list(optimise(whole, draw, STEPS, seed=0))
    for report in optimise(first, draw, STEPS, seed=0):
        if report.step == 2:
            break
    later.load_state_dict(copy.deepcopy(first.state_dict()))
    list(optimise(later, draw, STEPS, seed=0, first_step=2))
    assert_same(whole, later)
    assert torch.equal(whole.confidences.counts, later.confidences.counts)


def test_what_is_kept_is_the_network_described() -> None:
    method = adapter()
    method.step(draw(0), 0)
    again = build(method.network.architecture)
    again.load_state_dict(method.network.state_dict())


def test_crops_that_show_nothing_are_survived() -> None:
    def nothing(number: int) -> Domains[Batch]:
        target = unlabelled(world(number, shifted=True))
        return Domains(world(number), Batch(torch.zeros_like(target.bands), ~target.valid, target.labels))

    reports = list(optimise(adapter(), nothing, 2, seed=0))
    assert [report.losses["kept"] for report in reports] == [0.0, 0.0]


def accuracy(tested: torch.nn.Module, batch: Batch) -> float:
    with torch.inference_mode():
        found: Tensor = tested(batch.bands).argmax(1)
    return float((found == batch.labels).float().mean())


def test_it_lifts_what_the_source_alone_reaches_on_the_target() -> None:
    settings = source_only.Settings(average=0.9, learning_rate=5e-3)
    first = source_only.SourceOnly(network(), settings, 40)
    list(optimise(first, world, 40, seed=0))
    unseen = world(902, shifted=True)
    before = accuracy(first.network, unseen)
    method = adapter(first.network.requires_grad_(True), 30)
    list(optimise(method, draw, 30, seed=0))
    assert accuracy(method.network, unseen) > before + 0.02


def hinted(seed: int, target: bool) -> Batch:
    """A third band that tells the class in the target alone, where the other two are noisier."""
    generator = torch.Generator().manual_seed(seed)
    labels, chance = (
        torch.randint(3, (4, 3, 3), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
        for _ in range(2)
    )
    colours = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[labels]
    colours = colours + (4 if target else 1) * torch.randn(4, 48, 48, 2, generator=generator)
    hint = (labels if target else chance) - 1 + 0.3 * torch.randn(4, 48, 48, generator=generator)
    bands = torch.cat([colours, hint[..., None]], dim=-1).permute(0, 3, 1, 2)
    return Batch(bands, torch.ones(4, 48, 48, dtype=torch.bool), labels)


def test_the_teachers_labels_teach_what_the_source_does_not_know() -> None:
    """Beside the same run with no weight on mixed crops."""
    settings = source_only.Settings(average=0.9, learning_rate=5e-3)
    first = source_only.SourceOnly(network(), settings, 40)
    list(optimise(first, lambda number: hinted(number, False), 40, seed=0))

    def both(number: int) -> Domains[Batch]:
        return Domains(hinted(number, False), unlabelled(hinted(1000 + number, True)))

    start, unseen, reached = first.network.requires_grad_(True), hinted(902, True), []
    for mixed in (0.0, 3.0):
        chosen = {
            "learning_rate": 2e-3,
            "pretrained_rate": 0.2,
            "kept": 0.5,
            "average": 0.9,
            "jitter": 0.0,
            "floor": 0.0,
        }
        method = adapter(copy.deepcopy(start), 20, mixed=mixed, **chosen)
        list(optimise(method, both, 20, seed=0))
        reached.append(accuracy(method.network, unseen))
    assert reached[1] > reached[0] + 0.02, reached


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": -1.0}, {"kept": 0.0}, {"floor": 1.5}, {"precision": "float99"}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        replace(Settings(), **wrong)
