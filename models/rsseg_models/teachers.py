"""Teachers: frozen vision transformers of the optional package `transformers`, which see three channels.

They are used while a student learns, and are no part of what is kept. What they are given is a composite of the bands,
filled up to whole tokens; what they say is the maps of four depths.
"""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.errors import ModelError
from rsseg_models.ktda_modules import shown
from rsseg_models.loading import at_hand_or_fetched
from rsseg_models.transformers_encoder import import_transformers, unavailable

DEPTHS = 4
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of a normal distribution the 2nd and the 98th percentile lie this many standard deviations apart.
SPREAD = 4.107
# What a folder may lack: of no use here, or only while such a model is trained.
SPARE = ("mask_token", "pooler", "classifier")
FINAL_NORMS = ("layernorm", "norm", "post_layernorm")
FETCH = "hf download facebook/dinov2-small --local-dir dinov2-small"


@dataclass(frozen=True)
class Composite:
    """Three channels from 0 to 1 of standardised bands: factors (3, N) and offsets (3,)."""

    rule: str
    factors: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]

    def __call__(self, bands: Tensor) -> Tensor:
        factors, offsets = (bands.new_tensor(part) for part in (self.factors, self.offsets))
        return (torch.einsum("cn,bnhw->bchw", factors, bands) + offsets[:, None, None]).clamp(0, 1)


def of_colours(names: Sequence[str], colours: Sequence[str], factor: float, offset: float) -> Composite:
    """Three bands by name, each stretched alike."""
    rows = tuple(tuple(factor * (name == colour) for name in names) for colour in colours)
    return Composite(", ".join(colours), rows, (offset,) * len(colours))


