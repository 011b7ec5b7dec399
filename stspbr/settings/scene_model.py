"""Settings of the networks of compositional neural scenes: encoders and generators, as published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stspbr.errors import did_you_mean
from stspbr.settings.parsing import Settings

CHANNELS: Mapping[str, int] = {
    "beauty": 3,
    "normal": 3,
    "position": 3,
    "depth": 1,
    "id": 1,
    "albedo": 3,
    "roughness": 1,
    "direct": 3,
    "indirect": 3,
    "diffuse": 3,
    "specular": 3,
    "mirror": 3,
    "mirror_hit": 3,
    "mirror_normal": 3,
    "shadows": 1,
    "ao": 1,
}
"""The sixteen buffers of a view and their channels, in the order in which they are stored."""

PASS = Literal[
    "beauty", "normal", "position", "depth", "id", "albedo", "roughness", "direct", "indirect", "diffuse", "specular",
    "mirror", "mirror_hit", "mirror_normal", "shadows", "ao",
]  # fmt: skip
GENERATOR = Literal["GQN", "Unet", "PixelCNN", "Sum", "Copy"]

_REFUSED_LOSSES = ("nll", "bce", "vgg")

OPTIONS_OF: Mapping[str, tuple[str, ...]] = {
    "GQN": (
        "cell_type", "latent_dim", "state_dim", "core_count", "downscaling", "weight_sharing", "upscale_sharing",
        "deviation_steps",
    ),
    "Unet": ("loss", "end_relu", "widths"),
    "PixelCNN": (
        "loss", "layers", "hidden_units", "end_relu", "propagate_buffers", "propagate_representation",
        "propagate_viewpoint",
    ),
    "Sum": (),
    "Copy": ("index",),
}  # fmt: skip
"""The keys of ``settings`` that each type of generator reads."""


class RepresentationSettings(Settings):
    """An encoder: it makes one partitioned vector of a scene's observations."""

    type: Literal["Pool", "Pyramid", "Tower"] = Field(
        "Tower", description="Pool: one vector per picture; Pyramid: likewise, other layers; Tower: a map of vectors"
    )
    detach: bool = Field(False, description="no loss reaches this encoder")
    aggregation_func: Literal["mean", "max"] = Field("mean", description="how a scene's observations are combined")
    observation_passes: list[PASS] = Field(["beauty"], description="buffers of an observation")
    representation_dim: int = Field(256, ge=2, description="channels of the vector")
    render_size: int = Field(64, ge=8, multiple_of=4, description="side of an observation in pixels")
    start_sigmoid: float = Field(5.0, gt=0, description="sharpness of the partitions' borders at the start")
    end_sigmoid: float = Field(100.0, gt=0, description="sharpness after the first ramp")
    sharpen_sigmoid: float = Field(100.0, gt=0, description="sharpness after the last ramp")
    sharpening: int = Field(500_000, ge=1, description="steps of the first ramp")
    final_sharpening: int = Field(100_000, ge=1, description="steps of the last ramp")
    gradient_reg: float = Field(
        0.0, ge=0, le=1, description="how far the gradient of a shared partition is replaced by the pull to its mean"
    )

    @field_validator("aggregation_func", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class GeneratorOptions(Settings):
    """The layers of a generator; ``OPTIONS_OF`` says which type reads which key."""

    cell_type: Literal["LSTM", "GRU"] = Field("LSTM", description="GQN: the recurrent cell")
    latent_dim: int = Field(3, ge=1, description="GQN: channels of the random latent per core")
    state_dim: int = Field(128, ge=1, description="GQN: channels of the cells' state")
    core_count: int = Field(12, ge=1, description="GQN: recurrent steps")
    downscaling: int = Field(4, ge=1, description="GQN: side of the picture per side of the cells' map")
    weight_sharing: bool = Field(False, description="GQN: all cores have the same weights")
    upscale_sharing: bool = Field(True, description="GQN: all cores have the same up-sampler")
    deviation_steps: int = Field(
        200_000, ge=1, description="GQN: steps in which the picture's standard deviation falls from 2.0 to 0.7"
    )
    loss: list[str] = Field(["l1", "ssim"], description="Unet, PixelCNN: l1, l2, ssim, and logl1, logl2, logssim")
    end_relu: bool = Field(True, description="Unet, PixelCNN: the picture is made non-negative")
    widths: list[Annotated[int, Field(ge=1)]] = Field(
        [128, 256, 512, 512, 512, 512, 512], min_length=2, description="Unet: channels per level, the finest first"
    )
    layers: int = Field(8, ge=0, description="PixelCNN: layers after the first")
    hidden_units: int = Field(512, ge=1, description="PixelCNN: channels per layer")
    propagate_buffers: bool = Field(False, description="PixelCNN: every layer sees the buffers, too")
    propagate_representation: bool = Field(True, description="PixelCNN: every layer sees the vector, too")
    propagate_viewpoint: bool = Field(True, description="PixelCNN: every layer sees the pose, too")
    index: int = Field(0, ge=0, description="Copy: number of the generator whose weights are used")

    @field_validator("loss", mode="before")
    @classmethod
    def _known_losses(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else list(value)
        known = ("l1", "l2", "ssim", "logl1", "logl2", "logssim")
        for name in names:
            if name in _REFUSED_LOSSES:
                raise ValueError(f"the loss {name} is not supported; choose from {', '.join(known)}")
            if name not in known:
                raise ValueError(f"no loss {name!r}; choose from {', '.join(known)}{did_you_mean(str(name), known)}")
        return names


class GeneratorSettings(Settings):
    """A generator: it makes a picture of the query's buffers, its pose and the vector."""

    type: GENERATOR = Field(
        description="GQN: recurrent, with latents; Unet: convolutional; PixelCNN: a network per pixel; Sum: of its "
        "query passes; Copy: another one's weights"
    )
    query_passes: list[PASS] = Field([], description="buffers of the view that is asked for")
    output_passes: list[PASS] = Field(["beauty"], description="buffers that are predicted")
    representations: list[int] = Field([0], description="numbers of the encoders whose vectors it reads")
    render_size: int = Field(64, ge=8, description="side of its picture in pixels")
    override_sample: bool = Field(False, description="when rendering, its output replaces that buffer for later ones")
    override_train: bool = Field(False, description="likewise when training")
    discard_loss: bool = Field(False, description="its loss does not count")
    detach: bool = Field(False, description="its loss does not reach the encoders")
    settings: GeneratorOptions = Field(GeneratorOptions(), description="its layers")

    @model_validator(mode="after")
    def _fits(self) -> GeneratorSettings:
        deepest = 2 ** (len(self.settings.widths) - 1)
        if self.type == "Unet" and self.render_size % deepest:
            raise ValueError(
                f"a Unet of {len(self.settings.widths)} levels needs render_size in multiples of {deepest}"
            )
        if self.type == "GQN" and self.render_size % self.settings.downscaling:
            raise ValueError(
                f"render_size={self.render_size} is no multiple of downscaling={self.settings.downscaling}"
            )
        if self.type == "Sum" and not self.query_passes:
            raise ValueError("Sum needs the query_passes that it adds")
        return self

    @property
    def query_channels(self) -> int:
        """Channels of its query passes."""
        return sum(CHANNELS[name] for name in self.query_passes)

    @property
    def output_channels(self) -> int:
        """Channels of its picture."""
        return sum(CHANNELS[name] for name in self.output_passes)


class SceneModelSettings(Settings):
    """Encoders and generators, in the order in which they run."""

    pose_dim: Literal[16] = Field(16, description="numbers of a pose: the world-to-camera matrix")
    output_pass: PASS = Field("beauty", description="the buffer that is the picture")
    representations: list[RepresentationSettings] = Field(min_length=1, description="the encoders")
    generators: list[GeneratorSettings] = Field(min_length=1, description="the generators")

    @model_validator(mode="after")
    def _fits(self) -> SceneModelSettings:
        for number, generator in enumerate(self.generators):
            for index in generator.representations:
                if not 0 <= index < len(self.representations):
                    raise ValueError(
                        f"generators.{number}.representations: there is no encoder {index}; the model has "
                        f"{len(self.representations)}, counted from 0"
                    )
            towers = {self.representations[index].type == "Tower" for index in generator.representations}
            sizes = {self.representations[index].render_size for index in generator.representations}
            if len(towers) > 1 or (True in towers and len(sizes) > 1):
                raise ValueError(f"generators.{number}.representations: vectors and maps of vectors cannot be joined")
            index = generator.settings.index
            if generator.type == "Copy" and not (index < number and self.generators[index].type not in ("Copy", "Sum")):
                raise ValueError(f"generators.{number}.settings.index: Copy needs an earlier generator with weights")
        if not any(self.output_pass in generator.output_passes for generator in self.generators):
            raise ValueError(f"output_pass={self.output_pass}: no generator predicts it")
        return self
