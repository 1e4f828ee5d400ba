"""The teacher of ktda through files: how it sees the bands of scenes, runs with it, and what is kept of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rsseg_models.ktda_modules import Transferred
from rsseg_models.stem import RGB
from safetensors import safe_open

from rsseg_cli import training
from rsseg_cli.adaptation import adapt, prepare
from rsseg_cli.beginning import first_network
from rsseg_cli.bundle import load_bundle
from rsseg_cli.domain import Crops
from rsseg_cli.errors import RssegError
from rsseg_cli.model_file import read_card
from rsseg_cli.plan import Request, check_request, make_plan
from rsseg_cli.teachers import composite_of

SCENES = Path(__file__).parents[1] / "sample_scenes"
SETTINGS = {"width": 8, "decoder": 8, "aligned_width": 24, "precision": "float32"}
REQUEST = Request(
    (str(SCENES / "source"),),
    method="ktda",
    teacher="none",
    steps=4,
    crops=Crops(crop_px=32, batch=2, seed=3),
    settings=SETTINGS,
)


class Killed(BaseException):
    """As a SIGKILL would end it."""


@pytest.fixture(scope="module")
def plan():
    return make_plan(REQUEST)


@pytest.fixture(scope="module")
def model(plan, tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    result = adapt(REQUEST, plan, path)
    assert (result["method"], result["selected"], result["steps"]) == ("ktda", None, 4)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> str:
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    size = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2}
    config = transformers.Dinov2Config(**size, image_size=42, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(path)
    return str(path)


def seen(request: Request) -> tuple[str, np.ndarray]:
    """What a teacher sees of the first scene of the source."""
    plan = make_plan(request)
    scene, composite = plan.domain.pairs[0].scene, composite_of(plan)
    bands = plan.domain.normalisations[0].apply(scene.values(scene.grid.window))
    return composite.rule, composite(torch.from_numpy(bands)[None])[0].numpy()


def test_colours_are_stretched_from_the_2nd_to_the_98th_percentile(plan) -> None:
    rule, image = seen(REQUEST)
    assert rule == "red, green, blue"
    scene = plan.domain.pairs[0].scene
    for colour, channel in zip(RGB, image, strict=True):
        values = scene.values(scene.grid.window)[scene.names.index(colour)]
        assert np.corrcoef(values.ravel(), channel.ravel())[0, 1] > 0.95
        assert 0 < (channel == 0).mean() < 0.1
        assert 0.2 < np.median(channel) < 0.8


def test_without_colours_there_are_principal_components() -> None:
    rule, image = seen(replace(REQUEST, source_bands="nir,green,red"))
    assert rule == "principal components"
    assert image.shape[0] == 3
    assert 0.3 < image.mean() < 0.7
    rule, image = seen(replace(REQUEST, source_bands="nir"))
    assert np.array_equal(image[0], image[2])


def test_fixed_scales_are_those_of_photographs() -> None:
    request = replace(REQUEST, normalise="fixed")
    scene = make_plan(request).domain.pairs[0].scene
    _, image = seen(request)
    if scene.dtype == "uint8":
        np.testing.assert_allclose(image[0], scene.values(scene.grid.window)[0] / 255, atol=1e-3)


def test_a_run_killed_and_taken_up_again_gives_the_same_model(model: Path, plan, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)

    def killing(reports: Any, label: str, total: int) -> Any:
        for report in reports:
            yield report
            if report.step == 2:
                raise Killed

    later = tmp_path / "later.safetensors"
    halfway = replace(REQUEST, workdir=tmp_path / "work")
    with pytest.raises(Killed):
        adapt(halfway, plan, later, track=killing)
    adapt(replace(halfway, resume=True), plan, later)
    assert load_bundle(later).digest == load_bundle(model).digest


def test_with_a_target_it_is_judged_beside_source_only(model: Path, make_raster: Any, tmp_path: Path) -> None:
    with rasterio.open(SCENES / "target" / "karst_1.tif") as scene:
        values, profile = scene.read()[:, :128, :128], {"photometric": "minisblack", "alpha": "unspecified"}
    make_raster("t/a.tif", values, **profile)
    settings = SETTINGS | {"source.steps": 1, "source.precision": "float32"}
    request = replace(
        REQUEST, targets=(str(tmp_path / "t"),), target_bands="1,2,3,4", match="none", steps=2, settings=settings
    )
    result = adapt(request, make_plan(request), tmp_path / "m.safetensors")
    assert [entry["step"] for entry in result["checkpoints"]][-1] == 2
    assert result["selected"]["verdict"] in ("adapted", "source-only kept")


def test_a_model_of_it_can_be_started_from(model: Path, plan, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    request = Request(REQUEST.sources, init=str(model), steps=1, crops=REQUEST.crops)
    begin = first_network(request, plan)
    assert "encoder loaded; the head all-mlp starts anew" in caplog.text
    assert not isinstance(begin.network, Transferred)
    earlier = load_bundle(model).network
    assert isinstance(earlier, Transferred)
    name = begin.network.encoder.stem_key
    assert torch.equal(begin.network.encoder.state_dict()[name], earlier.encoder.state_dict()[name])


def test_the_file_holds_no_teacher_and_its_card_names_it(
    model: Path, plan, folder: str, tmp_path: Path, caplog
) -> None:
    path = tmp_path / "m.safetensors"
    adapt(replace(REQUEST, teacher=folder, steps=1), plan, path)
    assert "never found on source ground held back from training" in caplog.text
    with safe_open(path, "pt") as taught, safe_open(model, "pt") as alone:
        shapes = [{name: file.get_slice(name).get_shape() for name in file.keys()} for file in (taught, alone)]  # noqa: SIM118
    assert shapes[0] == shapes[1]
    card = read_card(path)
    assert card["provenance"]["teacher"]["name"] == folder
    assert card["provenance"]["teacher"]["composite"]["rule"] == "red, green, blue"
    assert "teacher" not in read_card(model)["provenance"]
    form = json.loads(card["architecture"]["transfer"])
    assert (form["aligned"], form["pitch_px"]) == (24, 14)


def test_presets_are_starts_for_other_settings(plan) -> None:
    request = replace(REQUEST, settings={"preset": "base", "blocks": "2"})
    settings = prepare(request, plan).stages[-1].settings
    assert (settings.learning_rate, settings.blocks) == (6e-4, 2)
    with pytest.raises(RssegError, match="has no preset huge") as caught:
        prepare(replace(REQUEST, settings={"preset": "huge"}), plan)
    assert "tiny, base, paper" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "match", "hint"),
    [
        ({"teacher": None}, "none is named", "hf download"),
        ({"teacher": "no/such/folder"}, "no such folder", "folder of a vision transformer"),
        ({"teacher": "dinov2"}, "no such folder", "facebook/dinov2-small"),
        ({"teacher": "none", "method": "source-only"}, "has no teacher", "leave --teacher away"),
        ({"head": "all-mlp"}, "brings a head of its own", "leave --head away"),
        ({"target_labels": "few.gpkg"}, "--target-labels are for methods that adapt", "name both"),
    ],
)
def test_requests_that_cannot_be(change: dict[str, Any], match: str, hint: str) -> None:
    with pytest.raises(RssegError, match=match) as caught:
        check_request(replace(REQUEST, **change))
    assert hint in caught.value.hint


def test_settings_that_do_not_fit_the_teacher(plan, folder: str) -> None:
    for settings, match in (
        ({"aligned_width": 10}, "aligned_width"),
        ({"teacher_blocks": "0,1,2,9"}, "teacher_blocks"),
        ({"teacher_zoom": 3}, "teacher_zoom"),
    ):
        with pytest.raises(RssegError, match=match):
            prepare(replace(REQUEST, teacher=folder, settings=SETTINGS | settings), plan)
