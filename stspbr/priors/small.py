"""The small cascade: two nets in one file, which the package ships and `stspbr prior train` makes.

The file is a safetensors file in half precision; its metadata hold the vocabulary and the nets' sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor

from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.priors.mixes import encoded
from stspbr.priors.nets import Mixer
from stspbr.priors.protocol import Condition, Extra, squared_cosine
from stspbr.priors.vocabulary import Caption, Vocabulary

FORMAT = "stspbr-prior-2"
LEVELS = 1000
MAX_LOW_LEVEL = 400
"""Most noise that the second net's coarser picture was given while it was trained."""


_SHIPPED = files("stspbr") / "priors" / "small.safetensors"


@dataclass(frozen=True)
class Plan:
    """One stage: side of its pictures, channels of its net, whether it is shown a coarser picture, and the light."""

    side: int
    channels: tuple[int, ...]
    low: bool
    light: bool = True

    def net(self, words: int) -> Mixer:
        """The net of this size, untrained, for a vocabulary of so many words."""
        return Mixer(self.channels, words, self.low, self.light)


PLANS = (Plan(64, (16, 32, 64), False), Plan(128, (16, 32, 48), True))


class SmallStage:
    """One net as a stage of a prior."""

    learns_normals = False

    def __init__(self, plan: Plan, net: Mixer) -> None:
        self.side, self.net, self.plan = plan.side, net, plan
        self.alphas_bar = squared_cosine(LEVELS)
        self.uses = frozenset({"normals"} | ({"light"} if plan.light else set()) | ({"low"} if plan.low else set()))

    @torch.no_grad()
    def x0(self, x_t: Tensor, t: int, condition: Condition, guidance: float, extra: Extra) -> Tensor:
        assert extra.geometry is not None
        count = len(x_t)
        texts = [condition.text] if guidance == 1.0 else [condition.text, condition.empty]
        copies = len(texts)
        level = time = torch.full((copies * count,), t / LEVELS, device=x_t.device)
        shown = [planar(values).repeat(copies, 1, 1, 1) for values in (x_t, extra.geometry)]
        light = low = None
        if self.plan.light:
            assert extra.light is not None
            light = planar(extra.light).repeat(copies, 1, 1, 1)
        if self.plan.low:
            assert extra.low is not None and extra.level is not None
            low = planar(extra.low).repeat(copies, 1, 1, 1)
            level = torch.full_like(time, extra.level / LEVELS)
        out = self.net(shown[0], time, torch.cat(texts), shown[1], light, low, level if self.plan.low else None)
        found = out.permute(0, 2, 3, 1)
        if copies == 1:
            return found
        with_text, without = found.split(count)
        return without + guidance * (with_text - without)

    def noised_low(self, low: Tensor, level: int, noise: Tensor) -> Tensor:
        return noised(low, self.alphas_bar[min(level, MAX_LOW_LEVEL)], noise)


