"""Mix Transformer, `mit-b0` to `mit-b5`, the encoder of SegFormer (Xie et al. 2021, arXiv 2105.15203).

Its keys and values cover the whole tile, so labels depend a little on how a scene is cut; overlap softens that.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.encoder import Channels, Encoder, Levels, StateDict, Translation
from rsseg_models.errors import ModelError

HEADS = (1, 2, 5, 8)
# R of the paper's eq. 2, as the side of a patch: keys and values are thinned by its square.
REDUCTIONS = (8, 4, 2, 1)
MLP_RATIO = 4
DROP_PATH = 0.1


class Size(NamedTuple):
    """Channels and blocks of the four stages (table 6 of the paper)."""

    channels: Channels
    depths: tuple[int, int, int, int]


WIDE = (64, 128, 320, 512)
SIZES = {
    "mit-b0": Size((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit-b1": Size(WIDE, (2, 2, 2, 2)),
    "mit-b2": Size(WIDE, (3, 4, 6, 3)),
    "mit-b3": Size(WIDE, (3, 4, 18, 3)),
    "mit-b4": Size(WIDE, (3, 8, 27, 3)),
    "mit-b5": Size(WIDE, (3, 6, 40, 3)),
}


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, h * w, C) as (B, C, h, w), without moving a number: the map is in channels-last order."""
    return tokens.reshape(tokens.shape[0], height, width, -1).permute(0, 3, 1, 2)


def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


