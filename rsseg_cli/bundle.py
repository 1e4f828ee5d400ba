"""Bundle: everything `segment` needs, in one .safetensors file that runs no code when opened.

Tensors are the file's body; the header's metadata carries one JSON text: architecture, classes, bands,
normalisation, ground size, method, settings, provenance, scores, temperature, and a hash of the tensors.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rsseg_models.errors import ModelError
from rsseg_models.kept import Kept, rebuild
from rsseg_models.network import Architecture
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from rsseg_cli import __version__
from rsseg_cli.classes import ClassScheme
from rsseg_cli.delivery import REASON_CHARACTERS, deliver, failure
from rsseg_cli.errors import RssegError
from rsseg_cli.model_file import FORMAT, KEY, READING, header_of, incomplete, open_model_file, refusal, sealed
from rsseg_cli.normalisation import Normalisation


@dataclass(frozen=True)
class Card:
    """What a model is, apart from its weights."""

    architecture: Architecture
    scheme: ClassScheme
    normalisation: Normalisation  # of the domain that the model is for
    gsd_m: float | None  # None: the images it learned from had no size on the ground
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)  # what it was made from, when, by which version
    scores: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0  # logits are divided by it before they become probabilities

    @property
    def bands(self) -> tuple[str, ...]:
        return self.architecture.bands

    @property
    def known(self) -> tuple[Normalisation, ...]:
        """Values that it has learned from: those it is for, and those of the target where it was seen as the source."""
        target = self.provenance.get("normalisation", {}).get("target")
        return (self.normalisation, *([Normalisation.from_json(target)] if target else []))


@dataclass(frozen=True, eq=False)
class Bundle:
    """A card and its network."""

    card: Card
    network: Kept
    digest: str  # of the tensors; names the model in the tags of the maps it made


def save_bundle(path: Path, card: Card, network: Kept, *, overwrite: bool = False, inputs: Iterable[str] = ()) -> str:
    """Writes and re-reads the file; gives the digest of the weights."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    _refuse_no_numbers(path, tensors)
    digest = digest_of(tensors)
    said = json.dumps({"format": FORMAT, "rsseg": __version__, "digest": digest, **_card_to_json(card)})
    text = json.dumps(sealed(json.loads(said)))
    size = sum(value.numel() * value.element_size() for value in tensors.values()) + len(text)

    def verify(finished: Path) -> None:
        try:
            found = load_bundle(finished).digest
        except RssegError:  # in words of a file that nobody has seen yet
            found = None
        if found != digest:
            raise RssegError(
                f"{path}: came out damaged", "is the disk failing? Run again", file=str(path), kind="output"
            )

    with deliver(path, verify, overwrite=overwrite, inputs=inputs, expected_bytes=size) as folder:
        try:
            save_file(tensors, folder / path.name, metadata={KEY: text})
        except (OSError, SafetensorError) as problem:
            raise failure(path, problem) from problem
    return digest


def load_bundle(path: str | Path) -> Bundle:
    """The model in a file, checked: readable, ours, of a format we know, complete, unaltered, finite."""
    header, tensors = _read(str(path))
    card = _card_from_json(header, str(path))
    if digest_of(tensors) != header["digest"]:
        raise refusal(path, "the weights are not those it was saved with: the file is damaged", "copy it again")
    _refuse_no_numbers(path, tensors)
    with in_words(str(path)):
        network = rebuild(card.architecture)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as problem:
        said = " ".join(str(problem).split())[:REASON_CHARACTERS]
        raise refusal(path, f"its weights do not fit its own description: {said}", "train it again") from problem
    return Bundle(card, network.eval(), header["digest"])


def _refuse_no_numbers(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    if bad := [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise refusal(path, f"holds weights that are no numbers ({bad[0]})", "train it again; this one cannot map")


@contextmanager
def in_words(file: str | None = None) -> Iterator[None]:
    """What networks say, as what a person can put right."""
    try:
        yield
    except ModelError as problem:
        raise RssegError(
            f"{file}: {problem.problem}" if file else problem.problem, problem.hint, file=file
        ) from problem


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return found.hexdigest()


def _read(path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with open_model_file(path, "pt") as file:
        header = header_of(path, file.metadata())
        try:
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except READING as problem:
            raise refusal(path, f"cannot be read: {problem}", "copy it again") from problem


def _card_to_json(card: Card) -> dict[str, Any]:
    return {
        "architecture": card.architecture.as_json(),
        "classes": card.scheme.to_json(),
        "normalisation": card.normalisation.to_json(),
        "gsd_m": card.gsd_m,
        "method": card.method,
        "settings": dict(card.settings),
        "provenance": dict(card.provenance),
        "scores": dict(card.scores),
        "temperature": card.temperature,
    }


def _card_from_json(header: Mapping[str, Any], path: str) -> Card:
    try:
        return Card(
            Architecture.from_json(header["architecture"]),
            ClassScheme.from_json(header["classes"]),
            Normalisation.from_json(header["normalisation"]),
            header["gsd_m"],
            header["method"],
            header["settings"],
            header["provenance"],
            header["scores"],
            _temperature(header.get("temperature", 1.0)),  # earlier models have none
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise incomplete(path, problem) from problem


def _temperature(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"temperature {value}")
    return value
