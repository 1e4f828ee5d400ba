"""Cases of what goes wrong: a row of their table, what is made for one, and what is looked at afterwards."""

import json
import os
import shlex
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window
from safetensors.torch import load_file, safe_open, save_file

from rsseg_cli.bundle import digest_of
from rsseg_cli.model_file import sealed

SIZE = 96
PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
UTM = "EPSG:32633"
LOCAL = 'LOCAL_CS["site grid",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
OLD = b"old"

Make = Callable[[Path], None]
Check = Callable[[Path], bool]


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    number: int
    name: str
    line: str  # after `rsseg`; of a shell, with $RSSEG
    code: int = 1
    says: str = ""
    make: Make | None = None
    holds: Check | None = None  # of the folder afterwards
    first: str = ""  # Python that the command's process runs before
    shell: bool = False  # a process of its own, started by a shell, for what is settled before Python begins
    skip: str = ""  # why it is not tried

    @property
    def label(self) -> str:
        return f"{self.number} {self.name}"


def raster(name: str, values: Any = None, **profile: Any) -> Make:
    """A raster in the folder; of noise in four bands where no values are given."""

    def make(folder: Path) -> None:
        write(folder / name, noise() if values is None else np.asarray(values), **profile)

    return make


def noise(bands: int = 4, height: int = SIZE, width: int = SIZE, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (bands, height, width)).astype(np.uint8)


def blocks(count: int = 3) -> np.ndarray:
    """Labels in squares of 16 pixels."""
    cells = np.random.default_rng(2).integers(1, count + 1, (1, SIZE // 16, SIZE // 16))
    return np.kron(cells, np.ones((1, 16, 16))).astype(np.uint8)


def write(path: Path, values: np.ndarray, mask: np.ndarray | None = None, **profile: Any) -> None:
    values = values if values.ndim == 3 else values[np.newaxis]
    count, height, width = values.shape
    own = {"crs": UTM, "transform": PLACE, "photometric": "minisblack", "compress": "deflate"} | profile
    own = {name: value for name, value in own.items() if value is not None}
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **(shape | own)) as file:
            file.write(values)
            if mask is not None:
                file.write_mask(mask)


def text(name: str, words: str | bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(words if isinstance(words, bytes) else words.encode()) and None


def both(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for each in makes:
            each(folder)

    return make


def cut(name: str, part: float) -> Make:
    def make(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(part * len(data))])

    return make


def spoil(name: str, at: float, by: bytes = b"\x55" * 64) -> Make:
    def make(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        start = int(at * len(data))
        data[start : start + len(by)] = by
        (folder / name).write_bytes(data)

    return make


def copied(name: str, new: str) -> Make:
    return lambda folder: shutil.copy(folder / name, folder / new) and None


def made(name: str) -> Make:
    return lambda folder: (folder / name).mkdir()


def bomb(folder: Path) -> None:
    """A square of 200,000 pixels a side, none of which is there."""
    big = {"width": 200_000, "height": 200_000, "tiled": True, "sparse_ok": True, "bigtiff": "YES", "nodata": 0}
    with rasterio.open(folder / "bomb.tif", "w", "GTiff", count=1, dtype="uint8", crs=UTM, transform=PLACE, **big):
        pass


def sparse(folder: Path) -> None:
    holes = {"tiled": True, "blockxsize": 32, "blockysize": 32, "sparse_ok": True, "nodata": 0}
    shape = {"count": 4, "height": SIZE, "width": SIZE, "dtype": "uint8", "photometric": "minisblack"}
    with rasterio.open(folder / "sparse.tif", "w", "GTiff", crs=UTM, transform=PLACE, **holes, **shape) as file:
        file.write(noise(4, 32, 32), window=Window(0, 0, 32, 32))


def corners() -> list[GroundControlPoint]:
    """Where the corners of a raster lie on the ground."""
    places = [(0, 0, 15.0, 45.0), (0, SIZE, 15.1, 45.0), (SIZE, 0, 15.0, 44.9), (SIZE, SIZE, 15.1, 44.9)]
    return [GroundControlPoint(row, col, x, y) for row, col, x, y in places]


def spiral() -> np.ndarray:
    """One region that winds through all of a mask."""
    values = np.ones((SIZE, SIZE), np.uint8)
    for ring in range(2, SIZE // 2 - 2, 4):
        values[ring, ring - 2 : SIZE - ring] = values[SIZE - ring, ring : SIZE - ring + 1] = 2
        values[ring : SIZE - ring, SIZE - ring] = values[ring + 4 : SIZE - ring, ring + 0] = 2
    return values


def model(**changed: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> Make:
    """NAME.safetensors: the model with something changed in it, and saved as if nothing were."""

    def make(folder: Path) -> None:
        for name, change in changed.items():
            tensors = load_file(folder / "model.safetensors")
            with safe_open(folder / "model.safetensors", "pt") as file:
                card = json.loads(file.metadata()["rsseg"])
            change(tensors, card)
            card["digest"] = digest_of(tensors)
            save_file(tensors, folder / f"{name}.safetensors", metadata={"rsseg": json.dumps(sealed(card))})

    return make


def with_nan(tensors: dict[str, torch.Tensor], card: dict[str, Any]) -> None:
    next(value for value in tensors.values() if value.is_floating_point()).view(-1)[0] = float("nan")


def in_half(tensors: dict[str, torch.Tensor], card: dict[str, Any]) -> None:
    tensors |= {name: value.bfloat16() if value.is_floating_point() else value for name, value in tensors.items()}


def of_other_shape(tensors: dict[str, torch.Tensor], card: dict[str, Any]) -> None:
    name = next(name for name, value in tensors.items() if value.ndim == 4)
    tensors[name] = tensors[name][:1].clone()


def evil(folder: Path) -> None:
    """Weights that write a file when they are unpickled."""

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {shlex.quote(str(folder / 'canary'))}",)

    torch.save({"weight": Code()}, folder / "evil.pth")


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "slip.zip", "w") as file:
        file.write(folder / "scene.tif", "../../slipped.tif")


def looped(folder: Path) -> None:
    (folder / "loop.tif").symlink_to("loop.tif")


def vrt(name: str, source: str) -> Make:
    band = f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">{source}'
    end = "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    return text(name, f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}">{band}{end}')


def linked(folder: Path) -> None:
    os.link(folder / "mask.tif", folder / "again.gpkg")


def layer(folder: Path) -> geopandas.GeoDataFrame:
    """The polygons of a map; its coordinate system is that of the masks."""
    found = geopandas.read_file(folder / "map.gpkg", layer="map")
    assert found.crs == UTM
    assert found.is_valid.all()
    return found


def pixels(folder: Path) -> np.ndarray:
    with rasterio.open(folder / "map.tif") as file:
        return file.read(1)


def maps_all(folder: Path) -> bool:
    return bool((pixels(folder) < 255).all())


def placed(folder: Path) -> Affine:
    with rasterio.open(folder / "map.tif") as file:
        return file.transform


def nothing_new(*names: str) -> Check:
    return lambda folder: not any((folder / name).exists() for name in names)


def is_old(name: str) -> Check:
    return lambda folder: (folder / name).read_bytes() == OLD


def are_alike(one: str, other: str) -> Check:
    return lambda folder: (folder / one).read_bytes() == (folder / other).read_bytes()
