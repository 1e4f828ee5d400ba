"""Training through files: where it starts, how long it takes, and runs that go on from a checkpoint."""

import csv
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import rasterio
import torch
from rsseg_models.fusion import OfSeries
from rsseg_models.network import HEADS

from rsseg_cli import selection, training
from rsseg_cli.adaptation import adapt, prepare, rehearse
from rsseg_cli.bundle import load_bundle
from rsseg_cli.commands.adapt import Head, Method
from rsseg_cli.domain import Crops, Scale
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import LabelOptions
from rsseg_cli.matching import MATCHES
from rsseg_cli.methods import METHODS
from rsseg_cli.plan import Request, check_request, make_plan
from rsseg_cli.settings import fill, read_settings, toml_of
from rsseg_cli.work import SPARE, Pace, Work

SCENES = Path(__file__).parents[1] / "sample_scenes"
REQUEST = Request((str(SCENES / "source"),), steps=6, crops=Crops(crop_px=64, batch=2, seed=3))


ADAPTING = replace(
    REQUEST,
    targets=(str(SCENES / "target"),),
    method="self-training",
    match="auto",
    steps=4,
    settings={"source.steps": 3, "precision": "float32", "source.precision": "float32"},
)


class Killed(BaseException):
    """As a SIGKILL would end it."""


def killing_after(steps: int):
    def track(reports: Iterable, label: str, total: int) -> Iterator:
        for report in reports:
            yield report
            if report.step == steps:
                raise Killed

    return track


def killing_after_more(steps: int):
    """The same, counted from where a run goes on, over all its stages."""
    done = 0

    def track(reports: Iterable, label: str, total: int) -> Iterator:
        nonlocal done
        for report in reports:
            yield report
            done += 1
            if done == steps:
                raise Killed

    return track


@pytest.fixture(scope="module")
def plan():
    return make_plan(REQUEST)


