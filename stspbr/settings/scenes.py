"""Settings of the compositional neural scenes; their JSON files have the published names and defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from stspbr.errors import StspbrError, did_you_mean
from stspbr.settings.optimization import Rate
from stspbr.settings.parsing import Settings, parse_settings
from stspbr.settings.schedules import PRESETS

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
DATASET = Literal["room", "archviz", "manylightroom", "manymaterialroom", "manymanyroom", "fewmaterialroom"]
GENERATOR = Literal["GQN", "Unet", "PixelCNN", "Sum", "Copy"]

_IGNORED = {
    "": ("job_group", "antialias"),
    "model": ("antialias",),
    "representations": ("observation_dim", "antialias"),
    "generators": ("query_dim", "output_dim", "antialias"),
}
"""Published keys that say nothing: what they name follows from the passes, or was never used."""

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


class SceneConfig(Settings):
    """One configuration file: the data, the model and how it is trained."""

    logging: bool = Field(True, description="write TensorBoard records")
    seed: int = Field(-1, ge=-1, description="seed of everything random; -1: that of --seed")
    train_data_dir: str = Field("", description="folder of published training batches (npz); see scenes train --data")
    test_data_dir: str = Field("", description="folder of published test batches (npz)")
    job_name: str = Field("scenes", description="a name, for people")
    checkpoint_interval: int = Field(500, ge=1, description="steps between checkpoints")
    test_interval: int = Field(25, ge=1, description="steps between previews of test scenes")
    iterations: int = Field(1_000_000, ge=1, description="steps")
    batch_size: int = Field(36, ge=1, description="scenes per batch")
    test_batch_size: int = Field(16, ge=1, description="scenes per test batch")
    dataset: DATASET = Field("room", description="what the scenes are, and what varies in them")
    cached_dataset: bool = Field(True, description="train on stored batches; false: they are rendered all the same")
    samples_per_pixel: int = Field(64, ge=1, description="paths per pixel")
    views_per_scene: int = Field(5, ge=2, description="views per scene: the observations and one query")
    random_num_views: bool = Field(False, description="train with a random number of the observations")
    latent_separation: bool = Field(False, description="partition the vector: light, geometry, material")
    adaptive_separation: bool = Field(True, description="learn how wide each partition is; false: thirds")
    empty_partition: bool = Field(False, description="a further partition, which is always empty")
    partition_loss: float = Field(0.01, ge=0, description="weight of the width that is used, with empty_partition")
    multi_gpu: bool = Field(False, description="of the published program; here torchrun starts several processes")
    model: SceneModelSettings = Field(description="encoders and generators")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's rate; its schedule is scenes train's")
    augment: bool = Field(True, description="show rooms turned and mirrored, too; archviz has no symmetry")
    objects: int = Field(5, ge=1, le=5, description="room: kinds of objects that can appear")
    all_buffers: bool = Field(
        False, description="store all sixteen buffers; false: those that the model reads, shadows"
    )
    device: str = Field("auto", description="of the published program; here --device says it")

    @property
    def sizes(self) -> list[int]:
        """Sides of the pictures that the model reads and makes, ascending."""
        model = self.model
        sides = {one.render_size for one in model.representations}
        return sorted(sides | {one.render_size for one in model.generators})

    @property
    def passes(self) -> list[str]:
        """The buffers that the model reads or predicts, in the order of ``CHANNELS``."""
        used = {name for one in self.model.representations for name in one.observation_passes}
        used |= {name for one in self.model.generators for name in [*one.query_passes, *one.output_passes]}
        return [name for name in CHANNELS if name in used]

    @property
    def stored(self) -> list[str]:
        """The buffers that a generated data set holds."""
        used = {*self.passes, "beauty", "shadows"}
        return [name for name in CHANNELS if self.all_buffers or name in used]


class SceneGenerateSettings(Settings):
    """Make scenes and render them; every batch varies one factor."""

    config: SceneConfig = Field(description="the configuration file")
    batches: int = Field(9000, ge=1, description="training batches")
    test: int = Field(1000, ge=0, description="test batches, in which every factor varies")
    size: int | None = Field(None, ge=8, description="side of the pictures in pixels; none: the model's largest")
    scene_files: Literal["test", "all", "none"] = Field("test", description="batches whose scenes are stored as JSON")


class SceneRateSettings(Settings):
    """The parameter groups of a scene model."""

    network: Rate = Field(description="of encoders and generators")
    widths: Rate = Field(description="of the partitions' widths")


class SceneTrainSettings(Settings):
    """Train encoders and generators on the scenes."""

    config: SceneConfig = Field(description="the configuration file")
    data: Literal["run", "config"] = Field(
        "run", description="run: the run's generated scenes; config: the folders that the configuration names"
    )
    iterations: int = Field(ge=1, description="steps")
    batches: int = Field(1, ge=1, description="stored batches per step, which the processes of torchrun share")
    rates: SceneRateSettings = Field(description="learning rates of the parameter groups")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    preview_every: int = Field(500, ge=1, description="steps between previews of test scenes")
    log_every: int = Field(10, ge=1, description="steps between logged losses")

    def routing_of(self, groups: object) -> Literal["strict", "shared"]:
        """Every loss drives whatever it depends on."""
        return "shared"


class SceneRecipe(Settings):
    """Generate, train and evaluate, in one file."""

    kind: Literal["scenes"] = Field("scenes", description="scenes; a recipe without a kind makes an asset")
    name: str = Field(description="name of the run; its default folder is runs/NAME")
    seed: int = Field(0, description="seed of everything random")
    config: str = Field(description="a shipped configuration, or a file of one")
    batches: int = Field(240, ge=1, description="training batches")
    test: int = Field(40, ge=1, description="test batches")
    iterations: int | None = Field(None, ge=1, description="steps; none: the configuration's")
    evaluated: int = Field(24, ge=2, description="test scenes for swaps and attribution")
    compositions: int = Field(4, ge=1, description="rows of composed scenes that are drawn")


def train_settings(
    config: SceneConfig, iterations: int | None = None, data: Literal["run", "config"] = "run", batches: int = 1
) -> SceneTrainSettings:
    """The settings of a training run of ``config``: the widths' rate is five times the networks', both fall to 0."""
    rate, cosine = config.learning_rate, PRESETS["cosine"]
    return SceneTrainSettings(
        config=config,
        data=data,
        iterations=iterations or config.iterations,
        batches=batches,
        rates=SceneRateSettings(
            network=Rate(rate=rate, schedule=cosine), widths=Rate(rate=5.0 * rate, schedule=PRESETS["constant"])
        ),
        checkpoint_every=config.checkpoint_interval,
        preview_every=max(config.test_interval, 100),
    )


def load_scene_config(path: str | Path) -> tuple[SceneConfig, list[str]]:
    """A configuration file, and one note per key that was ignored.

    ``path`` can be the name of a shipped configuration, such as ``room_mini``.

    Raises:
        StspbrError: the file cannot be read, is no JSON, has an unknown key, or a value is not valid.
    """
    place = find_scene_config(path)
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise StspbrError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StspbrError(f"{path}: not a JSON file: {error}") from None
    return parse_scene_config(values, str(path))


def find_scene_config(path: str | Path) -> Path:
    """The file of a configuration: ``path``, or the shipped one of this name."""
    place = Path(path)
    if place.is_file():
        return place
    shipped = shipped_scene_configs()
    name = place.name.removesuffix(".json")
    if place.parent == Path() and name in shipped:
        return shipped[name]
    raise StspbrError(
        f"{path}: no such file or configuration; there are {', '.join(shipped)}{did_you_mean(name, shipped)}"
    )


def shipped_scene_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(__file__).parent.parent / "scenes" / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def parse_scene_config(values: Any, where: str) -> tuple[SceneConfig, list[str]]:
    """:func:`load_scene_config` of parsed JSON; ``where`` it is from, for errors."""
    if not isinstance(values, dict):
        raise StspbrError(f"{where}: a configuration is a JSON object, not a {type(values).__name__}")
    notes: list[str] = []
    cleaned = _cleaned(values, SceneConfig, "", "", where, notes)
    return parse_settings(SceneConfig, cleaned, where), notes


def _cleaned(values: Any, model: type[Settings], table: str, prefix: str, where: str, notes: list[str]) -> Any:
    """``values`` without ignored keys; an unknown key is an error that names the nearest."""
    if not isinstance(values, dict):
        return values
    out = {}
    for key, value in values.items():
        if key in _IGNORED.get(table, ()):
            notes.append(f"{where}: {prefix}{key} is ignored")
            continue
        field = model.model_fields.get(key)
        if field is None:
            raise StspbrError(f"{where}: {prefix}{key} is not a setting{did_you_mean(key, model.model_fields, prefix)}")
        nested = next((one for one in (*get_args(field.annotation), field.annotation) if _is_settings(one)), None)
        if nested is not None and isinstance(value, list):
            items = enumerate(value)
            out[key] = [_cleaned(item, nested, key, f"{prefix}{key}.{n}.", where, notes) for n, item in items]
        elif nested is not None:
            out[key] = _cleaned(value, nested, key, f"{prefix}{key}.", where, notes)
        else:
            out[key] = value
    if model is GeneratorSettings and isinstance(out.get("settings"), dict):
        kind = str(out.get("type"))
        for key in out["settings"]:
            # the files that we write hold all options: those of other types at their defaults
            default = GeneratorOptions.model_fields[key].default
            if kind in OPTIONS_OF and key not in OPTIONS_OF[kind] and out["settings"][key] != default:
                own = ", ".join(OPTIONS_OF[kind]) or "none"
                raise StspbrError(f"{where}: {prefix}settings.{key} is not a setting of {kind}; it has {own}")
    return out


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)
