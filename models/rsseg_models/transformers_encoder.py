"""Any backbone with feature maps at strides 4, 8, 16 and 32, through the optional package `transformers`.

Nothing else in rsseg imports that package, and nothing here does so before such a backbone is asked for.
"""

import importlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsseg_models.encoder import Encoder, Levels, StateDict, Translation
from rsseg_models.errors import ModelError
from rsseg_models.stem import RGB
from rsseg_models.weights import FOLDER_NAMES

PREFIX = "backbone."
# Entries of a configuration that could make transformers fetch or run something, or that tie it to one machine.
DROPPED = ("auto_map", "attn_implementation", "quantization_config", "transformers_version", "dtype", "torch_dtype")
PROBE_PX = 64


def import_transformers(what: str = "this encoder") -> Any:
    # By name, so that type checking gives the same answer whether the extra is installed or not.
    try:
        transformers = importlib.import_module("transformers")
        # Its progress bars and load reports would mix with ours.
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        # Of five tries to reach a hub the last one is told, in our words.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        return transformers
    except ImportError as problem:
        raise ModelError(
            f"{what} needs the package transformers, which is not installed", "pip install 'rsseg[encoders]'"
        ) from problem


def fetch_backbone(name: str, *, download: bool) -> tuple[str, StateDict]:
    """A published backbone, by model id or local folder: its variant for the Architecture, and its weights."""
    transformers = import_transformers(f"the encoder {name}")
    try:
        # Fetched files are data only: no code from the model's author, no pickle.
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=not download, trust_remote_code=False)
        config.out_indices = last_four(config, name)
        # AutoBackbone's own from_pretrained asks the hub even where it may not; the class behind it does not.
        kind = type(transformers.AutoBackbone.from_config(config))
        backbone, report = kind.from_pretrained(
            name, config=config, local_files_only=not download, use_safetensors=True, output_loading_info=True
        )
    except ModelError:
        raise
    except (OSError, ValueError) as problem:
        raise unavailable(name, download, problem) from problem
    # The norms on the levels are not part of a classifier's training; they start as they are.
    missing = [key for key in report["missing_keys"] if "hidden_states_norms" not in key]
    if missing:
        raise ModelError(f"{name} lacks {len(missing)} weights, such as {missing[0]}", "give a complete model")
    return as_variant(config), {PREFIX + key: tensor for key, tensor in backbone.state_dict().items()}


def find_weights(name: str, *, download: bool) -> Path:
    """The file of weights of a model id, for encoders that are our own; in the cache of transformers."""
    cached_file = import_transformers(f"{name} is no file or folder here; as a model id it").utils.cached_file
    problem: Exception | None = None
    for file in FOLDER_NAMES:
        try:
            return Path(cached_file(name, file, local_files_only=not download))
        except (OSError, ValueError) as this:
            problem = this
            if "connect" in str(this):
                break  # asking for the other file would take as long again
    raise unavailable(name, download, problem) from problem


def unavailable(name: str, download: bool, problem: Exception | None) -> ModelError:
    reason = str(problem).splitlines()[0] if problem and str(problem) else "no reason given"
    if Path(name).is_dir():
        hint = "give one that holds config.json and model.safetensors, as `hf download` leaves it"
        return ModelError(f"the backbone {name} cannot be had from this folder: {reason}", hint)
    where = "on this machine or its hub" if download else "on this machine, and downloading was not asked for"
    return ModelError(
        f"the backbone {name} cannot be had {where}: {reason}", "connect, or give a folder that holds the model"
    )


def last_four(config: Any, name: str) -> list[int]:
    stages = getattr(config, "stage_names", None) or []
    if len(stages) < 4:
        raise ModelError(
            f"{name} is no backbone with feature maps",
            "give one like ConvNeXt, Swin or ResNet; SegFormer's weights load into mit-b0 to mit-b5",
        )
    return list(range(len(stages) - 4, len(stages)))


def as_variant(config: Any) -> str:
    """The configuration as one line of JSON, without what is not its shape."""
    kept = {key: value for key, value in config.to_diff_dict().items() if not key.startswith("_")}
    return json.dumps({k: v for k, v in kept.items() if k not in (*DROPPED, "out_features")}, sort_keys=True)


def from_variant(variant: str, bands: int) -> Any:
    """A backbone with fresh weights; the variant may come from a file, so only plain settings of it are used."""
    transformers = import_transformers()
    try:
        settings = json.loads(variant)
        kind = str(settings.pop("model_type"))
        if kind.startswith("timm"):
            raise ModelError("backbones of timm could fetch weights by themselves", "choose another encoder")
        plain = {k: v for k, v in settings.items() if not k.startswith("_") and k not in DROPPED}
        config = transformers.AutoConfig.for_model(kind, **plain | {"num_channels": bands})
        config.out_indices = last_four(config, kind)
        return transformers.AutoBackbone.from_config(config)
    except ModelError:
        raise
    except Exception as problem:  # each backbone checks its settings in its own way
        raise ModelError(
            "this variant describes no backbone of transformers", "take it from fetch_backbone"
        ) from problem


class TransformersEncoder(Encoder):
    """A backbone of transformers; its variant is its configuration."""

    head_width = 256

    def __init__(self, bands: int, variant: str = "") -> None:
        super().__init__()
        self.backbone = from_variant(variant, bands)
        self.variant = variant
        self.stem_key = find_stem(self, bands)
        self.channels = self._probe(bands)

    def forward(self, bands: Tensor) -> Levels:
        one, two, three, four = self.backbone(bands).feature_maps
        return one, two, three, four

    def translate(self, state: StateDict) -> Translation:
        if not any(key.startswith(PREFIX) for key in state):
            raise ModelError("these weights were not read by fetch_backbone", "give the model's id or folder instead")
        # Three bands may be any three here; calling them RGB's keeps the rule by name.
        is_rgb = state[self.stem_key].shape[1] == len(RGB) if self.stem_key in state else False
        return Translation("transformers" if is_rgb else "rsseg", dict(state))

    @torch.no_grad()
    def _probe(self, bands: int) -> tuple[int, int, int, int]:
        """Channels of the levels, as a small image shows them; ModelError for other strides than ours."""
        was_training = self.training
        levels = self.eval()(torch.zeros(1, bands, PROBE_PX, PROBE_PX))
        self.train(was_training)
        strides = tuple(PROBE_PX // level.shape[-1] for level in levels)
        if strides != self.strides:
            raise ModelError(f"this backbone has levels at strides {strides}", f"rsseg needs {self.strides}")
        one, two, three, four = (level.shape[1] for level in levels)
        return one, two, three, four


def find_stem(encoder: nn.Module, bands: int) -> str:
    """The key of the first convolution, which sees the bands."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != bands:
                raise ModelError(f"this backbone takes {module.in_channels} bands only", "choose another encoder")
            return f"{name}.weight"
    raise ModelError("this backbone has no convolution to take the bands", "choose another encoder")
