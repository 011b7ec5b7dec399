"""Settings of the compositional neural scenes: a configuration file, and what the stages do with it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stspbr.settings.optimization import Rate
from stspbr.settings.parsing import Settings
from stspbr.settings.scene_model import CHANNELS, SceneModelSettings
from stspbr.settings.schedules import PRESETS

DATASET = Literal["room", "archviz", "manylightroom", "manymaterialroom", "manymanyroom", "fewmaterialroom"]


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
    size: int | None = Field(None, ge=8, description="side of the stored pictures; none: the model's largest")
    iterations: int | None = Field(None, ge=1, description="steps; none: the configuration's")
    evaluated: int = Field(24, ge=2, description="test scenes for swaps and attribution")
    compositions: int = Field(4, ge=1, description="rows of composed scenes that are drawn")


def train_settings(
    config: SceneConfig, iterations: int | None = None, data: Literal["run", "config"] = "run", batches: int = 1
) -> SceneTrainSettings:
    """The settings of a training run of ``config``: the networks' rate falls to 0; widths move in between."""
    rate, cosine, widths = config.learning_rate, PRESETS["cosine"], PRESETS["scenes.widths"]
    return SceneTrainSettings(
        config=config,
        data=data,
        iterations=iterations or config.iterations,
        batches=batches,
        rates=SceneRateSettings(network=Rate(rate=rate, schedule=cosine), widths=Rate(rate=rate, schedule=widths)),
        checkpoint_every=config.checkpoint_interval,
        preview_every=max(config.test_interval, 100),
    )
