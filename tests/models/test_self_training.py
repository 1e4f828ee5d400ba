"""Self-training: what is pasted, kept and trusted; what a person gave; and that it helps."""

import copy
from dataclasses import replace

import pytest
import torch
from rsseg_models import source_only
from rsseg_models.batch import Batch, Domains
from rsseg_models.errors import ModelError
from rsseg_models.losses import NO_LABEL
from rsseg_models.mixing import class_mix
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.norms import remembering
from rsseg_models.optimise import optimise
from rsseg_models.self_training import SelfTraining, Settings
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
    start: SegmentationNetwork | None = None, steps: int = STEPS, target_norms: float = 0.0, **chosen: float | str
) -> SelfTraining:
    return SelfTraining(start or network(), replace(Settings(), **chosen), steps, target_norms=target_norms)


def assert_same(one: SelfTraining, other: SelfTraining) -> None:
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name


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


def test_norms_of_the_target_know_nothing_of_the_source() -> None:
    def statistics(offset: float) -> list[Tensor]:
        method = adapter(learning_rate=0.0, target_norms=1.0)
        for number in range(2):
            domains = draw(number)
            source = replace(domains.source, bands=domains.source.bands + offset)
            method.step(replace(domains, source=source), number)
        return [value for name, value in method.student.state_dict().items() if "running" in name]

    for one, other in zip(statistics(0.0), statistics(9.0), strict=True):
        torch.testing.assert_close(one, other)


def test_norms_of_both_know_both_and_nothing_mixed() -> None:
    method, still = adapter(learning_rate=0.0, target_norms=0.5), network().train()
    domains = draw(0)
    method.step(domains, 0)
    with remembering(still, 0.5), torch.no_grad():
        still(domains.target.bands)
        still(domains.source.bands)
    for name, value in still.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(method.student.state_dict()[name], value)


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
    with torch.no_grad():
        taught, trust = other.mixer.taught(domains.target, other.network(domains.target.bands))
    torch.manual_seed(3)
    mixed, weights = class_mix(domains.source, taught, trust[:, None, None].expand(4, 32, 32))
    assert 0.2 < trust.mean() < 0.8
    with torch.no_grad():
        likely = other.student(mixed.bands).log_softmax(1)
    labelled = mixed.labels != NO_LABEL
    places = mixed.labels.clamp(max=2)
    each = -likely.gather(1, places[:, None])[:, 0] * weights * other.mixer.confidences.class_weights(1.0)[places]
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
    assert torch.equal(whole.mixer.confidences.counts, later.mixer.confidences.counts)


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
