"""ST-DASegNet: the numbers of its parts, and what a step reaches and leaves alone."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from rsseg_models.batch import Batch, Domains
from rsseg_models.errors import ModelError
from rsseg_models.heads import AllMlpHead
from rsseg_models.losses import NO_LABEL
from rsseg_models.network import HEADS, Architecture, SegmentationNetwork, build, count_parameters
from rsseg_models.norms import remembering, untracked
from rsseg_models.optimise import Average
from rsseg_models.st_dasegnet import (
    PAPER,
    PseudoLabels,
    Settings,
    StDasegnet,
    adapted,
    cleared,
    pseudo_labels,
    rarity,
    taken_for,
    with_given,
)
from rsseg_models.st_dasegnet_modules import (
    Discriminator,
    Disentangle,
    Gate,
    Universal,
    Views,
    affinity,
    fitting_depth,
    left_of,
    pooled,
    spatial_softmax,
)
from torch import Tensor, nn

CLASSES, SIDE, STEPS = 3, 192, 3
MIT_B0 = (32, 64, 160, 256)
# Every pixel counts, so that an untrained network has something to learn from itself.
EAGER = Settings(kept=1.0, floor=0.0, sure=0.0, likely=0.0)
VARIANTS = {
    "as-they-are": {"mixing": False},
    "plain": {"attention": "plain", "attention_scale": "none"},
    "separate": {"mixing": False, "pseudo_labels": "separate"},
    "single-target": {"teachers": "single-target"},
    "single-target-separate": {"mixing": False, "teachers": "single-target", "pseudo_labels": "separate"},
    "no-gates": {"gates": False},
    "no-universal": {"universal": False},
    "one-encoder": {"one_encoder": True},
    "batch-quality": {"mixing": False, "quality": "batch"},
    "bfloat16": {"precision": "bfloat16"},
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everywhere(*size: int) -> Tensor:
    return torch.ones(*size, dtype=torch.bool)


def crops(seed: int = 0, shift: float = 0.0) -> Batch:
    bands = drawn(1, 2, SIDE, SIDE, seed=seed) + shift
    return Batch(bands, everywhere(1, SIDE, SIDE), (bands[:, 0] > shift).long() + (bands[:, 1] > shift).long())


def domains(number: int = 0) -> Domains[Batch]:
    return Domains(crops(number), unlabelled(crops(100 + number, shift=0.5)))


def unlabelled(batch: Batch) -> Batch:
    return replace(batch, labels=torch.full_like(batch.labels, NO_LABEL))


def network(head: str = "all-mlp") -> SegmentationNetwork:
    torch.manual_seed(1)
    made = build(Architecture("tiny", ("red", "green"), CLASSES, head, width=8))
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1, 0.2)
            nn.init.normal_(part.running_mean, 0, 0.2)
    return made


def method(settings: Settings = EAGER, shares: Tensor | None = None, target_norms: float = 0.0) -> StDasegnet:
    made = network()
    return StDasegnet(made, settings, STEPS, class_shares=shares, crop_px=SIDE, target_norms=target_norms)


def run(taught: StDasegnet, first: int = 0, last: int = STEPS) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = {}
    for number in range(first, last):
        torch.manual_seed(number)
        losses = taught.step(domains(number), number)
    return losses


def weights(part: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in part.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def randomised(part: nn.Module) -> None:
    torch.manual_seed(3)
    for parameter in part.parameters():
        nn.init.normal_(parameter, 0, 0.2)


# 1. Gates and what is universal.


def test_gates_share_each_channel_and_start_as_halves() -> None:
    gate = Gate(16)
    views = drawn(2, 16, 5, 4), drawn(2, 16, 5, 4, seed=1)
    for view, gated in zip(views, gate(views, everywhere(2, 5, 4)), strict=True):
        assert torch.equal(gated, 0.5 * view)
    randomised(gate)
    source, target = gate.shares(views, everywhere(2, 5, 4))
    torch.testing.assert_close(source + target, torch.ones(2, 16))
    assert (source - 0.5).abs().max() > 0.1


def test_a_gate_looks_at_valid_pixels_alone() -> None:
    gate = Gate(8)
    randomised(gate)
    valid = everywhere(1, 4, 4)
    valid[..., 2:] = False
    view = drawn(1, 8, 4, 4)
    other = torch.where(valid[:, None], view, 1e3)
    assert torch.equal(gate.shares((view, view), valid)[0], gate.shares((other, other), valid)[0])
    cut = view[..., :2]
    torch.testing.assert_close(gate.shares((view, view), valid)[0], gate.shares((cut, cut), everywhere(1, 4, 2))[0])


@pytest.mark.parametrize("scale", ["mean", "none"])
@pytest.mark.parametrize("attention", ["inverse", "plain"])
def test_rows_of_the_affinity_sum_to_one(attention: str, scale: str) -> None:
    view, common, valid = drawn(2, 6, 3, 3), drawn(2, 6, 3, 3, seed=1), everywhere(2, 3, 3)
    found = affinity(view, common, valid, attention, scale)
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 6))
    nothing = torch.zeros_like(view)
    torch.testing.assert_close(affinity(nothing, nothing, valid, attention, scale), torch.full((2, 6, 6), 1 / 6))


def test_inverse_attention_is_what_was_released() -> None:
    view, common = drawn(1, 6, 3, 3).double(), drawn(1, 6, 3, 3, seed=1).double()
    e = view.flatten(2) @ common.flatten(2).transpose(1, 2)
    released = (e.amax(dim=2, keepdim=True) - e).softmax(dim=2).float()
    found = affinity(view, common, everywhere(1, 3, 3), "inverse", "none")
    torch.testing.assert_close(found, released, atol=1e-6, rtol=1e-5)


def test_the_mean_does_not_grow_with_the_crop() -> None:
    view, common = drawn(1, 6, 3, 3), drawn(1, 6, 3, 3, seed=1)
    tiled = [part.repeat(1, 1, 4, 4) for part in (view, common)]
    small = affinity(view, common, everywhere(1, 3, 3), "inverse", "mean")
    torch.testing.assert_close(affinity(*tiled, everywhere(1, 12, 12), "inverse", "mean"), small)


def test_likeness_is_that_of_valid_pixels() -> None:
    view, common, valid = drawn(1, 6, 4, 4), drawn(1, 6, 4, 4, seed=1), everywhere(1, 4, 4)
    valid[..., 3:] = False
    found = affinity(view, common, valid, "inverse", "mean")
    cut = affinity(view[..., :3], common[..., :3], everywhere(1, 4, 3), "inverse", "mean")
    torch.testing.assert_close(found, cut)


def test_views_that_change_places_change_places_in_what_comes_out() -> None:
    channels = (8, 8, 8, 16)
    straight = Disentangle(channels, True, Universal(16, "inverse", "mean"))
    randomised(straight)
    names = {name: name.replace("source", "x").replace("target", "source").replace("x", "target")
             for name in straight.state_dict()}  # fmt: skip
    turned = copy.deepcopy(straight)
    turned.load_state_dict({names[name]: value for name, value in straight.state_dict().items()})
    one, other = (tuple(drawn(1, count, 4, 4, seed=seed) for count in channels) for seed in (0, 1))
    valid = (everywhere(1, 4, 4),) * 4
    first, second = straight(Views(one, other, valid)), turned(Views(other, one, valid))
    for a, b in ((first[0], second[1]), (first[1], second[0])):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(first[0][3], first[1][3])


@torch.no_grad()
def test_sizes_and_parameters_are_those_of_mit_b0_at_512_pixels() -> None:
    universal = Universal(256, "inverse", "mean")
    parts = Disentangle(MIT_B0, True, universal)
    assert parts.gates is not None
    gates = [count_parameters(gate) for gate in parts.gates]
    assert [*gates[:3], gates[3] + count_parameters(universal)] == [840, 1_672, 9_940, 762_720]
    assert count_parameters(parts) == 775_172
    sides = (128, 64, 32, 16)
    view = tuple(torch.zeros(1, count, side, side) for count, side in zip(MIT_B0, sides, strict=True))
    levels, _ = parts(Views(view, view, tuple(everywhere(1, side, side) for side in sides)))
    assert [level.shape[1] for level in levels] == [32, 64, 160, 288]
    head = AllMlpHead((32, 64, 160, 288), 6, 256).eval()
    assert count_parameters(head) == 403_968 + 257 * 6
    assert head(levels).shape == (1, 6, 128, 128)


def test_cells_are_valid_where_a_pixel_is_and_padding_is_not() -> None:
    valid = torch.zeros(1, 40, 33, dtype=torch.bool)
    valid[0, 39, 32] = True
    finest, *_, coarsest = pooled(valid, (4, 8, 16, 32))
    assert coarsest.shape == (1, 2, 2)
    assert coarsest.nonzero().tolist() == [[0, 1, 1]]
    assert finest.nonzero().tolist() == [[0, 9, 8]]


# 2. The adversary.


def test_the_spatial_softmax_sums_to_one_over_what_is_valid() -> None:
    flat = spatial_softmax(torch.ones(1, 2, 16, 16), everywhere(1, 16, 16))
    torch.testing.assert_close(flat, torch.full((1, 2, 16, 16), 1 / 256))
    valid = drawn(2, 5, 5) > 0
    valid[1] = False
    soft = spatial_softmax(9 * drawn(2, 3, 5, 5), valid)
    torch.testing.assert_close(soft.sum(dim=(2, 3)), torch.tensor([[1.0] * 3, [0.0] * 3]))
    assert not soft[0, :, ~valid[0]].any()


def test_discriminators_are_those_of_the_paper() -> None:
    assert [count_parameters(Discriminator(count, 2, 16)) for count in (256, 512)] == [922_049, 1_184_193]
    assert Discriminator(256, 2, 16)(torch.zeros(1, 256, 16, 16)).shape == (1, 1, 2, 2)
    with pytest.raises(ModelError, match="too small"):
        Discriminator(256, 3, 16)


@pytest.mark.parametrize(
    ("side", "left"), [(8, (2, 0, 0)), (12, (4, 1, 0)), (16, (6, 2, 0)), (64, (30, 14, 6)), (5, (0, 0, 0))]
)
def test_what_a_discriminator_leaves_of_a_map(side: int, left: tuple[int, ...]) -> None:
    assert tuple(left_of(side, depth) for depth in (1, 2, 3)) == left


def test_small_crops_have_a_shallow_discriminator_or_are_refused() -> None:
    assert [fitting_depth(side, 3) for side in (64, 16, 12, 8, 6)] == [3, 2, 2, 1, 1]
    with pytest.raises(ModelError, match="larger crops"):
        StDasegnet(network(), EAGER, STEPS, crop_px=128)


def test_a_judge_that_knows_nothing_costs_ln_2() -> None:
    def undecided(soft: Tensor) -> Tensor:
        return soft.new_zeros(len(soft), 1, 2, 2)

    level, valid = drawn(2, 4, 8, 8), everywhere(2, 8, 8)
    for real in (True, False):
        assert float(taken_for(undecided, level, valid, real)) == pytest.approx(math.log(2))
    valid[:] = False
    assert float(taken_for(undecided, level, valid, True)) == 0
    taught = method()
    for judge in taught.discriminators.values():
        nn.init.zeros_(judge[-1].weight)
        nn.init.zeros_(judge[-1].bias)
    cost = Settings().adversary * taught.step(domains(), 0)["adversary"]
    assert float(cost) == pytest.approx(0.00693147, rel=1e-5)


def test_discriminators_have_opposite_roles() -> None:
    """The source is real for that of the source's student, the target for the other; students fool both."""
    taught, calls = method(), []

    def told(style: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _, given: calls.append((style, given[0].detach().clone()))

    for style, judge in taught.discriminators.items():
        judge.register_forward_pre_hook(told(style))
    batch = domains()
    source, target = (taught.students.look(part.bands, part.valid) for part in (batch.source, batch.target))
    expected = [("source", target.source), ("target", source.target)]
    expected += [("source", source.source), ("source", target.source)]
    expected += [("target", target.target), ("target", source.target)]
    taught.fooling(source, target)
    taught.judge(source, target, 0)
    for (style, seen), (wanted, levels) in zip(calls, expected, strict=True):
        assert style == wanted
        torch.testing.assert_close(seen, spatial_softmax(levels[-1], everywhere(1, 6, 6)))


def test_a_discriminator_learns_which_domain_is_its_own() -> None:
    taught, batch = method(replace(EAGER, discriminator_rate=1e-2, warm_up=0.0)), domains()
    source, target = (taught.students.look(part.bands, part.valid) for part in (batch.source, batch.target))
    for _ in range(20):
        taught.judge(source, target, 0)
    ours, theirs = taught.discriminators["source"], taught.discriminators["target"]
    with torch.no_grad():
        for judge, own, other in (
            (ours, source.source[-1], target.source[-1]),
            (theirs, target.target[-1], source.target[-1]),
        ):
            seen = everywhere(1, 6, 6)
            assert taken_for(judge, own, seen, True) < 0.3 < 1.2 < taken_for(judge, other, seen, True)


def test_students_and_discriminators_do_not_reach_into_each_other() -> None:
    taught, batch = method(), domains()
    source, target = (taught.students.look(part.bands, part.valid) for part in (batch.source, batch.target))
    taught.fooling(source, target).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in taught.discriminators.parameters())
    reached = {name: p.grad.clone() for name, p in taught.students.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in reached} == {"encoder"}
    before = weights(taught.discriminators)
    taught.judge(source, target, 0)
    assert not same(before, weights(taught.discriminators))
    for name, parameter in taught.students.named_parameters():
        assert (parameter.grad is None) if name not in reached else torch.equal(parameter.grad, reached[name])


