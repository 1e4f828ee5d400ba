"""Makes polygon layers of label maps.

masks -> one label map -> regions -> fewer regions -> smooth lines -> what is known of them -> files
"""

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rsseg_cli.classes import ClassScheme
from rsseg_cli.environment import to_a_reader
from rsseg_cli.polygon_job import Job, Request, Target, prepared
from rsseg_cli.progress import Track, untracked
from rsseg_cli.vector.coverage import Coverage, chosen
from rsseg_cli.vector.masks import Layer, Masks, Origins
from rsseg_cli.vector.merging import merged
from rsseg_cli.vector.table import Features, attributes, features_of, projected, to_frame

if TYPE_CHECKING:
    import geopandas
    import pyarrow  # type: ignore[import-untyped]
    from xarray import DataArray

Places = str | Path | Sequence[str | Path]

# Polygons of fewer pixels are specks; where they are many, the person may want to know what merges them.
SPECK_PIXELS = 4
MANY_SPECKS = 0.2

logger = logging.getLogger(__name__)


def vectorize(
    mask: "Places | DataArray",
    output: str | Path | None = None,
    *,
    exact: bool = False,
    classes: str | Path | Sequence[str] | None = None,
    min_area: str | float | None = None,
    fill_holes: float = 0.0,
    simplify: float = 0.0,
    regularize: str | Sequence[str] | None = None,
    confidence: str | Path | None = None,
    remap: str | Path | None = None,
    layer: str | None = None,
    crs: str | None = None,
    append: bool = False,
    overwrite: bool = False,
    track: Track = untracked,
) -> "geopandas.GeoDataFrame | Path":
    """Makes polygons of label maps; the keywords are the options of `rsseg vectorize`.

    A file of `output` is written as the command writes it, and its path is returned; without one the polygons are, as a
    GeoDataFrame. The mask may be a georeferenced DataArray of class numbers too, as `segment` gives it.

        from rsseg_cli import vectorize

        buildings = vectorize("map.tif", classes="building", min_area=20)
        vectorize("map.tif", "map.gpkg", simplify=2)
    """
    request = Request(
        masks=(),
        output=Path(output) if output is not None else None,
        exact=exact,
        classes=_text(classes),
        min_area=_text(min_area),
        fill_holes=fill_holes,
        simplify=simplify,
        regularize=_text(regularize),
        confidence=_text(confidence),
        remap=_text(remap),
        layer=layer,
        crs=crs,
        append=append,
        overwrite=overwrite,
    )
    if isinstance(mask, str | Path | Sequence):
        names = [mask] if isinstance(mask, str | Path) else mask
        job = prepared(replace(request, masks=tuple(map(str, names))), to_files=output is not None)
    else:
        job = prepared(request, _held(mask), to_files=output is not None)
    if output is None:
        *_, draft = track(drafts(job), "polygons", len(_steps(job)) + 1)
        features = _features(job, draft)
        return to_frame(projected(features, job.crs) if job.crs else features)
    carried_out(job, track)
    return Path(output)


def _held(array: "DataArray") -> Masks:
    from rsseg_cli.raster.arrays import labels_of

    labels = labels_of(array)
    return Masks(labels, Origins((Layer(labels, labels.grid.window),)), (labels.path,))


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)


def make_layers(request: Request, started: float, track: Track = untracked) -> dict[str, Any]:
    """Writes what was asked for, and gives what `--json` prints."""
    return {**carried_out(prepared(request), track), "seconds": time.perf_counter() - started}


def carried_out(job: Job, track: Track = untracked) -> dict[str, Any]:
    """Writes the polygons of a job, and says what was written."""

    def steps() -> Iterator[Draft | dict[str, Any]]:
        for draft in drafts(job):
            yield draft
        yield write(job, draft)

    *_, written = track(steps(), "polygons", len(_steps(job)) + 2)
    assert isinstance(written, dict)
    return written


