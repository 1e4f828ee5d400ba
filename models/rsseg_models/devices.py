"""Where networks run, and with which numbers."""

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rsseg_models.errors import ModelError

# Each pass has its own maps in memory.
MOST_PASSES = 4


def choose_device(wanted: str) -> str:
    """`auto` takes a GPU where there is one."""
    found = [name for name, there in (("cuda", torch.cuda.is_available()), ("mps", _has_mps())) if there]
    if wanted == "auto":
        return found[0] if found else "cpu"
    kind = wanted.partition(":")[0]
    if kind != "cpu" and kind not in found:
        raise ModelError(f"PyTorch sees no device {wanted} here", f"use {' or '.join(['cpu', *found])}")
    return wanted


def choose_precision(wanted: str, device: str) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it faster, float32 elsewhere."""
    if wanted == "auto":
        on_gpu = device.startswith("cuda")
        quick = torch.cuda.is_bf16_supported() if on_gpu else device == "cpu" and _cpu_has_bfloat16()
        return torch.bfloat16 if quick else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]


def passes_at_once(device: str) -> int:
    """How many batches are worth working on at the same time: a GPU has one and reads the next; a CPU's cores share."""
    return 2 if device != "cpu" else max(1, min(torch.get_num_threads(), MOST_PASSES))


def forward_of(
    network: nn.Module, device: str, precision: torch.dtype, zoom: float = 1.0
) -> Callable[[Tensor], Tensor]:
    """Bands (tile, band, y, x) to float32 logits of that size on the CPU; `zoom` brings tiles to the model's GSD."""
    network = deployed(network).to(device)

    @torch.inference_mode()
    def forward(bands: Tensor) -> Tensor:
        bands = bands.to(device, memory_format=torch.channels_last)
        size = bands.shape[-2:]
        if zoom != 1.0:
            seen = [max(1, round(side * zoom)) for side in size]
            bands = functional.interpolate(bands, size=seen, mode="bilinear", align_corners=False, antialias=zoom < 1)
        with torch.autocast(device.partition(":")[0], precision, enabled=precision != torch.float32):
            logits = network(bands)
        logits = logits.float()
        if zoom != 1.0:
            logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        on_cpu: Tensor = logits.cpu()
        return on_cpu

    return forward


def deployed(network: nn.Module) -> nn.Module:
    """A copy that predicts the same in less time: batch norm within the convolutions before it, channels last."""
    network = copy.deepcopy(network).eval()
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            for number, (first, second) in enumerate(pairwise(part)):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    part[number] = fuse_conv_bn_eval(first, second)
                    part[number + 1] = nn.Identity()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