def of_components(mean: Sequence[float], covariance: Sequence[Sequence[float]]) -> Composite:
    """The three directions in which bands vary most, from the 2nd to the 98th percentile; of fewer, some again."""
    centre, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64)
    variances, directions = torch.linalg.eigh(spread)
    rows = []
    for number in range(len(IMAGENET[0])):
        place = len(variances) - 1 - number % len(variances)
        # Either sign would do; a run and its repetition must have the same.
        direction = directions[:, place] * (1 if directions[:, place].sum() >= 0 else -1)
        rows.append(direction / (SPREAD * variances[place].clamp(min=1e-6).sqrt()))
    factors = torch.stack(rows)
    offsets = 0.5 - factors @ centre
    return Composite("principal components", tuple(map(tuple, factors.tolist())), tuple(offsets.tolist()))


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of images."""

    maps: list[Tensor]  # (B, D, h, w) each
    valid: Tensor  # (B, h, w): tokens that show enough


class Teacher(nn.Module):
    """Standardised bands, and where they are valid, to maps of four depths on a grid of tokens. It never learns."""

    pitch_px: int  # from token to token
    width: int

    def __init__(self, backbone: Any, composite: Composite, zoom: int = 1) -> None:
        """`backbone`: RGB as ImageNet's to maps; it knows its `patch_px`, `width`, `mean` and `std`."""
        super().__init__()
        self.backbone, self.composite, self.zoom = backbone.requires_grad_(False), composite, zoom
        if backbone.patch_px % zoom:
            raise ModelError(
                f"teacher_zoom = {zoom}: tokens of {backbone.patch_px} pixels do not fall into so many", "give 1 or 2"
            )
        self.pitch_px, self.width = backbone.patch_px // zoom, backbone.width
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Always as it predicts."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, bands: Tensor, valid: Tensor) -> Lesson:
        grid = [-(-side // self.pitch_px) for side in valid.shape[-2:]]
        covered = [count * self.pitch_px for count in grid]
        image = self._image(bands.float(), valid, covered)
        maps = [level.float() for level in self.backbone(image)]
        return Lesson(maps, shown(valid, covered, grid))

    def _image(self, bands: Tensor, valid: Tensor, covered: Sequence[int]) -> Tensor:
        """As the backbone knows images: 0, its mean, where there is nothing and beyond the border."""
        mean, std = (bands.new_tensor(part)[:, None, None] for part in (self.backbone.mean, self.backbone.std))
        image = ((self.composite(bands) - mean) / std) * valid[:, None]
        down, right = (whole - side for whole, side in zip(covered, valid.shape[-2:], strict=True))
        image = functional.pad(image, (0, right, 0, down))
        if self.zoom == 1:
            return image
        return functional.interpolate(image, scale_factor=self.zoom, mode="bilinear", align_corners=False)


class VisionTransformer(nn.Module):
    """A model of transformers with tokens, as maps of four of its depths."""

    def __init__(self, model: Any, name: str, blocks: Sequence[int], norm: str, mean: Any, std: Any) -> None:
        super().__init__()
        self.model, self.norm = model, norm
        self.mean, self.std = tuple(mean), tuple(std)
        self.patch_px, self.width, depth = _shape_of(model.config, name)
        self.blocks = tuple(blocks) or tuple((number + 1) * depth // DEPTHS - 1 for number in range(DEPTHS))
        if len(self.blocks) != DEPTHS or not all(0 <= block < depth for block in self.blocks):
            raise ModelError(
                f"teacher_blocks: {', '.join(map(str, self.blocks))} are not {DEPTHS} of the {depth} blocks of {name}",
                "give four numbers that count from 0, such as 2,5,8,11",
            )
        norms = [getattr(model, known) for known in FINAL_NORMS if isinstance(getattr(model, known, None), nn.Module)]
        if not norms:
            raise ModelError(f"{name} has no norm after its last block", "give a model like DINOv2 or DINOv3")
        self.final = norms[0]
        taken = inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in taken else {}
        self._probe(name)

    def forward(self, image: Tensor) -> list[Tensor]:
        states = self.model(image, output_hidden_states=True, **self.options).hidden_states
        down, across = (side // self.patch_px for side in image.shape[-2:])
        last = len(states) - 2
        return [
            self._normed(states[block + 1], block == last)[:, -down * across :]
            .transpose(1, 2)
            .reshape(len(image), -1, down, across)
            for block in self.blocks
        ]

    def _normed(self, tokens: Tensor, is_last: bool) -> Tensor:
        return self.final(tokens) if self.norm == "final" or (self.norm == "published" and is_last) else tokens

    @torch.no_grad()
    def _probe(self, name: str) -> None:
        """Whether images of any shape become tokens."""
        for down, across in ((4, 4), (3, 5)):
            try:
                maps = self.eval()(torch.zeros(1, 3, down * self.patch_px, across * self.patch_px))
                shapes = {tuple(found.shape) for found in maps}
            except Exception as problem:  # each model has its own way not to fit
                raise without_tokens(name) from problem
            if shapes != {(1, self.width, down, across)}:
                raise without_tokens(name)


def _shape_of(config: Any, name: str) -> tuple[int, int, int]:
    """Pixels of a token, width, and number of blocks."""
    found = [getattr(config, entry, None) for entry in ("patch_size", "hidden_size", "num_hidden_layers")]
    patch_px, width, depth = [value[0] if isinstance(value, list | tuple) and value else value for value in found]
    if not (isinstance(patch_px, int) and isinstance(width, int) and isinstance(depth, int)):
        raise without_tokens(name)
    return patch_px, width, depth


def without_tokens(name: str) -> ModelError:
    return ModelError(
        f"{name} is no vision transformer with a token for each patch", "give one like DINOv2 or DINOv3: " + FETCH
    )


def open_vision_transformer(name: str, blocks: Sequence[int] = (), norm: str = "final") -> VisionTransformer:
    """By local folder, or by the id of a model that is in the cache or can be fetched."""
    found: VisionTransformer = at_hand_or_fetched(
        lambda name, download: _fetch(name, blocks, norm, download=download), name
    )
    return found


def _fetch(name: str, blocks: Sequence[int], norm: str, *, download: bool) -> VisionTransformer:
    transformers = import_transformers(f"the teacher {name}")
    here: dict[str, Any] = {"local_files_only": not download}
    try:
        # Data only: no code of the model's author, no pickle.
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **here)
        if type(config) not in transformers.MODEL_MAPPING:
            raise without_tokens(name)
        # Before its weights are read: what has no tokens need not fit either.
        _shape_of(config, name)
        kind = transformers.MODEL_MAPPING[type(config)]
        model, report = kind.from_pretrained(
            name, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **here
        )
    except (OSError, ValueError) as problem:
        if isinstance(problem, ModelError):
            raise
        raise _unavailable(name, download, problem) from problem
    missing = [key for key in report["missing_keys"] if not any(part in key for part in SPARE)]
    if missing:
        raise ModelError(f"{name} lacks {len(missing)} weights, such as {missing[0]}", "give a complete model")
    return VisionTransformer(model, name, blocks, norm, *_colours(transformers, name, here))


def _colours(transformers: Any, name: str, here: dict[str, Any]) -> tuple[Any, Any]:
    """Mean and deviation of the images it was trained on; ImageNet's where it does not say."""
    try:
        found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name, **here)
    except (OSError, ValueError):
        return IMAGENET
    return found.get("image_mean") or IMAGENET[0], found.get("image_std") or IMAGENET[1]


def _unavailable(name: str, download: bool, problem: Exception) -> ModelError:
    of_backbone = unavailable(name, download, problem)
    fetch = f"fetch it where there is a network, and name its folder: {FETCH}"
    hint = of_backbone.hint if Path(name).is_dir() else fetch
    return ModelError(
        of_backbone.problem.replace("the backbone", "the teacher", 1),
        f"{hint}; or run without a teacher: --teacher none",
    )


def described(teacher: Teacher) -> dict[str, Any]:
    """What a model's card says of the teacher it learned from."""
    backbone = teacher.backbone
    return {
        "width": teacher.width,
        "token_px": teacher.pitch_px,
        "blocks": list(getattr(backbone, "blocks", ())),
        "composite": asdict(teacher.composite),
    }
