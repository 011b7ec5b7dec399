"""Settings of textures from a text, and of the training of the small prior."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stspbr.settings.parsing import Settings, or_else

_Guidance = Annotated[
    Literal["auto"] | Annotated[float, Field(ge=0, le=100)], or_else("choose auto or a number from 0 to 100, e.g. 1")
]


class TextureSettings(Settings):
    """Make base colour, roughness and metallic maps of a given mesh from a text."""

    mesh: str = Field(description="GLB, glTF, OBJ, USD, … to texture, or a made object such as procedural:teapot")
    prompt: str = Field(
        description="the materials in words, parts after commas: 'polished brass, black handle'; `stspbr prior words` "
        "lists the words"
    )
    part: list[str] = Field(
        [], description="NAME=PROMPT: what the mesh's material NAME is made of; the prompt is for all others"
    )
    prior: str | None = Field(
        None, description="a prior's file, floyd:FOLDER for DeepFloyd IF, or bank; none: the one that is shipped"
    )
    accept_prior_licence: bool = Field(
        False, description="you have read the licence of the weights in FOLDER and may use them"
    )
    size: int = Field(1024, ge=16, le=8192, description="side of the maps in texels")
    steps: list[Annotated[int, Field(ge=0)]] = Field(
        [250, 60],
        min_length=1,
        max_length=3,
        description="steps at each of the prior's resolutions, from coarse to fine",
    )
    views: int = Field(8, ge=1, le=64, description="views per step at the first resolution")
    fine_views: int = Field(2, ge=1, le=64, description="views per step at the others")
    guidance: _Guidance = Field(
        "auto", description="how far text is exaggerated, 1: not at all; auto: as the prior wants it"
    )
    clamp: bool = Field(True, description="keep what the prior expects within the range of pictures, at high guidance")
    param: Literal["explicit", "dip"] = Field(
        "explicit", description="explicit: texels are optimised; dip: the weights of a net that makes the maps"
    )
    lights: list[str] = Field(
        [], description="HDR or EXR files, folders or patterns to light with; none: eight made ones"
    )
    rate: float = Field(0.02, gt=0, description="learning rate of the maps")
    survey: int = Field(
        4, ge=0, description="how often roughness and metallic are searched for on what the prior expects; 0: never"
    )
    even: bool = Field(
        True, description="keep a part even where the prior's words say that it is one material all over"
    )
    metallic_smoothness: float = Field(0.01, ge=0, description="weight of metallic differences between texels")
    metallic_binary: float = Field(
        0.02, ge=0, description="weight that pulls metallic to 0 or 1 in the last 30 % of a resolution's steps"
    )
    normal_flatness: float = Field(0.02, ge=0, description="weight of a learned normal map's slopes")
    saturation: float = Field(0.05, ge=0, description="weight of albedo beyond 0.01 to 0.98, where colours run away to")
    padding: int = Field(4, ge=1, description="texels between the charts of a mesh that has no UVs")
    texture_bits: Literal[8, 16] = Field(8, description="bits per channel of the GLB's PNG maps")
    turntable: int = Field(4, ge=1, description="views per light of the pictures around the object")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")
    preview_every: int = Field(50, ge=1, description="steps between progress pictures")
    log_every: int = Field(10, ge=1, description="steps between logged losses")


class PriorTrainSettings(Settings):
    """Train a small prior on pictures that stspbr renders itself."""

    vocabulary: str | None = Field(None, description="TOML of words and their ranges; none: the shipped one")
    on_mesh: str | None = Field(None, description="a mesh that joins the made shapes, so that the prior knows it")
    light: bool = Field(
        True, description="show the nets what white and black paint and metals look like under each picture's light"
    )
    minutes: float = Field(15.0, gt=0, description="about how long; the steps follow from a few measured ones")
    steps: list[Annotated[int, Field(ge=1)]] = Field(
        [], max_length=2, description="steps of the two nets, in place of minutes; []: from minutes"
    )
    pool: int = Field(32, ge=1, description="chunks of 32 pictures in memory")
    refresh: int = Field(16, ge=1, description="steps after which one chunk is replaced by a new one")
    rate: float = Field(0.002, gt=0, description="learning rate at the start; it falls as a cosine")
    held_out: int = Field(4, ge=1, description="chunks of a shape and a light that training never sees, to measure on")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    preview_every: int = Field(500, ge=1, description="steps between preview pictures")
    log_every: int = Field(20, ge=1, description="steps between logged losses")
