"""DeepFloyd IF through diffusers: pixel-space stages at 64² and 256², with the weights that the user has.

The weights are gated and for research only; nothing is downloaded here. Components are loaded one at a time: the text
encoder to encode the prompts, whose embeddings are stored, then the U-Nets alone.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.files import atomic_path
from stspbr.priors.protocol import Condition, Extra

LICENCE = "DeepFloyd IF licence (research, non-commercial)"
_CLASSES = ("IFPipeline", "IFSuperResolutionPipeline")
_NEEDED = (("tokenizer", "text_encoder", "unet", "scheduler"), ("unet", "scheduler", "image_noising_scheduler"))
_GUIDANCE = ((15.0, 15.0), (10.0, 10.0))


class FloydStage:
    """One U-Net of the cascade; of its six outputs the first three are ε, the learned variance is left out.

    Args:
        pipe: a diffusers pipeline with its U-Net and schedulers only.
    """

    def __init__(self, pipe: Any, fine: bool) -> None:
        self._unet, self._low_scheduler = pipe.unet, getattr(pipe, "image_noising_scheduler", None)
        self.side = int(pipe.unet.config.sample_size)
        self.alphas_bar = pipe.scheduler.alphas_cumprod.float().cpu()
        self.uses = frozenset({"low"} if fine else set())
        self.learns_normals = fine

    @torch.no_grad()
    def x0(self, x_t: Tensor, t: int, condition: Condition, guidance: float, extra: Extra) -> Tensor:
        parts = [condition.text] if guidance == 1.0 else [condition.text, condition.empty]
        copies, count = len(parts), len(x_t)
        planes, dtype = x_t.permute(0, 3, 1, 2), self._unet.dtype
        shown, labels = planes, None
        if extra.low is not None:
            shown = torch.cat([planes, extra.low.permute(0, 3, 1, 2)], dim=1)
            labels = torch.full((copies * count,), extra.level or 0, device=x_t.device, dtype=torch.long)
        found = self._unet(
            shown.repeat(copies, 1, 1, 1).to(dtype), t, encoder_hidden_states=torch.cat(parts).to(dtype),
            class_labels=labels,
        ).sample[:, :3].float()  # fmt: skip
        epsilon = found[:count]
        if copies == 2:
            epsilon = found[count:] + guidance * (found[:count] - found[count:])
        signal = float(self.alphas_bar[t])
        return ((planes - (1.0 - signal) ** 0.5 * epsilon) / signal**0.5).permute(0, 2, 3, 1)

    def noised_low(self, low: Tensor, level: int, noise: Tensor) -> Tensor:
        if self._low_scheduler is None:
            return low
        return self._low_scheduler.add_noise(low, noise, torch.tensor([level], device=low.device))


class FloydPrior:
    """The cascade from a folder of pipelines as diffusers saves them.

    Args:
        folder: holds the pipeline of the first stage, or it and that of the second in folders of any names.
        cache: folder of embeddings; accepted: whether the user accepts the licence of the weights.

    Raises:
        StspbrError: the licence is not accepted, diffusers cannot be imported, a pipeline or a component is missing,
            or there is not enough memory.
    """

    def __init__(self, folder: Path, cache: Path, device: torch.device, accepted: bool) -> None:
        if not accepted:
            raise StspbrError(
                f"--prior floyd:{folder}: these weights are under the {LICENCE}: read it, "
                "and give --accept-prior-licence if you may use them"
            )
        self._pipelines, self.folders = load_diffusers(), find_stages(folder)
        self.name, self.licence, self._cache, self._device = f"floyd:{folder.name}", LICENCE, cache, device
        self._dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.guidance = _GUIDANCE[: len(self.folders)]
        self._stages: tuple[FloydStage, ...] | None = None

    @property
    def stages(self) -> tuple[FloydStage, ...]:
        """The U-Nets; they are loaded when they are first asked for, after the prompts are encoded."""
        if self._stages is None:
            self._stages = tuple(
                FloydStage(self._load(number, folder, text_encoder=None, tokenizer=None).to(self._device), number > 0)
                for number, folder in enumerate(self.folders)
            )
        return self._stages

    def encode(self, prompts: Sequence[str], view_words: Sequence[str]) -> Condition:
        captions = [f"{prompt}, {word} view" for prompt, word in zip(prompts, view_words, strict=True)]
        pairs = self._embeddings(list(dict.fromkeys(captions)))
        rows = [pairs[caption] for caption in captions]
        return Condition(*(torch.cat([row[k] for row in rows]).to(self._device) for k in range(2)))

    def prepare(self, prompts: Sequence[str], view_words: Sequence[str]) -> None:
        """Encode every prompt with every view word at once, so that the text encoder is loaded once."""
        self._embeddings([f"{prompt}, {word} view" for prompt in prompts for word in view_words])

    def _embeddings(self, captions: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Positive and negative embedding ``[1, 77, C]`` of each caption, from the cache or the text encoder."""
        from safetensors.torch import load_file, save_file

        paths = {caption: self._cache / f"text-{self._key(caption)}.safetensors" for caption in captions}
        missing = [caption for caption, path in paths.items() if not path.is_file()]
        if missing:
            pipe = self._load(0, self.folders[0], unet=None).to(self._device)
            for caption in missing:
                with torch.no_grad():
                    positive, negative = pipe.encode_prompt(caption, device=self._device)
                own = {"positive": positive.cpu().contiguous(), "negative": negative.cpu().contiguous()}
                paths[caption].parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(paths[caption]) as temporary:
                    save_file(own, str(temporary))
            del pipe
            gc.collect()  # the text encoder is the largest part: it goes before the U-Nets come
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        stored = {caption: load_file(path) for caption, path in paths.items()}
        return {caption: (pair["positive"], pair["negative"]) for caption, pair in stored.items()}

    def _key(self, caption: str) -> str:
        index = (self.folders[0] / "model_index.json").read_bytes()
        sizes = [(path.name, path.stat().st_size) for path in sorted((self.folders[0] / "text_encoder").iterdir())]
        text = json.dumps([hashlib.sha256(index).hexdigest(), sizes, self.folders[0].name, caption])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _load(self, number: int, folder: Path, **left_out: None) -> Any:
        """A pipeline without the parts ``left_out``, the filter and the watermarker: no picture of it is ever shown."""
        wanted = [name for name in _NEEDED[number] if name not in left_out]
        _check_memory(folder, wanted)
        half = any((folder / "unet").glob("*.fp16.*"))
        absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "watermarker": None, **left_out}
        if number > 0:
            absent |= {"text_encoder": None, "tokenizer": None}
        try:
            return getattr(self._pipelines, _CLASSES[number]).from_pretrained(
                str(folder), variant="fp16" if half else None, torch_dtype=self._dtype, local_files_only=True,
                requires_safety_checker=False, **absent,
            )  # fmt: skip
        except (torch.OutOfMemoryError, MemoryError):
            raise StspbrError(f"--prior floyd:{folder}: not enough memory for {', '.join(wanted)}") from None
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise StspbrError(f"--prior floyd:{folder}: cannot be loaded: {first_line(error)}") from None


