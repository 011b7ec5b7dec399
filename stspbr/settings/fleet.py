"""The settings of `stspbr fleet`: many objects, each of which is a recipe with changes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from stspbr.settings.parsing import Settings


class TaskNeeds(Settings):
    """What a stage needs of the machine that it runs on; what is not given is that of the fleet."""

    cores: int | None = Field(None, ge=1, description="cores, and threads")
    memory: float | None = Field(None, gt=0, description="gigabytes of memory")
    gpus: float | None = Field(None, ge=0, description="GPUs; a fraction shares one")


class FleetObject(Settings):
    """One object: a recipe, what its frames are made from, and changes."""

    name: str = Field(pattern=r"^[\w][\w.-]*$", description="name of its run's folder: letters, digits, - _ .")
    recipe: str | None = Field(None, description="its recipe; none: that of the fleet")
    photos: str | None = Field(None, description="folder of photographs")
    mesh: str | None = Field(None, description="asset that is rendered; its light: capture.light")
    capture: dict[str, Any] | None = Field(None, description="table of a capture, as in a recipe")
    set: list[str] = Field([], description="changes, KEY=VALUE, after those of the fleet")
    seed: int | None = Field(None, description="replaces the seed of fleet and recipe")
    until: str | None = Field(None, description="its last stage; none: that of the fleet")


class FleetSettings(Settings):
    """Many objects, and where their stages run."""

    name: str | None = Field(None, description="name of the fleet; none: that of the file or folder")
    out: str | None = Field(
        None, description="folder that all nodes share, or address of an object store; none: runs/NAME"
    )
    recipe: str | None = Field(None, description="recipe of objects that name none; none: photos-standard")
    until: str | None = Field(None, description="the last stage of every object; none: all")
    engine: Literal["local", "ray", "slurm"] | None = Field(None, description="what runs the tasks; none: local")
    address: str | None = Field(
        None, description="ray: local, auto or ray://HOST:PORT; slurm: slurm, or local for a trial; none: the first"
    )
    workers: int | None = Field(None, ge=1, description="tasks at once; none: what cores, memory and GPUs allow")
    cores: int | None = Field(None, ge=1, description="cores of a task, and its threads; none: 2, or all if fewer")
    memory: float | None = Field(None, gt=0, description="gigabytes of memory of a task; none: 3")
    gpus: float | None = Field(None, ge=0, description="GPUs of a task, a fraction shares one; none: 0")
    needs: dict[str, TaskNeeds] = Field({}, description="needs of single stages: a table for each, by its name")
    retries: int | None = Field(
        None, ge=0, description="how often a task is tried again if its process or node is lost; none: 2"
    )
    set: list[str] = Field([], description="changes for every object, KEY=VALUE, as --set of `stspbr run`")
    seed: int | None = Field(None, description="replaces the recipes' seeds")
    device: str | None = Field(None, description="where tensors are computed; none: cuda for tasks with GPUs, else cpu")
    backend: str | None = Field(None, description="raster operations, as --backend of `stspbr run`; none: auto")
    scratch: str | None = Field(
        None, description="each node's folder for runs of an object store; none: its folder of temporary files"
    )
    slurm: dict[str, Any] = Field({}, description="more of submitit's parameters: timeout_min, slurm_partition, …")
    objects: list[FleetObject] = Field([], description="the objects")