@dataclass(frozen=True)
class Draft:
    """Polygons on their way."""

    coverage: Coverage
    pixels: Coverage  # the same, as long as lines were edges of pixels
    columns: "Mapping[str, pyarrow.Array]" = field(default_factory=dict)


Step = Callable[[Job, Draft], Draft]


def drafts(job: Job) -> Iterator[Draft]:
    """The polygons of all masks and what is known of them, step by step; the last draft is the finished one."""
    coverage = merged(job.labels, job.least)
    draft = Draft(coverage, coverage)
    yield draft
    for step in _steps(job):
        draft = step(job, draft)
        yield draft
    _say_specks(job, draft)


def _steps(job: Job) -> list[Step]:
    request = job.request
    wanted = (
        (_with_zones, len(job.masks.paths) > 1 or request.confidence is not None or job.columns is not None),
        (_smoothed, not request.exact),
        (_simplified, request.simplify > 0),
        (_squared, len(job.squared) > 0),
        (_with_attributes, True),
        (_chosen, job.shown is not None),
    )
    return [step for step, is_wanted in wanted if is_wanted]


def _with_zones(job: Job, draft: Draft) -> Draft:
    """What lies under the polygons, while lines are edges of pixels."""
    import pyarrow

    from rsseg_cli.vector.zones import confidence_columns, source_column

    columns = dict(draft.columns)
    if len(job.masks.paths) > 1:
        columns["source"] = source_column(draft.pixels, job.masks)
    if job.request.confidence is not None:
        found = confidence_columns(draft.pixels, job.request.confidence)
        columns |= {name: pyarrow.array(values, from_pandas=True) for name, values in found.items()}
    if job.columns is not None:
        columns |= job.columns(draft.pixels)
    return replace(draft, columns=columns)


def _smoothed(job: Job, draft: Draft) -> Draft:
    from rsseg_cli.vector.smoothing import smoothed

    return replace(draft, coverage=smoothed(draft.coverage))


def _simplified(job: Job, draft: Draft) -> Draft:
    from rsseg_cli.vector.simplify import simplified

    return replace(draft, coverage=simplified(draft.coverage, job.request.simplify))


def _squared(job: Job, draft: Draft) -> Draft:
    from rsseg_cli.vector.regularize import regularize

    coverage, left = regularize(draft.coverage, job.squared)
    if left:
        logger.info(
            "%d of %d polygons of %s were not squared: right angles would not fit them, or would touch a neighbour",
            left,
            np.count_nonzero(np.isin(coverage.ids, list(job.squared))),
            job.request.regularize,
        )
    return replace(draft, coverage=coverage)


def _with_attributes(job: Job, draft: Draft) -> Draft:
    return replace(draft, columns=attributes(draft.coverage, job.labels.scheme, draft.pixels) | dict(draft.columns))


def _chosen(job: Job, draft: Draft) -> Draft:
    """Last of all, so that borders are the same whatever is chosen."""
    assert job.shown is not None
    regions = np.flatnonzero(np.isin(draft.coverage.ids, list(job.shown)))
    columns = {name: values.take(regions) for name, values in draft.columns.items()}
    return Draft(chosen(draft.coverage, regions), chosen(draft.pixels, regions), columns)