def find_stages(folder: Path) -> list[Path]:
    """The folders of the first and, if it is there, the second stage; StspbrError names what is missing."""
    if not folder.is_dir():
        raise StspbrError(f"--prior floyd:{folder}: no such folder; give the one with the pipelines of DeepFloyd IF")
    found: dict[str, Path] = {}
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        try:
            kind = json.loads((place / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
        except (OSError, ValueError):
            continue
        found.setdefault(kind, place)
    if _CLASSES[0] not in found:
        raise StspbrError(
            f"--prior floyd:{folder}: no pipeline of the first stage (a model_index.json of {_CLASSES[0]})"
        )
    stages = [found[name] for name in _CLASSES if name in found]
    for place, needed in zip(stages, _NEEDED, strict=False):
        for component in needed:
            own = place / component
            if not own.is_dir() or not any(own.iterdir()):
                raise StspbrError(f"--prior floyd:{folder}: {place.name} lacks the component {component}")
    return stages


def load_diffusers() -> Any:
    """The module diffusers; its pipelines exist only where transformers can be imported, too."""
    try:
        import diffusers
        import transformers  # noqa: F401

        diffusers.IFPipeline  # noqa: B018  # loaded at first use, with all that it needs
        return diffusers
    except ImportError:
        raise missing_extra("diffusers (with transformers)", "texture", "priors of diffusers") from None
    except Exception as error:  # a torchvision that does not fit torch raises what it likes
        raise StspbrError(f"diffusers cannot be imported: {first_line(error)}; see `stspbr doctor`") from None


def _check_memory(folder: Path, components: Sequence[str]) -> None:
    """One line instead of the kernel's killer: the weights must fit into what is free."""
    files = [
        path for name in components for path in (folder / name).glob("*") if path.suffix in (".safetensors", ".bin")
    ]
    needed = sum(path.stat().st_size for path in files)
    free = free_memory()
    if free is not None and needed > free:
        raise StspbrError(
            f"--prior floyd:{folder}: {', '.join(components)} need {needed / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} GB are free: use a smaller model"
        )


def free_memory() -> int | None:
    """Bytes of memory that programs can still have; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None
