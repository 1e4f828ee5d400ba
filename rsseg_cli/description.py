"""What rsseg understands of a file: how a raster, a series of rasters or a vector file will be read."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rsseg_cli.errors import RssegError
from rsseg_cli.labels import is_vector, split_layer
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import described_classes
from rsseg_cli.raster.masked import MaskedPixels
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import by_place, series_of
from rsseg_cli.raster.sources import is_label_name, list_scenes, open_mosaic, open_scene
from rsseg_cli.raster.tiles import block_count, blocks

BLOCK_PX = 512
# Beyond this many blocks the share of valid pixels is estimated from a regular sample of them, a smaller one of each
# date of a series.
SAMPLED_BLOCKS = 64
SAMPLED_OF_DATE = 16
# Of bands, and of files that a VRT lists, so many are shown to people.
LISTED = 12

logger = logging.getLogger(__name__)


def describe(text: str, bands: str | None = None, alpha: str = "auto") -> dict[str, Any]:
    """One raster, series (a folder of several rasters), vector file or model."""
    if text.lower().endswith(".safetensors"):
        return _describe_model(text)
    if is_vector(text):
        return _describe_vector(text)
    names = list_scenes([text])
    if len(names) > 1:
        return _describe_folder(text, names, bands, alpha)
    return _describe_scene(open_scene(text, bands, alpha))


def describe_mosaic(texts: list[str], bands: str | None = None, alpha: str = "auto") -> dict[str, Any]:
    """All rasters of several arguments as one map."""
    scene = replace(open_mosaic(list_scenes(texts), alpha), path=", ".join(texts))
    return _describe_scene(scene.select(bands))


def _describe_scene(scene: Scene) -> dict[str, Any]:
    grid = scene.grid
    measured = _measured(scene)
    return {
        "file": scene.path,
        "kind": "raster",
        "width": grid.width,
        "height": grid.height,
        "crs": _crs_name(scene),
        "gsd_m": grid.gsd_m,
        "bounds": list(grid.bounds),
        "transform": list(grid.transform[:6]),
        "north_up": grid.is_north_up,
        "date": scene.date,
        "bands": [
            {
                "name": band.name,
                "dtype": band.dtype,
                "nodata": _json_number(band.nodata),
                "scale": band.scale,
                "offset": band.offset,
                "range": found,
            }
            for band, found in zip(scene.bands, measured.ranges, strict=True)
        ],
        "valid_share": measured.every_band,
        "valid_share_of_any_band": measured.any_band,
        "is_estimate": measured.is_sample,
        "classes": described_classes(scene.path),
        "lists": scene.listed,
    }


@dataclass(frozen=True)
class _Measured:
    """What the pixels themselves say."""

    every_band: float  # share of pixels that have every band
    any_band: float  # share of pixels that have at least one
    ranges: list[list[float] | None]  # lowest and highest value of each band
    is_sample: bool  # not all pixels were read


def _measured(scene: Scene, most_blocks: int = SAMPLED_BLOCKS) -> _Measured:
    count = block_count(scene.grid, BLOCK_PX)
    sample = set(range(count))
    if count > most_blocks:  # drawn with a fixed seed: the same file is described the same way each time
        sample = set(np.random.default_rng(0).choice(count, most_blocks, replace=False).tolist())
    every = some = seen = 0
    low, high = np.full(len(scene.bands), np.inf), np.full(len(scene.bands), -np.inf)
    for number, window in enumerate(blocks(scene.grid, BLOCK_PX)):
        if number not in sample:
            continue
        values = scene.values(window)
        held = np.isfinite(values)
        every += int(held.all(axis=0).sum())
        some += int(held.any(axis=0).sum())
        seen += held[0].size
        low = np.minimum(low, np.where(held, values, np.inf).min(axis=(1, 2)))
        high = np.maximum(high, np.where(held, values, -np.inf).max(axis=(1, 2)))
    ranges = [[float(a), float(b)] if a <= b else None for a, b in zip(low, high, strict=True)]
    return _Measured(every / seen, some / seen, ranges, len(sample) < count)


def _describe_folder(text: str, names: list[str], bands: str | None, alpha: str) -> dict[str, Any]:
    scenes: list[Scene] = []
    errors: list[RssegError] = []
    for name in names:
        try:
            scenes.append(open_scene(name, bands, alpha))
        except RssegError as error:
            errors.append(error)
    if not scenes:
        raise errors[0]
    found = _series_among(text, scenes)
    first = scenes[0]
    return {"errors": [error.as_json() for error in errors], "file": text} | (
        found
        or {
            "kind": "folder",
            "same_grid": all(scene.grid == first.grid for scene in scenes),
            "same_bands": all(scene.names == first.names for scene in scenes),
            "crs": _crs_name(first),
            "gsd_m": first.grid.gsd_m,
            "scenes": [_listed(scene) for scene in sorted(scenes, key=lambda scene: (scene.date or "", scene.path))],
        }
    )


def _listed(scene: Scene) -> dict[str, Any]:
    return {
        "file": scene.path,
        "date": scene.date,
        "width": scene.grid.width,
        "height": scene.grid.height,
        "bands": list(scene.names),
    }


def _series_among(text: str, scenes: list[Scene]) -> dict[str, Any] | None:
    """The time line of a folder; None where its rasters, label maps apart, are no series."""
    images = [scene for scene in scenes if not is_label_name(scene.path)]
    if len({scene.date for scene in images}) < 2 or len(by_place(images)) > 1:
        return None
    try:
        series = series_of(images, text)
    except RssegError as problem:
        logger.info("%s: is no series: %s", text, problem.problem)
        return None
    grid = series.grid
    shifts = dict(zip(series.dates, np.round(series.shifts[:, ::-1].astype(float), 2).tolist(), strict=True))
    return {
        "kind": "series",
        "same_grid": all(scene.grid == grid for scene in images),
        "same_bands": all(scene.names == series.names for scene in images),
        "crs": _crs_name(series.scenes[0]),
        "gsd_m": grid.gsd_m,
        "width": grid.width,
        "height": grid.height,
        "bands": list(series.names),
        "days": series.days.tolist(),
        "labels": [scene.path for scene in scenes if scene not in images],
        "scenes": [
            _dated(scene, grid) | {"shift_px": shifts[scene.date or ""]}
            for scene in sorted(images, key=lambda scene: (scene.date or "", scene.path))
        ],
    }


def _dated(scene: Scene, grid: Grid) -> dict[str, Any]:
    """A file of a series: what it shows, and where its first pixel lies on the common grid."""
    measured, clouds = _measured(scene, SAMPLED_OF_DATE), None
    if isinstance(scene.pixels, MaskedPixels):
        bare = _measured(replace(scene, pixels=scene.pixels.pixels), SAMPLED_OF_DATE)
        clouds = bare.every_band - measured.every_band
    col, row = (round(float(at[0]), 4) + 0.0 for at in grid.pixels_of(scene.grid, np.zeros(1), np.zeros(1)))
    return _listed(scene) | {
        "valid_share": measured.every_band,
        "is_estimate": measured.is_sample,
        "cloud_share": clouds,
        "offset_px": [col, row],
        "resampled": grid.offset_of(scene.grid) is None,
    }


def _describe_vector(text: str) -> dict[str, Any]:
    from rsseg_cli.vector.reading import list_layers

    path, layer = split_layer(text)
    return {"file": text, "kind": "vector", "layers": list_layers(path, layer)}


def _describe_model(path: str) -> dict[str, Any]:
    from rsseg_cli.model_file import read_card

    return {"file": path, "kind": "model", **read_card(path)}


def _crs_name(scene: Scene) -> str | None:
    crs = scene.grid.crs
    if crs is None:
        return None
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()


def _json_number(value: float | None) -> float | str | None:
    """JSON has no NaN."""
    return str(value) if value is not None and not np.isfinite(value) else value


def lines_of(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = {"raster": _scene_lines, "vector": _vector_lines, "model": _model_lines, "series": _series_lines}
    return lines.get(found["kind"], _folder_lines)(found)


def _scene_lines(found: dict[str, Any]) -> list[str]:
    west, south, east, north = found["bounds"]
    turned = "" if found["north_up"] or found["crs"] is None else ", not north-up (kept as it is)"
    lines = [
        found["file"],
        f"  size    {found['width']} x {found['height']} pixels{_ground(found['gsd_m'])}{turned}",
        f"  crs     {_short(found['crs'])}",
        f"  bounds  {west:.10g} {south:.10g} {east:.10g} {north:.10g}",
        f"  date    {found['date'] or 'not known'}",
        f"  valid   {_valid_share(found)}",
    ]
    seen = "in the sample " if found["is_estimate"] else ""
    lines += [f"  band    {number} {_band_line(band, seen)}" for number, band in enumerate(found["bands"][:LISTED], 1)]
    if len(found["bands"]) > LISTED:
        lines.append(f"  band    ... and {len(found['bands']) - LISTED} more (--json lists all)")
    lines += [f"  lists   {file}" for file in found["lists"][:LISTED]]
    if len(found["lists"]) > LISTED:
        lines.append(f"  lists   ... and {len(found['lists']) - LISTED} more (--json lists all)")
    return lines + [f"  class   {c['id']} {c['name']} {c['color']}" for c in found["classes"] or []]


def _valid_share(found: dict[str, Any]) -> str:
    every, some = found["valid_share"], found["valid_share_of_any_band"]
    if found["is_estimate"]:
        return f"about {100 * every:.0f} % of the pixels, by a sample"
    if every == some:
        return f"{100 * every:.2f} % of the pixels"
    return f"{100 * every:.2f} % of the pixels have every band, {100 * some:.2f} % at least one"


def _band_line(band: dict[str, Any], seen: str) -> str:
    low_high = f"{seen}nothing but nodata"
    if band["range"] is not None:
        low_high = f"{seen}{band['range'][0]:.6g} to {band['range'][1]:.6g}"
    nodata = "" if band["nodata"] is None else f", nodata {band['nodata']}"
    scaled = (band["scale"], band["offset"]) != (1.0, 0.0)
    scale = f", stored value * {band['scale']:g} + {band['offset']:g}" if scaled else ""
    return f"{band['name']}: {band['dtype']}, {low_high}{nodata}{scale}"


def _folder_lines(found: dict[str, Any]) -> list[str]:
    alike = "one grid" if found["same_grid"] else "different grids"
    bands = "the same bands" if found["same_bands"] else "different bands"
    return [
        found["file"],
        f"  a folder, no series of one place: {len(found['scenes'])} rasters, {alike}, {bands}",
        f"  crs     {_short(found['crs'])}{_ground(found['gsd_m'])}",
        *(
            f"  {scene['date'] or '-':<10}  {Path(scene['file']).name}  {scene['width']} x {scene['height']}, "
            f"{', '.join(scene['bands'][:8])}"
            for scene in found["scenes"]
        ),
    ]


def _series_lines(found: dict[str, Any]) -> list[str]:
    days = found["days"]
    lines = [
        found["file"],
        f"  a series of one place: {len(days)} dates in {days[-1]} days",
        f"  size    {found['width']} x {found['height']} pixels{_ground(found['gsd_m'])}, as far as any date reaches",
        f"  crs     {_short(found['crs'])}",
        f"  bands   {', '.join(found['bands'][:12])}",
        "  date        valid  clouds  first pixel at  file",
        *(_date_line(scene) for scene in found["scenes"]),
    ]
    return lines + ([f"  labels  {len(found['labels'])} rasters"] if found["labels"] else [])


def _date_line(scene: dict[str, Any]) -> str:
    valid = f"{'~' if scene['is_estimate'] else ''}{100 * scene['valid_share']:.0f} %"
    clouds = "-" if scene["cloud_share"] is None else f"{100 * scene['cloud_share']:.0f} %"
    place = ", ".join(f"{at:.4g}" for at in scene["offset_px"])
    moved = "  resampled" if scene["resampled"] else ""
    if any(scene["shift_px"]):
        moved += "  still {:.1f}, {:.1f} off".format(*scene["shift_px"])
    return f"  {scene['date']:<10}  {valid:>5}  {clouds:>6}  {place:>14}  {Path(scene['file']).name}{moved}"


def _vector_lines(found: dict[str, Any]) -> list[str]:
    lines = [found["file"]]
    for layer in found["layers"]:
        lines.append(f"  layer   {layer['name']}: {layer['features']} {layer['geometry']}, {_short(layer['crs'])}")
        lines.append(f"  fields  {', '.join(layer['fields']) or 'none'}")
    return lines


def _model_lines(found: dict[str, Any]) -> list[str]:
    architecture, scores = found["architecture"], found["scores"]
    miou = scores.get("source_validation_miou")
    return [
        found["file"],
        f"  model   {found['method']}, encoder {architecture['encoder']}, made by rsseg {found['rsseg']}",
        f"  bands   {', '.join(architecture['bands'])}; {found['normalisation']['rule']} normalisation",
        f"  pixels {_ground(found['gsd_m']) or ' of no known size'}",
        f"  score   mIoU {miou:.4f} on source ground held back from training" if miou is not None else "  score   none",
        *(f"  chosen  {line}" for line in _chosen(scores.get("selected"))),
        f"  sure    {_sure(found.get('temperature', 1.0))}",
        *(f"  class   {c['id']} {c['name']} {c['color']}" for c in found["classes"]),
        f"  weights sha256 {found['digest']}",
    ]


def _chosen(selected: dict[str, Any] | None) -> list[str]:
    """What of an adapted model was delivered, by the judgement without labels."""
    if selected is None:
        return []
    return [
        f"{selected['verdict']}, step {selected['step']}, bands matched: {selected['match']}; score "
        f"{selected['score']:.3f} on target ground held back, source-only {selected['source_only_score']:.3f}"
    ]


def _sure(temperature: float) -> str:
    if temperature == 1:
        return "as sure as the network is: confidence is not corrected"
    return f"confidence is corrected by a temperature of {temperature:.3g}"


def _ground(gsd_m: float | None) -> str:
    if gsd_m is None:
        return ""
    return f" of {gsd_m / 1000:.4g} km" if gsd_m >= 10_000 else f" of {gsd_m:.4g} m"


def _short(crs: str | None) -> str:
    if crs is None:
        return "none: sizes and areas are in pixels"
    return crs if len(crs) < 60 else f"custom: {crs.split(chr(34))[1]}"
