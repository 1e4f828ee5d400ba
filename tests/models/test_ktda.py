"""KTDA: the numbers of its losses and parts, and what a step reaches and leaves alone."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from rsseg_models.batch import Batch, Domains
from rsseg_models.errors import ModelError
from rsseg_models.kept import rebuild
from rsseg_models.ktda import (
    BASE,
    PAPER,
    PRESETS,
    Ktda,
    RiseAndFall,
    Settings,
    Standardise,
    dice_loss,
    distillation,
    divergence,
)
from rsseg_models.ktda_modules import (
    Align,
    Form,
    MlpBlock,
    Modulate,
    Neck,
    TransferHead,
    Transferred,
    VitBlock,
    Windows,
    as_map,
    as_tokens,
    sampled,
    shown,
)
from rsseg_models.losses import NO_LABEL
from rsseg_models.network import Architecture, SegmentationNetwork, build, count_parameters
from rsseg_models.optimise import optimise
from rsseg_models.teachers import IMAGENET, Lesson, Teacher, of_colours
from torch import Tensor, nn

CLASSES, SIDE, STEPS = 3, 64, 4
BANDS = ("red", "green", "blue", "nir")
AXES = ("channel", "spatial", "width")
SMALL = Settings(width=16, decoder=8, window=3, average=0.9)
PUBLISHED = Form(768, 14, 768, "vit", 1, 8, 0, False, False)
# Channels at strides 4, 8, 16, 32.
CONVNEXT_B, MIT_B0 = (128, 256, 512, 1024), (32, 64, 160, 256)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everywhere(*size: int) -> Tensor:
    return torch.ones(*size, dtype=torch.bool)


def crops(seed: int = 0, side: int = SIDE) -> Batch:
    bands = drawn(2, len(BANDS), side, side, seed=seed)
    return Batch(bands, everywhere(2, side, side), (bands[:, 0] > 0).long() + (bands[:, 1] > 0).long())


class Tokens(nn.Module):
    """A vision transformer of four blocks, as a teacher."""

    patch_px, width, (mean, std) = 14, 24, IMAGENET

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed = nn.Conv2d(3, self.width, self.patch_px, self.patch_px)
        self.blocks = nn.ModuleList(
            VitBlock(Form(24, 14, self.width, "vit", 1, 2, 0, True, False), False) for _ in range(4)
        )
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> list[Tensor]:
        level, maps = self.drop(self.embed(image)), []
        for block in self.blocks:
            level = block(level, everywhere(len(level), *level.shape[-2:]))
            maps.append(level)
        return maps


def teacher(zoom: int = 1) -> Teacher:
    return Teacher(Tokens(), of_colours(BANDS, BANDS[:3], 0.25, 0.5), zoom)


def network() -> SegmentationNetwork:
    torch.manual_seed(1)
    return build(Architecture("tiny", BANDS, CLASSES))


def method(settings: Settings = SMALL, *, taught: bool = True, colours: float = 0.1) -> Ktda:
    started = network()
    torch.manual_seed(2)
    return Ktda(started, settings, STEPS, teacher=teacher() if taught else None, colours=colours)


def lesson(maps: Sequence[Tensor]) -> Lesson:
    return Lesson(list(maps), everywhere(len(maps[0]), *maps[0].shape[-2:]))


# 1. The loss that pulls towards the teacher.


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_student_that_sees_as_its_teacher_loses_nothing(axis: str, alpha: float) -> None:
    maps = [drawn(2, 12, 4, 5, seed=seed) for seed in range(4)]
    found = distillation(maps, lesson(maps), Settings(kl_axis=axis, alpha=alpha))
    assert found["distil"] == 0
    torch.testing.assert_close(found["likeness"], torch.ones(()))


@pytest.mark.parametrize("axis", AXES)
def test_a_constant_apart_is_no_other_distribution(axis: str) -> None:
    maps = [drawn(2, 12, 4, 5, seed=seed) for seed in range(4)]
    moved = [level + 0.3 for level in maps]
    for alpha in (0.0, 0.25, 1.0):
        found = distillation(moved, lesson(maps), Settings(kl_axis=axis, alpha=alpha))
        torch.testing.assert_close(found["mse"], torch.tensor(0.09))
        assert abs(float(found["kl"])) < 1e-6 * (12 * 4 if axis == "width" else 1)
        torch.testing.assert_close(found["distil"], torch.tensor((1 - alpha) * 0.09), atol=1e-4, rtol=0)


def test_alpha_goes_straight_from_values_to_distributions() -> None:
    ours, theirs = ([drawn(1, 6, 3, 3, seed=seed + more) for seed in range(4)] for more in (0, 10))
    at = {alpha: distillation(ours, lesson(theirs), Settings(alpha=alpha)) for alpha in (0.0, 0.25, 1.0)}
    assert at[0.0]["distil"] == at[0.0]["mse"]
    assert at[1.0]["distil"] == at[1.0]["kl"]
    torch.testing.assert_close(at[0.25]["distil"], 0.75 * at[0.0]["distil"] + 0.25 * at[1.0]["distil"])


@pytest.mark.parametrize(("tau", "expected"), [(1.0, 0.130812), (2.0, 0.145363), (4.0, 0.149458)])
def test_two_ways(tau: float, expected: float) -> None:
    theirs = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    found = divergence(torch.zeros(1, 2, 1, 1), theirs, everywhere(1, 1, 1), "channel", tau)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_by_width_it_is_a_sum_and_by_channel_a_mean() -> None:
    side, wide = 19, 768
    ours, theirs = drawn(2, wide, side, side), drawn(2, wide, side, side, seed=1)
    valid = everywhere(2, side, side)
    rows = wide * side
    assert rows == 14_592
    by_width = divergence(ours, theirs, valid, "width", 1.0)
    wanted = theirs.log_softmax(3)
    each = (wanted.exp() * (wanted - ours.log_softmax(3))).sum(3).mean()
    torch.testing.assert_close(by_width, rows * each)
    assert 11_000 < float(by_width) < 14_500
    by_channel = divergence(ours, theirs, valid, "channel", 1.0)
    assert float(by_channel) == pytest.approx(1.0, abs=0.05)
    part = divergence(ours[:1, :, :5, :7], theirs[:1, :, :5, :7], valid[:1, :5, :7], "channel", 1.0)
    assert float(part) == pytest.approx(float(by_channel), abs=0.05)


@pytest.mark.parametrize("axis", AXES)
def test_tokens_that_show_nothing_count_nowhere(axis: str) -> None:
    ours, theirs = ([drawn(2, 6, 4, 4, seed=seed + more) for seed in range(4)] for more in (0, 10))
    valid = everywhere(2, 4, 4)
    valid[0, 1:, 2:] = False
    valid[1] = False
    settings = Settings(kl_axis=axis)
    first = distillation(ours, Lesson(theirs, valid), settings)
    outside = ~valid[:, None]
    other = distillation(
        [level + 9 * outside for level in ours],
        Lesson([level - 5 * outside * level.square() for level in theirs], valid),
        settings,
    )
    for name, value in first.items():
        assert torch.equal(value, other[name]), name


def test_nothing_valid_at_all_is_survived() -> None:
    maps = [drawn(1, 6, 2, 2, seed=seed).requires_grad_() for seed in range(4)]
    for axis in AXES:
        found = distillation(maps, Lesson([m.detach() + 1 for m in maps], ~everywhere(1, 2, 2)), Settings(kl_axis=axis))
        assert found["distil"] == 0
        found["distil"].backward()
        assert all(level.grad is not None and level.grad.isfinite().all() for level in maps)


def test_standardised_maps_have_mean_0_and_deviation_1() -> None:
    standardise = Standardise(5)
    maps = [3 + seed * drawn(8, 5, 9, 9, seed=seed) for seed in range(1, 5)]
    for _ in range(3):
        found = standardise(lesson(maps))
    for level in found.maps:
        torch.testing.assert_close(level.mean((0, 2, 3)), torch.zeros(5), atol=1e-3, rtol=0)
        torch.testing.assert_close(level.std((0, 2, 3)), torch.ones(5), atol=1e-2, rtol=0)


# 2. Parts: shapes, numbers of parameters, and what they do when they do nothing.


def levels_of(channels: Sequence[int], size: Sequence[int]) -> list[Tensor]:
    padded = [-(-side // 32) * 32 for side in size]
    return [
        torch.empty(1, count, padded[0] // stride, padded[1] // stride, device="meta")
        for count, stride in zip(channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("channels", [CONVNEXT_B, MIT_B0])
@pytest.mark.parametrize(
    ("size", "grid", "pyramid"),
    [
        ((256, 256), (19, 19), [(76, 76), (38, 38), (19, 19), (9, 9)]),
        ((512, 512), (37, 37), [(148, 148), (74, 74), (37, 37), (18, 18)]),
        ((300, 420), (22, 30), [(88, 120), (44, 60), (22, 30), (11, 15)]),
    ],
)
def test_shapes(channels: Sequence[int], size: tuple[int, int], grid: tuple[int, int], pyramid: list[object]) -> None:
    assert PUBLISHED.grid(size) == grid
    with torch.device("meta"):
        head = TransferHead(channels, 4, 512, PUBLISHED).eval()
        levels = levels_of(channels, size)
        aligned = head.align(levels, size)
        made = head.modulated(head.neck(aligned), levels, everywhere(1, *size))
        logits = head(made)
    assert [tuple(level.shape) for level in aligned] == [(1, 768, *grid)] * 4
    assert [tuple(level.shape[1:]) for level in made] == [(768, *side) for side in pyramid]
    assert logits.shape == (1, 4, *pyramid[0])
    assert head.enlarged(logits, size).shape == (1, 4, *size)


def test_numbers_of_parameters() -> None:
    with torch.device("meta"):
        assert count_parameters(Align(CONVNEXT_B, PUBLISHED)) == 1_477_632
        assert count_parameters(Neck(PUBLISHED)) == 23_599_104
        assert count_parameters(MlpBlock(PUBLISHED)) == 295_872
        assert count_parameters(VitBlock(PUBLISHED, False)) == 7_087_872
        assert count_parameters(Modulate(replace(PUBLISHED, blocks=4))) == 4 * 7_087_872


def test_levels_are_sampled_where_the_tokens_are() -> None:
    """On a ramp the value at a token is the place of its centre; beyond the border the last one."""
    for stride, pitch in ((4, 14), (16, 14), (32, 14), (16, 16), (8, 7)):
        cells = 320 // stride
        ramp = ((torch.arange(cells) + 0.5) * stride).expand(1, 1, cells, cells)
        count = -(-300 // pitch)
        found = sampled(ramp, stride, (count, count), (count * pitch,) * 2)[0, 0]
        centres = (torch.arange(count) + 0.5) * pitch
        inner = slice(2, -3)
        torch.testing.assert_close(found[5, inner], centres[inner], atol=0.05, rtol=0)
        assert float(found[0, -1]) <= 320


def test_sampling_and_a_1x1_convolution_commute() -> None:
    layer, level = nn.Conv2d(6, 9, 1), drawn(1, 6, 20, 24)
    for pitch in (14, 7):
        covered = (6 * pitch, 7 * pitch)
        one = sampled(layer(level), 4, (6, 7), covered)
        torch.testing.assert_close(one, layer(sampled(level, 4, (6, 7), covered)), atol=1e-5, rtol=1e-5)


def test_a_cell_that_shows_half_of_itself_is_seen() -> None:
    valid = torch.zeros(1, 20, 30, dtype=torch.bool)
    valid[:, :, :21] = True
    assert shown(valid, (28, 42), (2, 3)).tolist() == [[[True, True, False], [False, False, False]]]


def test_order_of_tokens_and_windows_survives() -> None:
    level = torch.arange(2 * 3 * 7 * 11.0).view(2, 3, 7, 11)
    assert torch.equal(as_map(as_tokens(level), (7, 11)), level)
    for window in (0, 1, 3, 4, 20):
        for is_shifted in (False, True):
            windows = Windows.of((7, 11), window, is_shifted)
            cut = windows.split(level.permute(0, 2, 3, 1))
            assert torch.equal(windows.join(cut, 2).permute(0, 3, 1, 2), level)


def test_blocks_whose_last_layers_are_0_change_nothing() -> None:
    form, level, valid = replace(PUBLISHED, width=32, residual=True), drawn(2, 32, 5, 6), everywhere(2, 5, 6)
    for window, is_shifted in ((0, False), (3, False), (3, True)):
        block = VitBlock(replace(form, window=window), is_shifted)
        for layer in (block.project, block.mlp[2]):
            nn.init.zeros_(layer.weight)
        assert torch.equal(block(level, valid), level)
    plain = MlpBlock(form)
    nn.init.zeros_(plain.widen.weight)
    assert torch.equal(plain(level, valid), level)
    published = MlpBlock(replace(form, residual=False))
    nn.init.zeros_(published.widen.weight)
    assert not published(level, valid).any()


@torch.no_grad()
def test_tokens_look_at_their_window_alone_and_at_nothing_invalid() -> None:
    torch.manual_seed(0)
    block = VitBlock(replace(PUBLISHED, width=16, heads=2, window=4), False)
    for part in block.parameters():
        nn.init.normal_(part, 0, 0.3)
    level, valid = drawn(1, 16, 8, 8), everywhere(1, 8, 8)
    far = level.clone()
    far[..., 5:, 5:] += 1
    changed = (block(far, valid) != block(level, valid)).any(1)[0]
    assert changed[4:, 4:].all()
    assert not changed[:4].any()
    assert not changed[:, :4].any()
    valid[..., 5:, 5:] = False
    changed = (block(far, valid) != block(level, valid)).any(1)[0]
    assert torch.equal(changed, ~valid[0])
    assert block(level, ~everywhere(1, 8, 8)).isfinite().all()


# 3. The network that is kept.


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "mlp", "none"])
def test_what_is_kept_is_the_network_described(name: str) -> None:
    made = method(replace(SMALL, fmm=name)).network
    again = rebuild(made.architecture)
    assert isinstance(again, Transferred)
    again.load_state_dict(made.state_dict())
    image = drawn(1, 4, 75, 50)
    assert torch.equal(again.eval()(image), made(image))
    assert again(image).shape == (1, CLASSES, 75, 50)


@torch.no_grad()
def test_it_maps_as_it_learned_without_the_wide_levels() -> None:
    made = method().network
    image = drawn(2, 4, 70, 96)
    torch.testing.assert_close(made(image), made.see(image, everywhere(2, 70, 96)).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"aligned": 3}',
        PUBLISHED.as_json().replace("768", '"768"'),
        PUBLISHED.as_json()[:-1] + ', "more": 1}',
    ],
)
def test_descriptions_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ModelError):
        Form.from_json(text)


@pytest.mark.parametrize(
    "wrong",
    [{"aligned": 0}, {"width": 9999}, {"blocks": 99}, {"fmm": "gru"}, {"heads": 7}, {"pitch_px": 0}],
)
def test_forms_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        replace(PUBLISHED, **wrong)


# 4. The method at work.


def test_a_step_looks_once_with_the_student_and_once_with_the_teacher() -> None:
    for batch in (crops(), Domains(crops(), crops(1))):
        taught, calls = method(), {"encoder": 0, "teacher": 0}
        assert taught.teacher is not None

        def count(name: str, calls: dict[str, int] = calls) -> None:
            calls[name] += 1

        taught.student.encoder.register_forward_hook(lambda *_, count=count: count("encoder"))
        taught.teacher.backbone.register_forward_hook(lambda *_, count=count: count("teacher"))
        taught.step(batch, 0)
        assert calls == {"encoder": 1, "teacher": 1}


def test_the_teacher_never_changes() -> None:
    taught = method()
    assert taught.teacher is not None
    before = {name: value.clone() for name, value in taught.teacher.state_dict().items()}
    bands, valid = crops().bands, crops().valid
    said = taught.teacher(bands, valid).maps
    list(optimise(taught, crops, STEPS, seed=0))
    taught.teacher.train()
    assert not taught.teacher.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in taught.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in taught.teacher.state_dict().items())
    assert all(torch.equal(one, other) for one, other in zip(taught.teacher(bands, valid).maps, said, strict=True))


def test_the_teacher_pulls_at_the_encoder_and_at_what_aligns_it() -> None:
    taught = method()
    seen = taught.student.see(crops().bands, crops().valid)
    lesson = taught.lesson(crops())
    assert lesson is not None
    distillation(seen.aligned, lesson, taught.settings)["distil"].backward()
    reached = {name for name, value in taught.student.named_parameters() if value.grad is not None}
    assert reached == {
        name for name, _ in taught.student.named_parameters() if name.startswith(("encoder.", "head.align."))
    }


def test_maps_need_no_teacher_and_the_state_holds_none() -> None:
    taught = method()
    list(optimise(taught, crops, STEPS, seed=0))
    before = taught.network(crops().bands)
    tensors = sum(value.numel() for value in taught.network.state_dict().values())
    taught.teacher = None
    assert torch.equal(taught.network(crops().bands), before)
    without = method(replace(SMALL, aligned_width=Tokens.width), taught=False).network
    assert {k: v.shape for k, v in taught.network.state_dict().items()} == {
        k: v.shape for k, v in without.state_dict().items()
    }
    assert tensors == sum(value.numel() for value in without.state_dict().values())
    assert "teacher" not in taught.parts()


def test_a_student_grows_like_its_teacher() -> None:
    taught = method(replace(SMALL, learning_rate=0.01))
    found = [taught.step(crops(), number)["likeness"] for number in range(STEPS)]
    assert float(found[-1]) > float(found[0]) + 0.02


@pytest.mark.parametrize("settings", [{"fmm": "mlp"}, {"teacher_norm": "standardised"}, {"precision": "bfloat16"}])
def test_a_run_that_goes_on_ends_with_the_same_weights(settings: dict[str, str]) -> None:
    whole, first, later = (method(replace(SMALL, **settings)) for _ in range(3))
    list(optimise(whole, crops, STEPS, seed=0))
    for report in optimise(first, crops, STEPS, seed=0):
        if report.step == 2:
            break
    later.load_state_dict(first.state_dict())
    list(optimise(later, crops, STEPS, seed=0, first_step=2))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, later.network.state_dict()[name]), name


def test_what_shows_nothing_changes_nothing() -> None:
    """Neither labels there, nor values there, move any loss."""

    def cut(noise: float, label: int) -> Batch:
        batch = crops(3)
        batch.valid[:, 20:50, 30:] = False
        hidden = ~batch.valid
        bands = torch.where(hidden[:, None], noise * drawn(*batch.bands.shape, seed=5), batch.bands)
        return replace(batch, bands=bands, labels=torch.where(hidden, label, batch.labels))

    found = []
    for noise, label in ((0.0, NO_LABEL), (100.0, 1)):
        torch.manual_seed(0)
        found.append(method(SMALL).step(cut(noise, label), 0))
    assert found[0] == found[1]


def test_the_teacher_sees_colours_as_they_are() -> None:
    taught, given = method(colours=0.5), []
    assert taught.teacher is not None
    taught.teacher.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    seen: list[Tensor] = []
    taught.student.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    taught.step(crops(), 0)
    assert torch.equal(given[0], crops().bands)
    assert not torch.equal(seen[0], crops().bands)


def test_the_target_teaches_without_labels() -> None:
    target = replace(crops(9), labels=torch.full((2, SIDE, SIDE), NO_LABEL))
    alone, both = method(colours=0.0), method(colours=0.0)
    torch.manual_seed(0)
    losses = both.step(Domains(crops(), target), 0)
    torch.manual_seed(0)
    assert losses["distil"] != alone.step(crops(), 0)["distil"]
    assert losses["source"] > 0


def test_without_a_teacher_labels_teach_alone() -> None:
    assert set(method(taught=False).step(crops(), 0)) == {"source", "auxiliary", "dice"}
    assert set(method(replace(SMALL, distil=0.0, dice=0.0)).step(crops(), 0)) == {"source", "auxiliary"}


def test_the_rate_rises_from_a_thousandth_and_falls_to_nothing() -> None:
    schedule = RiseAndFall(23_000, round(0.05 * 23_000))
    rates = [PAPER.learning_rate * schedule.factor(number) for number in (0, 1150, 23_000)]
    assert rates == pytest.approx([6e-7, 6e-4, 0.0], abs=1e-12)
    assert schedule.factor(575) == pytest.approx(0.5005)


def test_the_teacher_may_fade() -> None:
    assert [method(replace(SMALL, fade=0.5)).pull(number) for number in range(STEPS)] == [1, 1, 2 / 3, 1 / 3]
    assert {method().pull(number) for number in range(STEPS)} == {1.0}


def test_dice_counts_classes_alike() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 0, 0] = 2
    labels[0, 3] = NO_LABEL
    right = 50.0 * nn.functional.one_hot(labels.clamp(max=2), 3).permute(0, 3, 1, 2)
    assert float(dice_loss(right, labels)) == pytest.approx(0, abs=1e-5)
    all_common = torch.zeros(1, 3, 4, 4)
    all_common[:, 0] = 50
    assert float(dice_loss(all_common, labels)) == pytest.approx((1 - 2 * 11 / (12 + 11) + 1) / 2, abs=1e-5)
    assert dice_loss(all_common, torch.full_like(labels, NO_LABEL)) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": 1.5}, {"kl_axis": "height"}, {"teacher_norm": "first"}, {"fmm": "gru"}, {"teacher_blocks": "1,2"}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        replace(Settings(), **wrong)


def test_a_width_that_is_not_the_teachers_is_refused() -> None:
    with pytest.raises(ModelError, match="aligned_width"):
        replace(SMALL, aligned_width=10).form(teacher())


def test_presets_are_as_they_are_called() -> None:
    assert PRESETS["tiny"] == Settings()
    assert PAPER.form(None) == Form(768, 14, 768, "vit", 4, 8, 0, False, False)
    assert BASE.form(None).width <= 768 // 2
    assert PAPER.depths == ()
    assert replace(PAPER, teacher_blocks="7,11,15,23").depths == (7, 11, 15, 23)


def test_tokens_may_cover_less_ground() -> None:
    zoomed = teacher(zoom=2)
    assert zoomed.pitch_px == 7
    assert SMALL.form(zoomed).grid((64, 64)) == (10, 10)
    assert [level.shape[-2:] for level in zoomed(crops().bands, crops().valid).maps] == [(10, 10)] * 4
    with pytest.raises(ModelError, match="teacher_zoom"):
        teacher(zoom=3)
