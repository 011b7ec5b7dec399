"""Batches of rendered scenes on disk, as published: ``train/*.npz`` and ``test/*.npz``.

A file holds every buffer as float16 ``[B, V, C, H, W]``, ``poses`` ``[B, V, 16, 1, 1]`` and ``factor``: what differs
between its scenes, 0 light, 1 geometry, 2 material, −1 everything.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stspbr.errors import StspbrError
from stspbr.files import atomic_path
from stspbr.neural.model import Views, averaged
from stspbr.neural.partitions import FACTORS
from stspbr.scenes.description import Scene, SceneCamera, read_scene, write_scene
from stspbr.settings.scene_model import CHANNELS

_LARGEST = float(np.finfo(np.float16).max)
_KEPT = 1 << 30  # bytes of batches that stay in memory


@dataclass(frozen=True)
class Batch:
    """One file.

    Attributes:
        buffers: by pass, ``[B, V, C, H, W]`` float16, float32 if averaged; poses: ``[B, V, 16]`` float32.
        factor: what differs between its scenes.
    """

    buffers: Mapping[str, np.ndarray]
    poses: np.ndarray
    factor: int

    def views(self, device: torch.device | None = None) -> Views:
        """As float32 tensors."""
        buffers = {
            name: torch.from_numpy(values.astype(np.float32, copy=False)) for name, values in self.buffers.items()
        }
        poses = torch.from_numpy(np.array(self.poses, np.float32))
        if device is not None:
            buffers, poses = {name: values.to(device) for name, values in buffers.items()}, poses.to(device)
        return Views(buffers, poses)


def write_batch(path: Path, batch: Batch) -> None:
    """Write a file whole or not at all; equal batches give equal bytes."""
    arrays = {
        name: np.clip(batch.buffers[name], -_LARGEST, _LARGEST).astype(np.float16)
        for name in CHANNELS
        if name in batch.buffers
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays, poses=batch.poses[..., None, None].astype(np.float32), factor=np.int64(batch.factor))


def read_batch(path: Path, passes: Sequence[str]) -> Batch:
    """The passes of a file.

    Raises:
        StspbrError: the file is missing or damaged, lacks a pass, has another shape, or varies several factors.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = set(stored.files)
            for name in (*passes, "poses", "factor"):
                if name not in held:
                    what = "" if name in ("poses", "factor") else "pass "
                    raise StspbrError(
                        f"{path}: there is no {what}{name} (it holds: {', '.join(sorted(held))}); generate with it, or "
                        "train without it"
                    )
            buffers = {name: np.asarray(stored[name]) for name in passes}
            poses, factors = np.asarray(stored["poses"]), np.unique(np.asarray(stored["factor"]))
    except StspbrError:
        raise
    except FileNotFoundError:
        raise StspbrError(f"{path} does not exist: check the path") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        kind = type(error).__name__
        raise StspbrError(f"{path}: not a whole npz file ({kind}): delete it and generate again") from None
    except Exception as error:  # zlib's own error has no public base
        raise StspbrError(f"{path}: not a whole npz file ({type(error).__name__}): delete it, generate again") from None
    if len(factors) != 1 or int(factors[0]) not in (-1, 0, 1, 2):
        shown = ", ".join(str(int(one)) for one in factors)
        raise StspbrError(f"{path}: factor {shown}: a batch varies one factor, 0, 1 or 2, or all of them, -1")
    if poses.ndim < 3 or poses.shape[2] != 16:
        raise StspbrError(f"{path}: poses have the shape {poses.shape}, not [B, V, 16, 1, 1]")
    size = None
    for name, values in buffers.items():
        good = values.ndim == 5 and values.shape[:2] == poses.shape[:2] and values.shape[2] == CHANNELS[name]
        if not good or values.shape[3] != values.shape[4] or (size or values.shape[3]) != values.shape[3]:
            raise StspbrError(f"{path}: {name} has the shape {values.shape}, not [B, V, {CHANNELS[name]}, S, S]")
        size = values.shape[3]
        if not np.isfinite(values).all():
            raise StspbrError(f"{path}: {name} has values that are not finite")
    return Batch(buffers, poses.reshape(*poses.shape[:2], 16).astype(np.float32), int(factors[0]))


class Batches:
    """The files of one folder; what was read stays in memory as long as there is room.

    Args:
        folder: of npz files; passes: those that are read.
        side: to which the pictures are averaged down when they are read; None, or one that does not divide theirs: as
            they are stored.

    Raises:
        StspbrError: there is no such folder, or no file in it.
    """

    def __init__(self, folder: Path, passes: Sequence[str], side: int | None = None) -> None:
        self.paths = sorted(folder.glob("*.npz"))
        self.passes, self.side = list(passes), side
        if not self.paths:
            raise StspbrError(f"{folder}: no batches (npz) here: run `stspbr scenes generate`, or check the folder")
        self._read: OrderedDict[int, Batch] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Batch:
        if number not in self._read:
            batch = _averaged(read_batch(self.paths[number], self.passes), self.side)
            self._read[number] = batch
            self._held += _bytes(batch)
            while self._held > _KEPT and len(self._read) > 1:
                self._held -= _bytes(self._read.popitem(last=False)[1])
        return self._read[number]


def batch_name(number: int) -> str:
    """``batch000000012``."""
    return f"batch{number:09d}"


def write_batch_scenes(folder: Path, factor: int, scenes: Sequence[tuple[Scene, Sequence[SceneCamera]]]) -> None:
    """The JSON files of a batch: ``scene0000/view000.json`` and so on, and ``factor.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "factor.txt").write_text(f"{factor}\n", encoding="utf-8")
    for number, (scene, cameras) in enumerate(scenes):
        write_scene(folder / f"scene{number:04d}", scene, cameras)


def read_batch_scenes(folder: Path) -> tuple[int, list[tuple[Scene, list[SceneCamera]]]]:
    """The inverse of ``write_batch_scenes``.

    Raises:
        StspbrError: a file is missing or damaged, or the scenes differ in more than their factor.
    """
    try:
        factor = int((folder / "factor.txt").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise StspbrError(f"{folder / 'factor.txt'}: no such file with a number: give a batch's folder") from None
    scenes = [read_scene(place) for place in sorted(folder.glob("scene*"))]
    found = varied([scene for scene, _ in scenes])
    if factor >= 0 and found - {factor}:
        names = " and ".join(FACTORS[one] for one in sorted(found | {factor}))
        raise StspbrError(f"{folder}: its scenes differ in {names}: a batch varies one factor")
    return factor, scenes


def varied(scenes: Sequence[Scene]) -> set[int]:
    """The factors in which scenes differ."""
    parts = (lambda scene: scene.lights, lambda scene: scene.geometry, lambda scene: scene.materials)
    return {k for k, part in enumerate(parts) if any(part(scene) != part(scenes[0]) for scene in scenes[1:])}


def _averaged(batch: Batch, side: int | None) -> Batch:
    """The batch in float32 at this side; as it is if that is its own, or none."""
    have = next(iter(batch.buffers.values())).shape[-1]
    if side is None or have <= side or have % side:
        return batch
    buffers = {
        name: averaged(torch.from_numpy(values.astype(np.float32)), side).numpy()
        for name, values in batch.buffers.items()
    }
    return Batch(buffers, batch.poses, batch.factor)


def _bytes(batch: Batch) -> int:
    return sum(values.nbytes for values in batch.buffers.values())
