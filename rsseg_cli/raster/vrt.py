"""What a VRT may make GDAL read. It lists other files, and can ask for more: bytes of any file as pixels, or Python.

Whatever the person could name may be listed. Raw bytes come from the VRT's own folder alone, and no code is run,
in VRTs that it lists too. GDAL takes names of elements in any case, and attributes for elements: so does this.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import rasterio
from rasterio.errors import RasterioError

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.files import Stamp, is_local, refuse_special

START = "<VRTDataset"
PREFIX = "vrt://"
# Where GDAL looks for it.
HEAD_BYTES = 1 << 16
NAMING = ("sourcefilename", "sourcedataset", "dempath")
RAW_BAND = "vrtrawrasterband"
# Each file in a mosaic on a server would be asked by itself; one that is called .vrt is.
ON_A_SERVER = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)")
# Beside elements and comments an XML file can hold what two readers understand differently.
ODD_XML = re.compile(r"<!(?!--|\[CDATA\[)|<\?(?!xml\s)")


def is_called_vrt(path: str) -> bool:
    return re.search(r"\.vrt$|^\s*<VRTDataset|^vrt://", path, re.IGNORECASE) is not None


def holds_vrt(path: str) -> bool:
    """Whether a local file is one, whatever it is called."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return START.encode() in file.read(HEAD_BYTES)


@lru_cache(maxsize=64)  # a scene is opened for every window
def check_vrt(path: str, stamps: tuple[Stamp, ...]) -> None:
    """Refuses a VRT, as it was when it had the stamps, that reads raw bytes elsewhere or runs code."""
    waiting, seen = [path], set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _listed(path, name)


def _listed(path: str, name: str) -> list[str]:
    """What one VRT lists, checked; nothing where it is another raster."""
    if name.casefold().startswith(PREFIX):
        return [name[len(PREFIX) :].partition("?")[0]]
    text = _text(path, name)
    if text is None:
        return []
    folder = "" if START in name else os.path.dirname(name)  # noqa: PTH120 - GDAL's own paths too
    root = _parsed(path, text)
    if _asks_for_python(root):
        raise _refusal(path, name, "computes its pixels by Python code, and rsseg runs no code that comes with data")
    sources = list(_sources(root))
    if RAW_BAND in unescape(text).casefold():
        for source, flag in sources:
            if not _is_within(folder, source, flag):
                raise _refusal(path, name, f"reads the bytes of {source} as pixels, a file outside its own folder")
    return [place for source, flag in sources for place in _places(folder, source, flag)]


def _text(path: str, name: str) -> str | None:
    """The XML of a VRT; None for anything else."""
    if START in name:
        return name
    if is_local(name):
        refuse_special(name, path)
        return Path(name).read_bytes().decode("utf-8", "replace") if holds_vrt(name) else None
    if ON_A_SERVER.search(name) and not is_called_vrt(name):
        return None
    try:
        with rasterio.open(name, driver="VRT") as dataset:
            found: str | None = dataset.tags(ns="xml:VRT").get("xml:VRT")
            return found
    except RasterioError:
        return None


def _parsed(path: str, text: str) -> ElementTree.Element:
    try:
        if ODD_XML.search(text):
            raise ValueError("it declares entities or instructions")
        return ElementTree.fromstring(text.strip("\0 \n\r\t\ufeff"))  # noqa: S314 - without entities
    except (ValueError, ElementTree.ParseError) as problem:
        raise RssegError(
            f"{path}: is no VRT that can be read: {problem}", "build it again with gdalbuildvrt", file=path
        ) from problem


def _values(root: ElementTree.Element) -> Iterator[tuple[str, str, str | None]]:
    """(name, value, whether it is relative to the VRT: 0, 1 or None) of every element and attribute."""
    for element in root.iter():
        attributes = {name.casefold(): value for name, value in element.attrib.items()}
        yield element.tag.casefold(), (element.text or "").strip(), attributes.get("relativetovrt")
        for name, value in attributes.items():
            yield name, value, None


def _sources(root: ElementTree.Element) -> Iterator[tuple[str, str | None]]:
    return ((value, flag) for name, value, flag in _values(root) if name in NAMING and value)


def _asks_for_python(root: ElementTree.Element) -> bool:
    return any(name == "pixelfunctionlanguage" and value.casefold() == "python" for name, value, _ in _values(root))


def _is_relative(source: str) -> bool:
    return START not in source and is_local(source) and not Path(source).is_absolute()


def _is_within(folder: str, source: str, flag: str | None) -> bool:
    if flag == "0" or not _is_relative(source) or os.pardir in Path(source).parts:
        return False
    # Symbolic links lead elsewhere too.
    return not is_local(folder) or Path(folder, source).resolve().is_relative_to(Path(folder).resolve())


def _places(folder: str, source: str, flag: str | None) -> list[str]:
    """Where GDAL may look for what is listed."""
    if not _is_relative(source):
        return [source]
    beside = os.path.join(folder, source)  # noqa: PTH118 - GDAL's own paths too
    return [beside] if flag == "1" else [beside, source]


def _refusal(path: str, name: str, what: str) -> RssegError:
    whose = path if name == path else f"{path}: lists {name[:200]}, which"
    colon = ":" if name == path else ""
    return RssegError(
        f"{whose}{colon} {what}",
        "if you trust it, make a GeoTIFF of it with GDAL itself: gdal_translate IN.vrt OUT.tif",
        file=path,
    )