@pytest.fixture(scope="module")
def model(plan, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "first.safetensors"
    adapt(REQUEST, plan, path)
    return path


def logged(workdir: Path) -> list[tuple[str, int]]:
    """Methods and steps of log.csv, each as often as it is there with its first value."""
    with (workdir / "log.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len({tuple(line.values())[:4] for line in lines})
    return list(dict.fromkeys((line["method"], int(line["step"])) for line in lines))


def digest_of(path: Path) -> str:
    return load_bundle(path).digest


@pytest.mark.parametrize("steps", [2, 5])
def test_a_killed_run_that_goes_on_gives_the_same_model(model, plan, tmp_path: Path, monkeypatch, steps: int) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    halfway = replace(REQUEST, workdir=tmp_path / "work")
    with pytest.raises(Killed):
        adapt(halfway, plan, tmp_path / "later.safetensors", track=killing_after(steps))
    assert not (tmp_path / "later.safetensors").exists()
    adapt(replace(halfway, resume=True), plan, tmp_path / "later.safetensors")
    assert digest_of(tmp_path / "later.safetensors") == digest_of(model)
    assert not list((tmp_path / "work").glob("checkpoint*"))
    assert logged(tmp_path / "work") == [("source-only", step) for step in range(1, 7)]


class TestAdapting:
    """Two stages, and a choice."""

    @pytest.mark.parametrize("method", ["self-training", "st-dasegnet"])
    def test_a_run_killed_at_any_step_gives_the_same_model(self, tmp_path: Path, monkeypatch, method: str) -> None:
        monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
        request = replace(ADAPTING, method=method, crops=Crops(crop_px=192, batch=1, seed=3))
        found = make_plan(request)
        whole = adapt(request, found, tmp_path / "whole.safetensors")
        halfway = replace(request, workdir=tmp_path / "work", resume=True)
        for steps in (2, 1, 1, 1, 2):
            with pytest.raises(Killed):
                adapt(halfway, found, tmp_path / "later.safetensors", track=killing_after_more(steps))
        later = adapt(halfway, found, tmp_path / "later.safetensors")
        assert digest_of(tmp_path / "later.safetensors") == digest_of(tmp_path / "whole.safetensors")
        assert later["checkpoints"] == whole["checkpoints"]
        assert not list((tmp_path / "work").glob("checkpoint*"))
        assert logged(tmp_path / "work") == [
            *[("source-only", step) for step in (1, 2, 3)],
            *[(method, step) for step in (0, 1, 2, 3, 4)],
        ]
        assert len(list((tmp_path / "work").glob("target_*.png"))) >= 5

    def test_a_run_on_series_killed_on_its_way_gives_the_same_model(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
        request = replace(
            ADAPTING,
            sources=(str(SCENES / "series" / "source"),),
            targets=(str(SCENES / "series" / "target"),),
            method="da-stc",
            crops=Crops(crop_px=64, batch=2, seed=3),
            settings=ADAPTING.settings | {"frames": 2, "dump": "mix"},
            workdir=tmp_path / "work",
        )
        found = make_plan(request)
        assert found.target.timeline.most_dates == 6
        whole = adapt(request, found, tmp_path / "whole.safetensors")
        assert len(list((tmp_path / "work").glob("mix_*.png"))) >= 4
        halfway = replace(request, resume=True)
        for steps in (5, 1):
            with pytest.raises(Killed):
                adapt(halfway, found, tmp_path / "later.safetensors", track=killing_after_more(steps))
        later = adapt(halfway, found, tmp_path / "later.safetensors")
        assert digest_of(tmp_path / "later.safetensors") == digest_of(tmp_path / "whole.safetensors")
        assert later["checkpoints"] == whole["checkpoints"]
        kept = load_bundle(tmp_path / "whole.safetensors")
        assert isinstance(kept.network, OfSeries) == bool(whole["selected"]["step"])

    @pytest.mark.parametrize(("target", "steps"), [("target", 1440), ("series/target", 160)])
    def test_a_series_has_a_usual_number_of_steps_of_its_own(self, target: str, steps: int) -> None:
        request = replace(ADAPTING, targets=(str(SCENES / target),), method="da-stc", steps=None)
        work = prepare(request, make_plan(request))
        assert work.stages[-1].steps == steps
        assert prepare(replace(request, steps=7), make_plan(request)).stages[-1].steps == 7

    def test_both_models_are_judged_and_the_better_is_kept(self, tmp_path: Path) -> None:
        result = adapt(ADAPTING, make_plan(ADAPTING), tmp_path / "m.safetensors")
        first, *_, last = result["checkpoints"]
        assert (first["step"], first["match"], first["target_norms"]) == (0, "none", 0.0)
        assert [entry["step"] for entry in result["checkpoints"]] == [0, 0, 1, 2, 3, 4]
        assert last["match"] in ("none", *MATCHES)
        assert all(0 <= entry["score"] <= 1 for entry in result["checkpoints"])
        card = load_bundle(tmp_path / "m.safetensors").card
        assert card.scores["selected"] == result["selected"]
        assert card.settings["source.steps"] == 3
        assert card.method == "self-training"

    @pytest.mark.parametrize("method", ["self-training", "st-dasegnet"])
    def test_where_the_adapted_model_is_worse_source_only_is_delivered(
        self, tmp_path: Path, monkeypatch, caplog, method: str
    ) -> None:
        caplog.set_level(logging.INFO)
        scores = iter((0.9, *(0.8, 0.1, 0.2, 0.3, 0.4), *(0.7, 0.1, 0.2, 0.3, 0.35)))  # as it is, and two ways
        monkeypatch.setattr(selection.Judge, "score", lambda judge, network, way: next(scores))
        monkeypatch.setattr(
            selection.Judge, "outlook", lambda judge, network, way: selection.Outlook(1 / len(str(way)), 1)
        )
        request = replace(ADAPTING, method=method, crops=Crops(crop_px=192, batch=1, seed=3))
        result = adapt(request, make_plan(request), tmp_path / "m.safetensors")
        assert result["selected"] == {
            **{"rule": selection.RULE, "step": 0, "match": "none", "target_norms": 0.0},
            **{"score": 0.9, "source_only_score": 0.9, "verdict": "source-only kept"},
        }
        assert "source-only is delivered (step 0)" in caplog.text
        alone = replace(request, method="source-only", match="none", steps=3, settings={"precision": "float32"})
        adapt(alone, make_plan(alone), tmp_path / "alone.safetensors")
        assert digest_of(tmp_path / "m.safetensors") == digest_of(tmp_path / "alone.safetensors")

    def test_the_settings_printed_are_read_again(self, tmp_path: Path) -> None:
        result = adapt(ADAPTING, make_plan(ADAPTING), tmp_path / "m.safetensors")
        (tmp_path / "s.toml").write_text("\n".join(toml_of(result["settings"])))
        assert read_settings(tmp_path / "s.toml") == result["settings"]

    def test_a_model_of_the_source_that_is_there_is_not_learned_again(self, tmp_path: Path, caplog) -> None:
        caplog.set_level(logging.INFO)
        found = make_plan(ADAPTING)
        adapt(ADAPTING, found, tmp_path / "whole.safetensors")
        alone = replace(ADAPTING, method="source-only", match="none", steps=3, settings={"precision": "float32"})
        adapt(alone, make_plan(alone), tmp_path / "source.safetensors")
        second = replace(ADAPTING, init=str(tmp_path / "source.safetensors"), settings={"precision": "float32"})
        adapt(second, make_plan(second), tmp_path / "second.safetensors")
        assert digest_of(tmp_path / "second.safetensors") == digest_of(tmp_path / "whole.safetensors")
        assert "is adapted as it is" in caplog.text

    def test_minutes_shorten_both_stages(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(Work, "_step_s", lambda work, number, way: 10.0 * (1 + number))
        monkeypatch.setattr(Work, "_scoring_s", lambda work, *_: 0.0)
        work = prepare(replace(ADAPTING, minutes=1.0), make_plan(ADAPTING))
        assert work.pace(time.monotonic() + 95 / SPARE + 0.5).steps == (1, 2)  # twice, to try both ways
        assert work.pace(time.monotonic() + 1000).steps == (3, 4)

    def test_a_target_too_small_to_judge_on_is_told(self, tmp_path: Path, make_raster, caplog) -> None:
        values = np.random.default_rng(0).integers(1, 255, (4, 30, 30), dtype=np.uint8)
        make_raster("t/a.tif", values, photometric="minisblack", alpha="unspecified")
        request = replace(ADAPTING, targets=(str(tmp_path / "t"),))
        result = adapt(request, make_plan(request), tmp_path / "m.safetensors")
        assert (result["selected"], result["checkpoints"]) == (None, [])
        assert "the last step is delivered unjudged" in caplog.text

    def test_a_preset_is_a_start_for_other_settings(self) -> None:
        crops = Crops(crop_px=192, batch=1)
        request = replace(ADAPTING, method="st-dasegnet", crops=crops, settings={"preset": "paper", "clip": "2"})
        settings = prepare(request, make_plan(request)).stages[-1].settings
        assert (settings.pretrained_rate, settings.sure, settings.quality, settings.clip) == (1.0, 0.975, "batch", 2.0)
        with pytest.raises(RssegError, match="self-training has no preset paper"):
            prepare(replace(ADAPTING, settings={"preset": "paper"}), make_plan(ADAPTING))

    @pytest.mark.parametrize(
        ("method", "settings", "told"),
        [
            ("st-dasegnet", {"sure": "0.8"}, ["--set sure=0.8 does nothing with mixing=true"]),
            ("st-dasegnet", {"mixing": "false", "kept": "0.5"}, ["--set kept=0.5 does nothing with mixing=false"]),
            ("st-dasegnet", {"mixing": "false", "sure": "0.8", "clip": "2"}, []),
            (
                "st-dasegnet",
                {"universal": "false", "attention": "plain"},
                ["--set attention=plain does nothing with universal=false"],
            ),
            ("st-dasegnet", {"preset": "paper"}, []),
            ("da-stc", {"preset": "paper", "frames": "1", "tau": "1"}, ["--set tau=1 does nothing with alignment=mmd"]),
            ("da-stc", {"frames": "1", "alone": "0.2"}, ["--set alone=0.2 does nothing with frames=1"]),
        ],
    )
    def test_settings_that_do_nothing_are_told(self, method: str, settings: dict, told: list[str], caplog) -> None:
        request = replace(ADAPTING, method=method, crops=Crops(crop_px=192, batch=1), settings=settings)
        prepare(request, make_plan(request))
        assert [entry.message for entry in caplog.records if "does nothing" in entry.message] == told

    def test_crops_too_small_for_the_method_are_refused_before_anything_is_learned(self) -> None:
        request = replace(ADAPTING, method="st-dasegnet", crops=Crops(crop_px=128, batch=1))
        with pytest.raises(RssegError, match="too small for a discriminator") as caught:
            prepare(request, make_plan(request))
        assert "larger crops" in caught.value.hint

    def test_a_target_is_needed(self) -> None:
        with pytest.raises(RssegError, match="adapts to scenes without labels, and there are none"):
            check_request(replace(ADAPTING, targets=()))


@pytest.fixture
def interrupted(plan, tmp_path: Path, monkeypatch) -> Request:
    """A run whose workdir holds the checkpoint of its second step."""
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    request = replace(REQUEST, workdir=tmp_path / "work")
    with pytest.raises(Killed):
        adapt(request, plan, tmp_path / "m.safetensors", track=killing_after(2))
    return request


def test_a_checkpoint_of_another_run_is_refused(interrupted: Request, plan, tmp_path: Path) -> None:
    for changed, told in (
        ({"settings": {"learning_rate": 0.5}}, "learning_rate was 0.002, is 0.5$"),
        ({"steps": 7}, "steps was 6, is 7$"),
        ({"head": "uper"}, "head was all-mlp, is uper$"),
    ):
        other = replace(interrupted, resume=True, **changed)
        with pytest.raises(RssegError, match=f"checkpoint.pt: the run to go on with differs: {told}"):
            adapt(other, plan, tmp_path / "m.safetensors")


def test_a_damaged_checkpoint_is_refused(interrupted: Request, plan, tmp_path: Path) -> None:
    checkpoint = tmp_path / "work" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(RssegError, match=r"checkpoint\.pt: .*is damaged"):
        adapt(replace(interrupted, resume=True), plan, tmp_path / "m.safetensors")


def test_an_unfinished_run_is_not_replaced_in_silence(interrupted: Request, plan, tmp_path: Path, caplog) -> None:
    with pytest.raises(Killed):
        adapt(interrupted, plan, tmp_path / "m.safetensors", track=killing_after(1))
    assert "--resume goes on from it" in caplog.text


def test_the_settings_printed_give_the_same_model_again(model, plan, tmp_path: Path) -> None:
    settings = load_bundle(model).card.settings
    assert settings["steps"] == 6
    own = {name: value for name, value in settings.items() if name not in {"steps", *vars(REQUEST.crops)}}
    again = replace(REQUEST, steps=settings["steps"], crops=fill(Crops, settings), settings=own)
    result = adapt(again, plan, tmp_path / "again.safetensors")
    assert digest_of(tmp_path / "again.safetensors") == digest_of(model)
    assert result["settings"] == settings


class TestMinutes:
    """As many steps as fit, and then exactly the model of so many steps."""

    def test_the_model_is_that_of_its_steps(self, model, plan, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr("rsseg_cli.work.typical_seconds", lambda reports, enough_s: next(reports).seconds and 60.0)
        monkeypatch.setattr("rsseg_cli.work.seen_windows", lambda domain: [])
        timed = replace(REQUEST, steps=None, minutes=(6 * 60 / SPARE + 30) / 60)
        result = adapt(timed, plan, tmp_path / "timed.safetensors")
        assert result["steps"] == 6
        assert digest_of(tmp_path / "timed.safetensors") == digest_of(model)

    def test_there_are_never_more_than_asked_for(self, model, plan, tmp_path: Path) -> None:
        result = adapt(replace(REQUEST, minutes=60), plan, tmp_path / "timed.safetensors")
        assert result["steps"] == 6
        assert digest_of(tmp_path / "timed.safetensors") == digest_of(model)

    def test_it_ends_in_time_though_steps_become_slower(self, plan, tmp_path: Path, monkeypatch, caplog) -> None:
        monkeypatch.setattr(Work, "pace", lambda work, deadline: Pace((100_000,), (0.001,)))
        started = time.monotonic()
        result = adapt(replace(REQUEST, steps=None, minutes=0.05), plan, tmp_path / "m.safetensors", started=started)
        assert 1 <= result["steps"] < 1000
        assert "steps became slower, and time is up" in caplog.text
        assert (tmp_path / "m.safetensors").is_file()

    def test_time_used_before_counts(self, plan, tmp_path: Path, monkeypatch, caplog) -> None:
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
        monkeypatch.setattr(Work, "pace", lambda work, deadline: Pace((8,), (0.001,)))
        timed = replace(REQUEST, steps=None, minutes=10, workdir=tmp_path / "work")
        with pytest.raises(Killed):
            adapt(timed, plan, tmp_path / "m.safetensors", track=killing_after(2), started=time.monotonic() - 300)
        later = replace(timed, resume=True)
        monkeypatch.setattr(Work, "pace", None)  # the first run has settled it
        assert adapt(later, plan, tmp_path / "m.safetensors", started=time.monotonic() - 301)["steps"] == 3
        assert "going on from step 2 of 8" in caplog.text


class TestInit:
    """Starting from an earlier model."""

    def test_the_same_classes_take_all_weights(self, model, plan, caplog) -> None:
        caplog.set_level(logging.INFO)
        work = prepare(replace(REQUEST, init=str(model)), plan)
        first = load_bundle(model)
        assert all(torch.equal(v, first.network.state_dict()[k]) for k, v in work.network.state_dict().items())
        assert work.origin["init_digest"] == first.digest
        assert work.stages[0].steps == 6
        assert "encoder and head loaded" in caplog.text
        assert "anew" not in caplog.text

    @pytest.mark.parametrize(
        ("settings", "found"),
        [({}, (0.998, 0.0)), ({"average": "0.9"}, (0.9, 0.0)), ({"fall": "1"}, (0.998, 1.0))],
    )
    def test_what_starts_from_weights_wanders_and_is_averaged_for_longer(self, model, plan, settings, found) -> None:
        def of(stage) -> tuple[float, float]:
            return stage.settings.average, stage.settings.fall

        request = replace(REQUEST, settings=settings)
        assert of(prepare(replace(request, init=str(model)), plan).stages[0]) == found
        adapting = replace(ADAPTING, init=str(model), settings={f"source.{k}": v for k, v in settings.items()})
        stages = prepare(replace(adapting, settings=adapting.settings | {"source.steps": 3}), plan).stages
        assert of(stages[0]) == found
        assert stages[1].settings.average == 0.99
        assert of(prepare(REQUEST, plan).stages[0]) == (0.99, 0.9)

    def test_classes_go_by_name(self, model, tmp_path: Path, caplog) -> None:
        caplog.set_level(logging.INFO)
        (tmp_path / "c.csv").write_text("value,name\n0,water\n1,Road\n2,hedge\n3,grass\n4,road\n5,road\n")
        from rsseg_cli.class_files import read_classes

        sources = (str(SCENES / "source" / "meadow_1.tif"),)
        labels = LabelOptions(str(SCENES / "source" / "meadow_1_labels.tif"), read_classes(tmp_path / "c.csv"))
        request = replace(REQUEST, sources=sources, labels=labels, init=str(model))
        work = prepare(request, make_plan(request))
        ours, theirs = (n.head.state_dict()["classifier.1.weight"] for n in (work.network, load_bundle(model).network))
        names, known = [c.casefold() for c in work.plan.domain.scheme.names], load_bundle(model).card.scheme.names
        assert names == ["water", "road", "hedge", "grass"]
        for name in ("water", "road", "grass"):
            assert torch.equal(ours[names.index(name)], theirs[known.index(name)])
        assert "hedge starts anew; building, tree, bare ground left out" in caplog.text

    def test_another_head_starts_anew(self, model, plan, caplog) -> None:
        caplog.set_level(logging.INFO)
        work = prepare(replace(REQUEST, init=str(model), head="uper"), plan)
        assert work.network.architecture.head == "uper"
        assert "encoder loaded; the head uper starts anew" in caplog.text

    def test_bands_are_those_of_the_model(self, model, tmp_path: Path, make_raster) -> None:
        with rasterio.open(SCENES / "source" / "meadow_1.tif") as scene:
            values, profile = scene.read(), {"crs": scene.crs, "transform": scene.transform}
        turned = make_raster("s/a.tif", values[::-1], photometric="minisblack", alpha="unspecified", **profile)
        with rasterio.open(turned, "r+") as scene:
            scene.descriptions = ("nir", "blue", "green", "red")
        shutil.copy(SCENES / "source" / "meadow_1_labels.tif", tmp_path / "s" / "a_labels.tif")
        found = make_plan(replace(REQUEST, sources=(str(tmp_path / "s"),), init=str(model)))
        assert found.bands == ("red", "green", "blue", "nir")
        np.testing.assert_array_equal(found.domain.pairs[0].scene.values(), values)

    def test_the_model_remembers_where_it_came_from(self, model, plan, tmp_path: Path) -> None:
        adapt(replace(REQUEST, init=str(model), steps=1), plan, tmp_path / "second.safetensors")
        assert load_bundle(tmp_path / "second.safetensors").card.provenance["init_digest"] == digest_of(model)


def test_target_labels_do_not_move_the_weights(tmp_path: Path) -> None:
    """Labels in the target folder, wrong on purpose, in every way that a source may keep them."""
    clean, poisoned = tmp_path / "clean", tmp_path / "poisoned"
    for folder in (clean, poisoned):
        (folder / "images").mkdir(parents=True)
        for scene in (SCENES / "target").glob("*.tif"):
            shutil.copy(scene, folder / "images")
    (poisoned / "labels").mkdir()
    for truth in (SCENES / "truth").glob("*.tif"):
        with rasterio.open(truth) as labels:
            wrong, profile = 5 - labels.read(), labels.profile
        stem = truth.stem.removesuffix("_labels")
        for name in (f"labels/{stem}.tif", f"images/{stem}_labels.tif", f"images/{stem}_gt.tif"):
            with rasterio.open(poisoned / name, "w", **profile) as labels:
                labels.write(wrong)
    shutil.copy(SCENES / "source" / "meadow_3_labels.gpkg", poisoned / "images" / "karst_1_labels.gpkg")
    digests = []
    for folder in (clean, poisoned):
        request = replace(ADAPTING, targets=(str(folder),))
        adapt(request, make_plan(request), tmp_path / f"{folder.name}.safetensors")
        digests.append(load_bundle(tmp_path / f"{folder.name}.safetensors"))
    assert digests[0].digest == digests[1].digest
    assert digests[0].card.normalisation == digests[1].card.normalisation


def test_the_target_decides_what_detail_is_shown_and_what_it_may_be_matched_by(plan) -> None:
    both = make_plan(replace(REQUEST, targets=(str(SCENES / "target"),), match="auto"))
    assert (plan.scale, both.scale) == (Scale(0.5, 0.5), Scale(0.5, 0.8))
    assert len(both.targets) == 3
    assert set(both.normalisations) == {"none", *MATCHES}
    own = both.domain.normalisations[0]
    assert [rule for rule, found in both.normalisations.items() if found == own] == ["none"]
    assert plan.normalisations == {"none": plan.domain.normalisations[0]}


def test_a_rehearsal_leaves_nothing_and_changes_nothing(model, plan, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = rehearse(replace(REQUEST, workdir=tmp_path / "work"), plan, time.monotonic())
    assert not list(tmp_path.iterdir())
    assert found["expected_seconds"] > 0
    assert found["expected_memory_mib"] is None or found["expected_memory_mib"] > 100
    assert found["settings"] == load_bundle(model).card.settings
    adapt(REQUEST, plan, tmp_path / "after.safetensors")
    assert digest_of(tmp_path / "after.safetensors") == digest_of(model)


def test_learning_too_fast_is_told(plan, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> Iterator:
        raise FloatingPointError("a loss is no number any more at step 3")
        yield

    monkeypatch.setattr("rsseg_cli.work.optimise", fail)
    with pytest.raises(RssegError, match="a loss is no number any more at step 3") as caught:
        adapt(REQUEST, plan, tmp_path / "m.safetensors")
    assert "--set learning_rate" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"speed": 1}, "no such setting"), ({"clip": "far"}, "not a number"), ({"precision": "x"}, "precision = x: not")],
)
def test_settings_are_typed_and_known(plan, settings: dict, match: str) -> None:
    with pytest.raises(RssegError, match=match):
        prepare(replace(REQUEST, settings=settings), plan)


def test_the_command_offers_what_there_is() -> None:
    assert set(get_args(Method)) == set(METHODS)
    assert set(get_args(Head)) == set(HEADS)


class TestCommonBands:
    """Source and target need not have the same bands."""

    @pytest.fixture
    def without_nir(self, tmp_path: Path) -> str:
        with rasterio.open(SCENES / "target" / "karst_1.tif") as scene:
            profile, values = scene.profile | {"count": 3}, scene.read((4, 3, 2))
        (tmp_path / "t").mkdir()
        with rasterio.open(tmp_path / "t" / "a.tif", "w", **profile) as scene:
            scene.write(values)
            scene.descriptions = ("blue", "green", "red")
        return str(tmp_path / "t")

    def test_those_in_common_are_learned_from(self, without_nir: str, caplog) -> None:
        found = make_plan(replace(REQUEST, targets=(without_nir,)))
        assert found.bands == ("red", "green", "blue")
        assert found.domain.pairs[0].scene.names == found.bands
        assert "source and target have red, green, blue in common; the source's nir is left out" in caplog.text

    def test_a_model_keeps_its_bands(self, without_nir: str, model) -> None:
        with pytest.raises(RssegError, match="has 3 bands"):
            make_plan(replace(REQUEST, targets=(without_nir,), init=str(model)))