# 3. Teachers and their labels.


def test_the_slow_copy_is_the_mean_of_all_at_first() -> None:
    student, slow = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.ones_(student.weight)
    nn.init.zeros_(slow.weight)
    average, values = Average(student, slow, 0.999), []
    for number in range(1500):
        average.update(number)
        values.append(float(slow.weight))
    assert [values[k - 1] for k in (1, 2, 9, 99, 998)] == pytest.approx([k / (k + 1) for k in (1, 2, 9, 99, 998)])
    assert values[-1] == pytest.approx(0.999394, abs=1e-5)


def logits_of(probabilities: list[float], labels: list[int], classes: int = 6) -> Tensor:
    rest = torch.tensor([(1 - p) / (classes - 1) for p in probabilities])
    found = rest[None].repeat(classes, 1)
    found[labels, range(len(labels))] = torch.tensor(probabilities)
    return found.log()[None, :, None]


def test_weights_of_pseudo_labels() -> None:
    logits, valid = logits_of([0.99, 0.98, 0.85, 0.60], [0, 2, 4, 1]), everywhere(1, 1, 4)
    by_class = torch.tensor([1, 1, 1.5, 1.5, 2, 2])
    found = pseudo_labels(logits, valid, by_class, PAPER)
    assert found.labels.tolist() == [[[0, 2, 4, 1]]]
    torch.testing.assert_close(found.weights, torch.tensor([[[0.5, 0.75, 1.0, 0.25]]]))
    assert float(found.quality) == 0.5
    torch.testing.assert_close(pseudo_labels(logits, valid, None, PAPER).weights, torch.full((1, 1, 4), 0.5))
    doubtful = pseudo_labels(logits_of([0.97] * 4, [0] * 4), valid, by_class, PAPER)
    assert not doubtful.weights.any()