class SmallPrior:
    """The cascade, ready to be asked.

    Args:
        nets: of ``plans``, evaluation only.
    """

    def __init__(self, vocabulary: Vocabulary, plans: Sequence[Plan], nets: Sequence[Mixer], name: str) -> None:
        self.vocabulary, self.name, self.licence = vocabulary, name, "Apache-2.0"
        self.stages = tuple(SmallStage(plan, net.eval()) for plan, net in zip(plans, nets, strict=True))
        # guidance exaggerates what tells a material from the others, and the words alone say what that is
        self.guidance = tuple((1.0, 1.0) for _ in plans)

    def encode(self, prompts: Sequence[str], view_words: Sequence[str]) -> Condition:
        return self.encode_captions([self.vocabulary.parse(prompt) for prompt in prompts])

    def encode_captions(self, captions: Sequence[Caption]) -> Condition:
        """``encode`` of captions that are parsed already."""
        device = next(self.stages[0].net.parameters()).device
        text = torch.stack([torch.as_tensor(encoded(self.vocabulary, caption)) for caption in captions]).to(device)
        return Condition(text, torch.zeros_like(text))

    def to(self, device: torch.device) -> SmallPrior:
        """The same prior on a device."""
        nets = [stage.net.to(device) for stage in self.stages]
        return SmallPrior(self.vocabulary, [stage.plan for stage in self.stages], nets, self.name)

    @classmethod
    def load(cls, path: str | Path | None = None) -> SmallPrior:
        """A prior's file; None: the shipped one.

        Raises:
            StspbrError: there is no such file, or it holds something else.
        """
        if path is None:
            if not shipped():
                raise StspbrError("this installation has no small prior: `stspbr prior train OUT` makes one")
            with as_file(_SHIPPED) as place:
                return cls.load(place)
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt") as stored:
                metadata = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise StspbrError(f"--prior {path}: no such file; `stspbr prior train OUT` makes one") from None
        except (SafetensorError, OSError) as error:
            raise StspbrError(
                f"--prior {path}: not a prior's file ({error}); `stspbr prior train OUT` makes one"
            ) from None
        about = json.loads(metadata.get("prior", "{}"))
        if str(about.get("format")).startswith("stspbr-prior-") and about["format"] != FORMAT:
            raise StspbrError(
                f"--prior {path}: made by another version of stspbr; `stspbr prior train OUT` makes one anew"
            )
        if about.get("format") != FORMAT:
            raise StspbrError(
                f"--prior {path}: a safetensors file, but not of a prior; `stspbr prior train OUT` makes one"
            )
        vocabulary = Vocabulary.parse_toml(about["vocabulary"], str(path))
        plans = [
            Plan(plan["side"], tuple(plan["channels"]), plan["low"], plan.get("light", True))
            for plan in about["stages"]
        ]
        nets = []
        for number, plan in enumerate(plans):
            net, start = plan.net(len(vocabulary.words)), f"{number}."
            own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            try:
                net.load_state_dict(own)
            except RuntimeError:
                raise StspbrError(f"--prior {path}: its net {number} does not fit its sizes: train it again") from None
            nets.append(net)
        return cls(vocabulary, plans, nets, f"small:{Path(path).stem}")


def shipped() -> bool:
    """Whether the package came with a trained prior."""
    return _SHIPPED.is_file()


def save_prior(path: Path, vocabulary: Vocabulary, plans: Sequence[Plan], nets: Sequence[Mapping[str, Tensor]]) -> None:
    """Write a prior's file in half precision; the nets as their states."""
    from safetensors.torch import save_file

    tensors = {f"{k}.{name}": value.half().contiguous() for k, net in enumerate(nets) for name, value in net.items()}
    stages = [
        {"side": plan.side, "channels": list(plan.channels), "low": plan.low}
        | ({} if plan.light else {"light": False})  # files of nets with light are as they were
        for plan in plans
    ]
    about = {"format": FORMAT, "vocabulary": vocabulary.source, "stages": stages}
    metadata = {"prior": json.dumps(about, sort_keys=True)}  # one entry: several have no fixed order in the file
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata)


def noised(clean: Tensor, signal: Tensor | float, noise: Tensor) -> Tensor:
    """``clean`` with the ``signal``'s share ā of variance kept and the rest replaced by ``noise``."""
    signal = torch.as_tensor(signal, dtype=clean.dtype, device=clean.device)
    return signal.sqrt() * clean + (1.0 - signal).sqrt() * noise


def planar(images: Tensor) -> Tensor:
    """``[B, C, H, W]``, laid out as convolutions like it, of ``[B, H, W, C]``."""
    return images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def enlarged(images: Tensor, side: int) -> Tensor:
    """``[B, H, W, C]`` interpolated bilinearly to ``[B, side, side, C]``."""
    large = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2), size=(side, side), mode="bilinear")
    return large.permute(0, 2, 3, 1)
