"""Export asset: a bake, or any readable asset, in the formats of other tools; the light beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.artifacts import Artifact, ArtifactStore
from stspbr.datasets.transforms import original_from_world
from stspbr.errors import StspbrError
from stspbr.files import safe_name
from stspbr.formats.asset_writer import write_asset
from stspbr.formats.assets import read_asset
from stspbr.formats.images import read_image, write_exr, write_hdr
from stspbr.geometry.tangents import with_frames
from stspbr.procedural.by_name import is_procedural
from stspbr.scene import Asset, EnvironmentLight
from stspbr.scene.light import turned_light
from stspbr.settings import ExportSettings
from stspbr.stages.lod_error import lod_psnr
from stspbr.texture.lod import simplify_textured

SUFFIXES = {
    "glb": (".glb",),
    "gltf": (".gltf",),
    "obj": (".obj",),
    "usd": (".usd", ".usda", ".usdc"),
    "usdz": (".usdz",),
    "ply": (".ply",),
    "blender": (),
}


@dataclass
class ExportReport:
    """What was written.

    Attributes:
        files: their final paths, the main one first; notes: remarks for the user.
        levels: ``file``, ``faces`` and ``psnr`` (dB, lowest of the views) of each level of detail.
    """

    files: list[Path]
    notes: list[str]
    levels: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        levels = [{**level, "file": str(level["file"])} for level in self.levels]
        return {"files": [str(path) for path in self.files], "notes": self.notes, "lods": levels}

    def lines(self) -> list[str]:
        """One line per file."""
        details = {
            level["file"]: f": {level['faces']} triangles, {level['psnr']:.1f} dB against the full mesh"
            for level in self.levels
        }
        return [f"{path}{details.get(path, '')}" for path in self.files]


def export_asset(source: str, out: Path, settings: ExportSettings, version: str | None = None) -> ExportReport:
    """Write ``source`` in the format of ``settings``; nothing appears at ``out`` until all files are written.

    Args:
        source: a run's folder (its bake, in the object's own units, and its light), or what ``read_asset`` reads.
        out: the file; a folder for ``blender``. The light is ``<stem>_light.hdr`` and ``.exr`` beside it (``light.hdr``
            and ``.exr`` in the folder). Levels of detail are ``<stem>_lod1.<suffix>`` …
        version: of the bake, if ``source`` is a run.

    Raises:
        StspbrError: no such run, version or file, an asset that the format cannot hold, or ``out`` cannot be written.
    """
    out = Path(out)
    _check_place(out, settings.to)
    asset, light, notes = _read(source, version, settings)
    levels = _levels(asset, settings.lod, light, notes)
    folder = out if settings.to == "blender" else out.parent
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise StspbrError(f"cannot write {out} ({error.strerror}): choose another place") from error
    try:
        main = "asset.glb" if settings.to == "blender" else out.name
        names = [f"{out.stem}_lod{number}{out.suffix}" for number in range(1, len(levels) + 1)]
        for name, one in zip([main, *names], [asset, *(level["asset"] for level in levels)], strict=True):
            notes += [note for note in _write(staging / name, one, light, settings) if note not in notes]
        if light is not None:
            stem = "light" if settings.to == "blender" else f"{safe_name(out.stem, set())}_light"
            write_exr(staging / f"{stem}.exr", light.radiance)
            write_hdr(staging / f"{stem}.hdr", light.radiance)
        files = _moved(staging, folder, main)
    except StspbrError as error:
        raise StspbrError(str(error).replace(str(staging), str(folder))) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    details = [
        {"file": folder / name, "faces": len(level["asset"].mesh.faces), "psnr": level["psnr"]}
        for name, level in zip(names, levels, strict=True)
    ]
    return ExportReport(files, notes, details)


def _check_place(out: Path, to: str) -> None:
    """Raise StspbrError if ``out`` has the wrong suffix for the format ``to``, or something else has its name."""
    wanted = SUFFIXES[to]
    if wanted and out.suffix.lower() not in wanted:
        raise StspbrError(f"--out {out}: with --to {to} the name must end with {' or '.join(wanted)}")
    if (out.exists() and not out.is_dir()) if to == "blender" else out.is_dir():
        kind = "a folder" if to == "blender" else "a file"
        other = "file" if to == "blender" else "folder"
        raise StspbrError(f"--out {out}: --to {to} writes {kind}, but a {other} has that name: choose another")


def _read(
    source: str, version: str | None, settings: ExportSettings
) -> tuple[Asset, EnvironmentLight | None, list[str]]:
    """The asset with its own tangent frames if a normal map needs them, the light, and notes."""
    light: EnvironmentLight | None = None
    notes: list[str] = []
    if not is_procedural(source) and Path(source).is_dir():
        store = ArtifactStore(Path(source))
        bake = store.finished(version)
        asset = read_asset(bake.file("asset.glb"))
        if "light.hdr" in bake.files:
            light = EnvironmentLight(read_image(bake.file("light.hdr"))[0])
        if settings.original_frame:
            asset, light = _put_back(asset, light, store, bake, notes)
        held = bake.settings.get("texture_bits", 8)
        if settings.texture_bits > held:
            made = f"the {bake.stage} has {held}-bit maps"
            notes.append(f"{made}: more bits add nothing; `stspbr {bake.stage} --set texture_bits=16`")
    else:
        if version is not None:
            raise StspbrError(f"--from {version}: {source} is not a run, and only runs have versions")
        asset = read_asset(source)
    notes += asset.extras.get("notes", [])
    mesh = asset.mesh
    if any(material.normal is not None for material in asset.materials) and mesh.uvs is not None:
        mesh = with_frames(mesh)
    else:
        mesh = replace(mesh, tangents=None)  # nothing uses them
    return replace(asset, mesh=mesh), light, notes


def _put_back(
    asset: Asset, light: EnvironmentLight | None, store: ArtifactStore, bake: Artifact, notes: list[str]
) -> tuple[Asset, EnvironmentLight | None]:
    """Asset and light in the world that the poses of their capture came in."""
    source = bake if bake.stage == "bake" else store.parent_of(bake, "bake")
    if "prompt" in source.settings:  # maps from a text: the mesh is where it always was
        return asset, light
    for stage in ("specialize", "coarse", "capture"):
        source = store.parent_of(source, stage)
    back = original_from_world(source.file("transforms.json"))
    if back is None:
        notes.append("--original-frame: the capture's world is the one that its poses came in")
        return asset, light
    turn = back[:3, :3] / np.cbrt(np.linalg.det(back[:3, :3]))
    return asset.transformed(back), light and turned_light(light, turn)


def _levels(asset: Asset, budgets: list[int], light: EnvironmentLight | None, notes: list[str]) -> list[dict[str, Any]]:
    """Levels of detail (``asset``), each made from the full mesh, with their PSNR against it (``psnr``)."""
    levels = [replace(asset, mesh=simplify_textured(asset.mesh, budget)) for budget in budgets]
    for budget, level in zip(budgets, levels, strict=True):
        if len(level.mesh.faces) > budget:
            notes.append(f"--lod {budget}: seams and borders leave {len(level.mesh.faces)} triangles")
    errors = lod_psnr(asset, levels, light) if levels else []
    return [{"asset": level, "psnr": error} for level, error in zip(levels, errors, strict=True)]


def _write(path: Path, asset: Asset, light: EnvironmentLight | None, settings: ExportSettings) -> list[str]:
    """Write one asset to one path; return remarks for the user."""
    bits, kind = settings.texture_bits, settings.texture_format
    if settings.to == "blender":
        from stspbr.formats.blender import write_blender

        return write_blender(path.parent, asset, light, bits, kind)
    return write_asset(path, asset, light, texture_bits=bits, texture_format=kind, quantized=settings.quantized)


def _moved(staging: Path, folder: Path, main: str) -> list[Path]:
    """Move all files from ``staging`` into ``folder``, the main one last; return their paths, the main one first."""
    found = (path for path in staging.rglob("*") if path.is_file())
    out: list[Path] = []
    for path in sorted(found, key=lambda path: (path == staging / main, path)):
        target = folder / path.relative_to(staging)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        except OSError as error:
            raise StspbrError(f"cannot write {target} ({error.strerror}): choose another place") from error
        out.insert(0, target)
    return [out[0], *sorted(out[1:])]