def test_what_is_not_valid_has_no_label_and_no_say_in_the_quality() -> None:
    logits, valid = logits_of([0.99, 0.98, 0.85, 0.60], [0, 2, 4, 1]), everywhere(1, 1, 4)
    valid[..., 3] = False
    found = pseudo_labels(logits, valid, None, PAPER)
    assert found.labels.tolist() == [[[0, 2, 4, 255]]]
    assert float(found.quality) == pytest.approx(2 / 3)


def test_a_hard_image_drags_down_the_others_only_where_the_batch_is_one() -> None:
    logits = torch.cat([logits_of([0.99] * 4, [0] * 4), logits_of([0.5] * 4, [0] * 4)])
    valid = everywhere(2, 1, 4)
    apart = pseudo_labels(logits, valid, None, replace(PAPER, quality="image")).weights
    together = pseudo_labels(logits, valid, None, PAPER).weights
    assert apart[:, 0, 0].tolist() == [1, 0]
    assert together[:, 0, 0].tolist() == [0.5, 0.5]


def test_rare_classes_weigh_up_to_twice() -> None:
    found = rarity(torch.tensor([0.6, 0.25, 0.14, 0.01, 0.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 1.0, 2.0, 1.0]))


def test_as_many_weights_as_classes() -> None:
    with pytest.raises(ValueError, match="3 classes need as many"):
        method(shares=torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("kind", ["decoder-only", "single-target"])
def test_teachers_start_as_copies_get_no_gradient_and_follow(kind: str) -> None:
    taught = method(replace(EAGER, teachers=kind, learning_rate=1e-3))
    students, teachers = taught.students, taught.teachers
    assert same(weights(students.target.head), weights(teachers.target.head))
    assert (teachers.target.encoder is students.target.encoder) == (kind == "decoder-only")
    assert (teachers.source.head is students.source.head) == (kind == "single-target")
    start = weights(teachers.target.head)
    run(taught, 0, 1)
    assert same(start, weights(teachers.target.head))
    later = weights(students.target.head)
    run(taught, 1, 2)
    followed = weights(teachers.target.head)
    for name, value in followed.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (start[name] + later[name]) / 2)
    assert not same(followed, weights(students.target.head))
    assert all(parameter.grad is None for parameter in teachers.target.head.parameters())
    assert not teachers.target.head.training


