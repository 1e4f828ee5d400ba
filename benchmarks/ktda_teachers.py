"""Teachers for `ktda.py`. No published vision transformer is at hand here, so these stand in for one.

`random`: a vision transformer as it starts. `trained`: the same one after it has learned, from unlabelled images of
the place alone, to fill in patches that are hidden from it (masked image modelling as in SimMIM, Xie et al. 2022, arXiv
2111.09886: half of the patches replaced by one token, a linear layer gives back their pixels, mean absolute error on
hidden patches). Both are DINOv2 models of transformers in a folder, and are opened as `--teacher DIR` opens them.
`cnn`: MobileNetV2 as trained on ImageNet, its four levels on one grid; rsseg itself takes no such teacher.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rsseg_models.network import Architecture, build
from rsseg_models.stem import RGB
from rsseg_models.teachers import IMAGENET
from torch import Tensor, nn
from torch.nn import functional

PATCH_PX, WIDTH, DEPTH, HEADS = 16, 128, 6, 4
CROP_PX, BATCH, HIDDEN = 128, 16, 0.5


def new_transformer() -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    return transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            image_size=CROP_PX,
            patch_size=PATCH_PX,
            # Of use for very deep ones; a shallow one learns better without.
            layerscale_value=1.0,
        )
    )


def write_random(folder: Path) -> Path:
    if not folder.exists():
        new_transformer().save_pretrained(folder)
    return folder


def write_trained(folder: Path, images: Sequence[Tensor], steps: int) -> Path:
    """`images`: (3, H, W) each, as ImageNet's."""
    if not folder.exists():
        model, started = new_transformer(), time.perf_counter()
        losses = fill_in(model, images, steps)
        print(f"{folder.name}: error {losses[0]:.3f} -> {losses[1]:.3f}, {time.perf_counter() - started:.0f} s")
        model.save_pretrained(folder)
    return folder


def fill_in(model: Any, images: Sequence[Tensor], steps: int) -> tuple[float, float]:
    """Trains it; the mean error of the first and of the last 50 steps."""
    torch.manual_seed(0)
    decoder = nn.Linear(WIDTH, 3 * PATCH_PX**2)
    parameters = [*model.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.1)
    side, losses = CROP_PX // PATCH_PX, []
    for _ in range(steps):
        crops = torch.stack([_crop(images) for _ in range(BATCH)])
        hidden = torch.rand(BATCH, side * side) < HIDDEN
        tokens = model(crops, bool_masked_pos=hidden).last_hidden_state[:, 1:]
        wanted = functional.pixel_unshuffle(crops, PATCH_PX).flatten(2).transpose(1, 2)
        loss = (decoder(tokens) - wanted).abs().mean(2)[hidden].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return sum(losses[:50]) / len(losses[:50]), sum(losses[-50:]) / len(losses[-50:])


def _crop(images: Sequence[Tensor]) -> Tensor:
    image = images[int(torch.randint(len(images), ()))]
    top, left = (int(torch.randint(side - CROP_PX + 1, ())) for side in image.shape[-2:])
    crop = image[:, top : top + CROP_PX, left : left + CROP_PX]
    crop = torch.rot90(crop, int(torch.randint(4, ())), (1, 2))
    return crop.flip(2) if torch.rand(()) < 0.5 else crop


class Cnn(nn.Module):
    """Levels of MobileNetV2, each brought to one grid and turned into as many channels as the transformers have."""

    patch_px, width, (mean, std) = PATCH_PX, WIDTH, IMAGENET

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from rsseg_models.loading import load_encoder_weights
        from rsseg_models.weights import read_weights

        network = build(Architecture("mobilenet-v2", RGB, 2))
        load_encoder_weights(network, read_weights(weights), RGB)
        self.encoder, generator = network.encoder, torch.Generator().manual_seed(0)
        self.turns = [
            torch.linalg.qr(torch.randn(max(count, WIDTH), min(count, WIDTH), generator=generator))[0]
            for count in self.encoder.channels
        ]

    def forward(self, image: Tensor) -> list[Tensor]:
        grid = [side // PATCH_PX for side in image.shape[-2:]]
        down, right = (-side % self.encoder.strides[-1] for side in image.shape[-2:])
        levels = self.encoder(functional.pad(image, (0, right, 0, down)))
        maps = []
        for level, turn, stride in zip(levels, self.turns, self.encoder.strides, strict=True):
            cut = level[..., : -(-image.shape[-2] // stride), : -(-image.shape[-1] // stride)]
            found = functional.interpolate(cut.float(), grid, mode="bilinear", antialias=True)
            turned = torch.einsum("oi,bihw->bohw", turn if turn.shape[0] == WIDTH else turn.T, found)
            # Of about the size that a last norm gives a transformer's maps.
            maps.append(functional.layer_norm(turned.permute(0, 2, 3, 1), (WIDTH,)).permute(0, 3, 1, 2))
        return maps