class Embedding(nn.Module):
    """Overlapping patches to tokens."""

    def __init__(self, channels_in: int, channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels_in, channels, size, stride, size // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        x = self.project(x)
        return self.norm(to_tokens(x)), x.shape[2], x.shape[3]


class Attention(nn.Module):
    """Every pixel asks; blocks of reduction x reduction pixels answer."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)
        self.reduce = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.reduce_norm = nn.LayerNorm(channels) if reduction > 1 else None

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        answering = tokens
        if self.reduce is not None and self.reduce_norm is not None:
            answering = self.reduce_norm(to_tokens(self.reduce(to_map(tokens, height, width))))
        query = self._split(self.query(tokens))
        key, value = (self._split(part) for part in self.key_value(answering).chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, n, C) as (B, heads, n, C / heads)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class MixMlp(nn.Module):
    """Eq. 3: the 3x3 convolution inside tells a token where it is, in place of a position code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = MLP_RATIO * channels
        self.expand = nn.Linear(channels, wide)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.contract = nn.Linear(wide, channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        x = self.depthwise(to_map(self.expand(tokens), height, width))
        narrow: Tensor = self.contract(functional.gelu(to_tokens(x)))
        return narrow


class DropPath(nn.Module):
    """Leaves a residual branch out of a sample now and then (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.rate
        return branch * kept.to(branch.dtype) / (1 - self.rate)


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MixMlp(channels)
        self.drop_path = DropPath(drop_rate)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), height, width))
        mixed: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens), height, width))
        return mixed


class Stage(nn.Module):
    def __init__(self, embed: Embedding, blocks: list[Block], channels: int) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens, height, width = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens, height, width)
        return to_map(self.norm(tokens), height, width)


class Mit(Encoder):
    """Strides 4, 8, 16, 32; b0 has 3.3 M parameters, b5 81.4 M."""

    head_width = 256
    stem_key = "stages.0.embed.project.weight"

    def __init__(self, size: Size, bands: int, variant: str = "") -> None:
        super().__init__()
        if variant:
            raise ModelError(f"a Mix Transformer has no variant {variant!r}", "leave the variant empty")
        self.channels, self.depths = size
        # Published weights expect ImageNet's mean and deviation taken out, which standardised bands already are.
        self.stages = nn.ModuleList(make_stage(size, bands, number) for number in range(4))
        self.apply(initialise)

    def forward(self, bands: Tensor) -> Levels:
        levels = []
        x = bands
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels[0], levels[1], levels[2], levels[3]

    def translate(self, state: StateDict) -> Translation:
        for prefix in ("", "segformer."):
            if f"{prefix}encoder.patch_embeddings.0.proj.weight" in state:
                names = transformers_names(self.depths)
                return rename(state, prefix, names, "transformers", ("encoder.",))
        for prefix in ("", "backbone."):
            if f"{prefix}patch_embed1.proj.weight" in state:
                names = original_names(self.depths)
                return rename(state, prefix, names, "segformer", ("patch_embed", "block", "norm"))
        if self.stem_key in state:
            return Translation("rsseg", dict(state))
        raise ModelError(
            "these weights are no Mix Transformer",
            "expected patch_embed1.proj.weight, ... as SegFormer's authors or encoder.patch_embeddings.0.proj.weight, "
            "... as transformers names them",
        )


def make_stage(size: Size, bands: int, number: int) -> Stage:
    channels = size.channels[number]
    first = number == 0
    embed = Embedding(bands if first else size.channels[number - 1], channels, 7 if first else 3, 4 if first else 2)
    # The rate grows from 0 at the first block of the network to DROP_PATH at its last.
    before, last = sum(size.depths[:number]), sum(size.depths) - 1
    rates = [DROP_PATH * (before + block) / last for block in range(size.depths[number])]
    blocks = [Block(channels, HEADS[number], REDUCTIONS[number], rate) for rate in rates]
    return Stage(embed, blocks, channels)


def initialise(module: nn.Module) -> None:
    """As the authors do: linear layers narrowly, convolutions by what they pass on."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d) and module.bias is not None:
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        nn.init.zeros_(module.bias)


Names = Iterator[tuple[str, tuple[str, ...]]]

# Our part, its name in the authors' files, and its names in transformers' files, where keys and values are two layers.
# s is the stage (the authors count from 1), b the block.
PARTS = (
    ("embed.project", "patch_embed{s}.proj", "patch_embeddings.{s}.proj"),
    ("embed.norm", "patch_embed{s}.norm", "patch_embeddings.{s}.layer_norm"),
    ("norm", "norm{s}", "layer_norm.{s}"),
)
BLOCK_PARTS = (
    ("norm1", "norm1", ("layer_norm_1",)),
    ("attention.query", "attn.q", ("attention.self.query",)),
    ("attention.key_value", "attn.kv", ("attention.self.key", "attention.self.value")),
    ("attention.reduce", "attn.sr", ("attention.self.sr",)),
    ("attention.reduce_norm", "attn.norm", ("attention.self.layer_norm",)),
    ("attention.output", "attn.proj", ("attention.output.dense",)),
    ("norm2", "norm2", ("layer_norm_2",)),
    ("mlp.expand", "mlp.fc1", ("mlp.dense1",)),
    ("mlp.depthwise", "mlp.dwconv.dwconv", ("mlp.dwconv.dwconv",)),
    ("mlp.contract", "mlp.fc2", ("mlp.dense2",)),
)


def original_names(depths: tuple[int, ...]) -> Names:
    """Each of our layers with the authors' name for it."""
    for stage, depth in enumerate(depths):
        for ours, theirs, _ in PARTS:
            yield f"stages.{stage}.{ours}", (theirs.format(s=stage + 1),)
        for block, (ours, theirs, _) in product(range(depth), BLOCK_PARTS):
            yield f"stages.{stage}.blocks.{block}.{ours}", (f"block{stage + 1}.{block}.{theirs}",)


def transformers_names(depths: tuple[int, ...]) -> Names:
    """Each of our layers with transformers' names for it."""
    for stage, depth in enumerate(depths):
        for ours, _, name in PARTS:
            yield f"stages.{stage}.{ours}", (f"encoder.{name.format(s=stage)}",)
        for block, (ours, _, names) in product(range(depth), BLOCK_PARTS):
            theirs = tuple(f"encoder.block.{stage}.{block}.{name}" for name in names)
            yield f"stages.{stage}.blocks.{block}.{ours}", theirs


def rename(state: StateDict, prefix: str, names: Names, naming: str, ours_begin: tuple[str, ...]) -> Translation:
    """Layers under our names; what looks like an encoder's and has none keeps its own, for the loader to refuse."""
    renamed: dict[str, Tensor] = {}
    used: set[str] = set()
    for (ours, theirs), kind in product(names, ("weight", "bias")):
        keys = [f"{prefix}{name}.{kind}" for name in theirs]
        if all(key in state for key in keys):
            renamed[f"{ours}.{kind}"] = torch.cat([state[key] for key in keys])
            used.update(keys)
    rest = [key for key in state if key not in used]
    unknown = [key for key in rest if key.removeprefix(prefix).startswith(ours_begin)]
    left_out = tuple(key for key in rest if key not in unknown)
    return Translation(naming, renamed | {key: state[key] for key in unknown}, left_out)