@pytest.mark.parametrize("one_encoder", [False, True])
def test_a_plain_mean_of_the_students_is_kept_at_first(one_encoder: bool) -> None:
    taught = method(replace(EAGER, learning_rate=1e-3, one_encoder=one_encoder))
    start = weights(taught.students)
    run(taught, 0, 1)
    later = weights(taught.students)
    for name, value in weights(taught.network).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (start[name] + later[name]) / 2, msg=name)
    assert not same(weights(taught.network), later)


def test_encoders_with_published_weights_learn_slower() -> None:
    made = [
        StDasegnet(network(), replace(EAGER, learning_rate=1e-3), STEPS, crop_px=SIDE, pretrained=pretrained)
        for pretrained in (False, True)
    ]
    assert set(made[0].descent.rates) == {1e-3}
    assert set(made[1].descent.rates) == {1e-3, 1e-3 * made[1].settings.pretrained_rate}


def test_as_published_the_students_are_kept() -> None:
    taught = method(replace(EAGER, learning_rate=1e-3, smoothed=PAPER.smoothed))
    run(taught, 0, 2)
    assert same(weights(taught.network), weights(taught.students))


# 4. A step.


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_students_start_by_predicting_what_the_network_did(head: str) -> None:
    made, bands = network(head).eval(), drawn(1, 2, 70, 45)
    found = adapted(made, Settings()).eval()(bands)
    assert found.shape == (1, CLASSES, 70, 45)
    torch.testing.assert_close(found, made(bands), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(variant: str) -> None:
    taught = method(replace(EAGER, learning_rate=1e-3, **VARIANTS[variant]))
    before = weights(taught.students)
    losses = run(taught, 0, 2)
    assert all(math.isfinite(value) for value in losses.values())
    assert {name for name, value in losses.items() if value == 0} == set()
    after = weights(taught.students)
    for part in ("source.encoder", "target.encoder", "source.head", "target.head"):
        names = [name for name in after if name.startswith(part) and name.endswith("weight")]
        assert not any(torch.equal(before[name], after[name]) for name in names), part


def test_students_grow_apart() -> None:
    taught = method(replace(EAGER, learning_rate=1e-3))
    run(taught)
    views = taught.students.eval().look(domains().target.bands, everywhere(1, SIDE, SIDE))
    assert not torch.allclose(views.source[-1], views.target[-1])
    assert not torch.allclose(views.source[0], views.target[0])


@torch.no_grad()
def test_equal_students_say_the_same_which_is_what_is_delivered() -> None:
    students = adapted(network(), Settings())
    universal = students.disentangle.universal
    assert universal is not None
    randomised(students.source.head)
    students.target.load_state_dict(students.source.state_dict())
    universal.target.load_state_dict(universal.source.state_dict())
    students.eval()
    bands = domains().target.bands
    source, target = students.decode(
        students.disentangle(students.look(bands, everywhere(1, SIDE, SIDE))), (SIDE, SIDE)
    )
    torch.testing.assert_close(source, target)
    torch.testing.assert_close(students(bands), source)


def test_without_the_target_losses_the_target_moves_nothing() -> None:
    quiet = replace(EAGER, self_training=0.0, adversary=0.0, learning_rate=1e-3)
    kept = []
    for shift in (0, 1):
        taught = method(quiet)
        for number in range(2):
            torch.manual_seed(number)
            taught.step(Domains(crops(number), unlabelled(crops(7 + shift))), number)
        kept.append({name: p.detach() for name, p in taught.students.named_parameters()})
    assert same(*kept)


@pytest.mark.parametrize("stream", ["source", "target"])
def test_both_domains_pass_both_students(stream: str) -> None:
    """A student that sees nothing of the target changes what both losses there are."""
    plain, blind = method(), method()
    look = blind.students.look

    def looked(bands: Tensor, valid: Tensor) -> Views:
        views = look(bands, valid)
        without = tuple(torch.zeros_like(level) for level in getattr(views, stream))
        return replace(views, **{stream: without}) if torch.equal(bands, domains().target.bands) else views

    blind.students.look = looked  # type: ignore[method-assign]
    one, other = run(plain, 0, 1), run(blind, 0, 1)
    assert one["target"] != other["target"]
    # The adversary of the target's student looks at the source.
    assert (one["adversary"] != other["adversary"]) == (stream == "source")
    assert one["source"] == other["source"]


def masked(batch: Batch, value: float, label: int) -> Batch:
    valid = batch.valid.clone()
    valid[:, 50:90, 20:] = False
    bands = torch.where(valid[:, None], batch.bands, value)
    return Batch(bands, valid, torch.where(valid, batch.labels, label))


def test_what_is_not_valid_changes_no_loss() -> None:
    found = []
    for value, label in ((0.0, 0), (1e4, 2), (math.nan, 1)):
        batch = domains()
        both = Domains(masked(batch.source, value, label), masked(batch.target, value, label))
        torch.manual_seed(0)
        found.append(method().step(both, 0))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("mixing", [False, True])
def test_crops_with_nothing_in_them_do_no_harm(mixing: bool) -> None:
    batch, taught = domains(), method(replace(EAGER, learning_rate=1e-3, mixing=mixing))
    empty = replace(batch.target, valid=torch.zeros_like(batch.target.valid))
    for number in range(2):
        losses = taught.step(Domains(batch.source, empty), number)
    assert (float(losses["target"]) == 0) == (not mixing)
    assert all(value.isfinite().all() for value in taught.network.state_dict().values())


def test_labels_that_a_person_gave_count_in_full() -> None:
    pseudo = PseudoLabels(torch.tensor([[0, 1, 1]]), torch.tensor([[0.2, 0.3, 0.4]]), torch.tensor(0.5))
    found = with_given(pseudo, torch.tensor([[2, NO_LABEL, 0]]))
    assert found.labels.tolist() == [[2, 1, 0]]
    torch.testing.assert_close(found.weights, torch.tensor([[1.0, 0.3, 1.0]]))


def test_as_published_target_crops_are_learned_as_they_are() -> None:
    assert not PAPER.mixing
    counts = []
    for mixing in (False, True):
        taught = method(replace(EAGER, mixing=mixing))
        calls: list[int] = []
        taught.students.source.encoder.register_forward_pre_hook(lambda *_: calls.append(1))  # noqa: B023
        run(taught, 0, 1)
        counts.append(len(calls))
    assert counts == [2, 3]


def statistics(offset: float, target_norms: float) -> list[Tensor]:
    """Of both students' norms, after a step beside a source that is so much brighter."""
    taught, batch = method(replace(EAGER, learning_rate=0.0), target_norms=target_norms), domains()
    torch.manual_seed(0)
    taught.step(replace(batch, source=replace(batch.source, bands=batch.source.bands + offset)), 0)
    return [value for name, value in taught.students.state_dict().items() if "running" in name]


def test_norms_of_the_target_know_nothing_of_the_source() -> None:
    for one, other in zip(statistics(0.0, 1.0), statistics(9.0, 1.0), strict=True):
        torch.testing.assert_close(one, other)
    pairs = zip(statistics(0.0, 0.0), statistics(9.0, 0.0), strict=True)
    assert any(not torch.allclose(one, other) for one, other in pairs)


def test_norms_of_the_target_are_those_of_its_crops_as_they_are() -> None:
    taught, still = method(replace(EAGER, learning_rate=0.0), target_norms=1.0), network().train()
    batch = domains()
    taught.step(batch, 0)
    with torch.no_grad():
        still(batch.target.bands)
    found, wanted = taught.students.source.encoder.state_dict(), still.encoder.state_dict()
    for name, value in wanted.items():
        if "running" in name:
            torch.testing.assert_close(found[name], value)
    with untracked(still), torch.no_grad():
        still(batch.source.bands)
    assert all(torch.equal(still.encoder.state_dict()[n], v) for n, v in wanted.items() if "running" in n)
    assert still.head.fuse[1].momentum == 0.1


def test_norms_of_both_know_both() -> None:
    taught, still = method(replace(EAGER, learning_rate=0.0), target_norms=0.5), network().train()
    batch = domains()
    taught.step(batch, 0)
    with remembering(still, 0.5), torch.no_grad():
        still(batch.source.bands)
        still(batch.target.bands)
    found = taught.students.source.encoder.state_dict()
    for name, value in still.encoder.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(found[name], value)


def test_making_maps_again_changes_nothing() -> None:
    kept = []
    for again in (False, True):
        taught = method(replace(EAGER, learning_rate=1e-3, checkpointing=again))
        run(taught, 0, 2)
        kept.append({name: value for name, value in weights(taught.students).items() if "num_batches" not in name})
    for name, value in kept[0].items():
        torch.testing.assert_close(value, kept[1][name], msg=name)


@pytest.mark.parametrize("teachers", ["decoder-only", "single-target"])
def test_a_run_that_goes_on_ends_with_the_same_weights(teachers: str) -> None:
    settings = replace(EAGER, teachers=teachers, learning_rate=1e-3)
    whole, later = method(settings), method(settings)
    run(whole, 0, 2)
    later.load_state_dict(copy.deepcopy(whole.state_dict()))
    for taught in (whole, later):
        run(taught, 2)
    assert same(weights(whole.network), weights(later.network))
    assert same(weights(whole.discriminators), weights(later.discriminators))
    assert same(weights(whole.teachers.target.head), weights(later.teachers.target.head))


def test_what_is_kept_can_be_filled_again() -> None:
    taught = method(replace(EAGER, learning_rate=1e-3))
    run(taught, 0, 1)
    again = adapted(build(taught.network.architecture), Settings())
    again.load_state_dict(taught.network.state_dict())
    bands = domains().target.bands
    with torch.no_grad():
        assert torch.equal(again.eval()(bands), taught.network.eval()(bands))


def test_nothing_is_cleared_where_all_is_valid() -> None:
    batch = crops()
    found = cleared(batch)
    assert torch.equal(found.bands, batch.bands)
    assert torch.equal(found.labels, batch.labels)


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": -1.0}, {"average": 1.0}, {"discriminator_depth": 0}, {"attention": "x"}, {"teachers": "all"}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        replace(Settings(), **wrong)
