"""What a model's file says of itself, read without torch: errors in it are found before anything slow begins."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rsseg_cli.errors import RssegError
from rsseg_cli.memory import is_out_of_memory

FORMAT = 1
KEY = "rsseg"
SEAL = "seal"
# What safetensors raises: the last where a file cannot be opened or mapped for PyTorch.
READING = (SafetensorError, OSError, RuntimeError)


def read_card(path: str | Path) -> dict[str, Any]:
    """The header alone; no weights are read."""
    with open_model_file(str(path), "np") as file:
        return header_of(str(path), file.metadata())


def open_model_file(path: str, framework: str) -> Any:
    """The file, if it is a whole one of its kind; its tensors come as those of the framework, `pt` or `np`."""
    if not Path(path).is_file():
        problem = "is no file" if Path(path).exists() else "no such file"
        raise refusal(path, problem, "check the name; models end in .safetensors")
    try:
        return safe_open(path, framework)
    except READING as problem:
        if is_out_of_memory(problem):
            raise
        raise refusal(
            path,
            f"is no rsseg model, or is damaged: {problem}",
            "models are the .safetensors files that `rsseg adapt` writes",
        ) from problem


def header_of(path: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The JSON that a model carries, of a format we know and with what is asked of it before it is loaded."""
    text = (metadata or {}).get(KEY)
    if text is None:
        raise refusal(
            path,
            "holds weights, but is no rsseg model",
            "give weights of a backbone with --encoder-weights; models come from `rsseg adapt`",
        )
    try:
        header: dict[str, Any] = json.loads(text)
        if header.get("format", 0) > FORMAT:
            raise refusal(path, f"was made by a newer rsseg ({header.get('rsseg')})", "update: pip install -U rsseg")
        if header.get(SEAL) not in (None, sealed(header)[SEAL]):  # earlier models have none
            raise refusal(
                path, "its description is not the one it was saved with: the file is damaged", "copy it again"
            )
        bands, gsd_m = header["architecture"]["bands"], header["gsd_m"]
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise incomplete(path, problem) from problem
    if not bands or not all(isinstance(band, str) for band in bands) or not isinstance(gsd_m, float | int | None):
        raise incomplete(path, "its bands or its size on the ground")
    return header


def sealed(header: Mapping[str, Any]) -> dict[str, Any]:
    """With a digest of all that it says: a wrong digit of the normalisation maps as readily as a right one."""
    said = {key: value for key, value in header.items() if key != SEAL}
    return said | {SEAL: hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}


def incomplete(path: str, problem: object) -> RssegError:
    return refusal(path, f"its description is incomplete: {problem}", "train it again")


def refusal(path: str | Path, problem: str, hint: str) -> RssegError:
    return RssegError(f"{path}: {problem}", hint, file=str(path))