def _say_specks(job: Job, draft: Draft) -> None:
    specks = np.count_nonzero(draft.pixels.pixels < SPECK_PIXELS)
    if specks > MANY_SPECKS * len(draft.pixels) and not job.least.regions.any() and not job.request.exact:
        pixel = float(job.labels.grid.row_areas()[job.labels.grid.height // 2])
        logger.info(
            "%d of %d polygons have fewer than %d pixels, and lose a part of their area when lines are smoothed: "
            "--min-area %.3g merges those below ten pixels into their neighbours, --exact leaves all as they are",
            specks,
            len(draft.pixels),
            SPECK_PIXELS,
            10 * pixel,
        )


def _features(job: Job, draft: Draft) -> Features:
    # In another CRS, neighbours fit only with all the points where they meet.
    stays = job.crs is None and not job.form.is_lonlat
    return features_of(draft.coverage, draft.columns, corners_only=job.request.exact and stays)


def write(job: Job, draft: Draft) -> dict[str, Any]:
    """To the files of the job, or to stdout; what was written."""
    features = _features(job, draft)
    if not features.rows:
        logger.warning("no polygon is written: %s", _why_nothing(job))
    if not job.targets:
        return {"output": None, "layer": None, **_streamed(job, features)}
    if job.request.split is None:
        return _written(job, job.targets[0], features)
    from rsseg_cli.vector.clip import split

    districts = [target.district for target in job.targets if target.district is not None]
    parts = zip(job.targets, split(features, districts, job.labels.grid), strict=True)
    found = [_written(job, target, part) for target, part in parts if part.rows]
    if not found:
        logger.warning("no district holds a polygon: no file was written")
    return {
        "output": str(job.request.output or Path()),
        "layer": job.request.layer,
        "polygons": sum(entry["polygons"] for entry in found),
        "classes": _summed(entry["classes"] for entry in found),
        "districts": found,
    }


def _why_nothing(job: Job) -> str:
    if job.least.regions.any():
        return "--min-area leaves none" + (" of these classes" if job.shown else "")
    return "none of these classes occurs" if job.shown else "nothing is labelled"


def _summed(parts: Iterable[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    total: dict[str, dict[str, Any]] = {}
    for classes in parts:
        for name, figures in classes.items():
            before = total.get(name, {})
            total[name] = {key: before.get(key, 0) + value for key, value in figures.items()}
    return total


def _streamed(job: Job, features: Features) -> dict[str, Any]:
    from rsseg_cli.vector.geojson import stream

    tally = _Tally(job.scheme)
    with to_a_reader():
        stream(tally.watching(features), sys.stdout.buffer)
    return tally.summary()


def _written(job: Job, target: Target, features: Features) -> dict[str, Any]:
    from rsseg_cli.vector.write import write_features

    tally, request = _Tally(job.scheme), job.request
    features = tally.watching(features)
    write_features(
        target.path,
        projected(features, job.crs) if job.crs else features,
        job.scheme,
        target.layer,
        kind=request.format,
        append=request.append,
        overwrite=request.overwrite,
        inputs=job.inputs,
    )
    district = {"district": target.district.name} if target.district else {}
    return {**district, "output": str(target.path), "layer": target.layer, **tally.summary()}


@dataclass
class _Tally:
    """What goes by while features are written."""

    scheme: ClassScheme
    unit: str = "m2"
    polygons: dict[int, int] = field(default_factory=dict)  # by class number
    areas: dict[int, float] = field(default_factory=dict)

    def watching(self, features: Features) -> Features:
        return replace(features, batches=lambda: self._watched(features))

    def _watched(self, features: Features) -> "Iterator[pyarrow.RecordBatch]":
        column = next(name for name in features.schema.names if name.startswith("area_"))
        self.unit = column.removeprefix("area_")
        self.polygons, self.areas = defaultdict(int), defaultdict(float)
        for batch in features.batches():
            numbers, place = np.unique(batch["class_id"].to_numpy(), return_inverse=True)
            areas = np.bincount(place, batch[column].to_numpy(), len(numbers))
            for number, count, area in zip(numbers, np.bincount(place, minlength=len(numbers)), areas, strict=True):
                self.polygons[int(number)] += int(count)
                self.areas[int(number)] += float(area)
            yield batch

    def summary(self) -> dict[str, Any]:
        classes = {
            c.name: {"polygons": self.polygons.get(number, 0), f"area_{self.unit}": self.areas.get(number, 0.0)}
            for number, c in zip(self.scheme.numbers, self.scheme.classes, strict=True)
        }
        return {"polygons": sum(self.polygons.values()), "classes": classes}
