"""Write an :class:`Asset` as USD (``.usda``, ``.usdc``, ``.usd``) or USDZ with UsdPreviewSurface materials.

``/<name>`` is the default prim: an Xform of kind ``component`` that holds the asset's nodes as Xforms, the meshes and
a scope ``Materials``. The environment is a dome beside it, ``/Environment``, so that who references the asset gets the
asset alone. Metres, +Y up. Prim names are ASCII identifiers; the names that they were made from are ``displayName``.

A USDZ is for AR viewers, whose profile has no dome: it contains the asset alone, and the light goes beside it.
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError
from stspbr.files import atomic_path, safe_name, write_file
from stspbr.formats.asset_checks import check_writable
from stspbr.formats.images import encode_png, write_exr
from stspbr.formats.usd.light import usd_latlong
from stspbr.formats.usd.material_writer import MaterialWriter
from stspbr.formats.usd.stage import USD_SUFFIXES, require_usd
from stspbr.scene.asset import Asset
from stspbr.scene.attributes import mesh_normals, unit
from stspbr.scene.light import EnvironmentLight
from stspbr.scene.mesh import Mesh
from stspbr.scene.origin import shift
from stspbr.version import __version__


def write_usd(
    path: str | Path, asset: Asset, light: EnvironmentLight | None = None, texture_bits: int = 8
) -> list[str]:
    """Write an asset, and the light it was seen in, as one USD file with its textures; atomically, the USD file last.

    Textures are PNGs in ``<stem>_textures/`` beside the file, the light an EXR there; a USDZ has its textures inside,
    and a light goes to ``<stem>_environment.usda`` beside it. Albedo is sRGB; occlusion, roughness and metallic are
    the channels of one packed map; normals have scale 2 and bias −1. Maps with a single texel become values, which
    are exact. Missing normals are written smooth. The same asset gives the same bytes.

    Args:
        path: ``.usda`` (text), ``.usdc`` or ``.usd`` (binary), ``.usdz`` (one uncompressed package).
        light: becomes a DomeLight, its texture in USD's own orientation.
        texture_bits: 8 or 16; a USDZ has 8.

    Returns:
        Remarks for the user.

    Raises:
        StspbrError: usd-core is absent; a textured material but no UVs; values that are not finite; nodes with a
            transform that cannot be inverted; a place that cannot be written.
    """
    path = Path(path)
    require_usd("USD files")
    if path.suffix.lower() not in USD_SUFFIXES:
        raise StspbrError(f"{path}: expected one of {', '.join(USD_SUFFIXES)}")
    if texture_bits not in (8, 16):
        raise StspbrError(f"{texture_bits} bits: choose 8 or 16")
    _check(path, asset)
    if path.suffix.lower() != ".usdz":
        _write(path, asset, light, texture_bits)
        return []
    notes = ["a USDZ contains PNGs of 8 bits: written as such"] if texture_bits != 8 else []
    if light is not None:
        beside = path.with_name(f"{path.stem}_environment.usda")
        stage = _new_stage(beside.stem)
        stage.SetDefaultPrim(_write_light(stage, beside, light))
        _export(stage, beside)
        notes.append(f"AR viewers support no dome light: it is written beside the USDZ, to {beside.name}")
    with tempfile.TemporaryDirectory() as folder, atomic_path(path) as temporary:
        inner = Path(folder) / f"{safe_name(path.stem, set())}.usdc"
        _write(inner, asset, None, 8)
        _package(temporary, Path(folder), [inner, *sorted(Path(folder).rglob("*.png"))])
    return notes


def _write(path: Path, asset: Asset, light: EnvironmentLight | None, bits: int) -> None:
    """The textures, then the layer that refers to them by relative paths."""
    from pxr import Kind, Usd, UsdGeom

    stage = _new_stage(path.stem)
    folder = _texture_folder(path)
    root_name = _identifier(asset.name, {"environment"})
    root = UsdGeom.Xform.Define(stage, f"/{root_name}").GetPrim()
    _label(root, asset.name)
    stage.SetDefaultPrim(root)
    model = Usd.ModelAPI(root)
    model.SetKind(Kind.Tokens.component)
    model.SetAssetName(asset.name)

    writer = MaterialWriter(stage, root.GetPath().AppendChild("Materials"), folder)
    names: set[str] = set()
    materials = []
    for material in asset.materials:
        name = _identifier(material.name, names)
        materials.append(writer.add(name, material))
        _label(materials[-1].GetPrim(), material.name)
    _write_meshes(stage, root, asset, materials)
    for file, (image, srgb) in writer.images.items():
        write_file(path.parent / folder / file, encode_png(image, bits=bits, srgb=srgb))
    if light is not None:
        _write_light(stage, path, light)
    _export(stage, path)


def _new_stage(name: str) -> Any:
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.CreateInMemory(f"{name}.usda")
    stage.GetRootLayer().customLayerData = {"creator": f"stspbr {__version__}"}
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    return stage


def _export(stage: Any, path: Path) -> None:
    from pxr import Tf

    with atomic_path(path) as temporary:
        try:
            done = stage.GetRootLayer().Export(str(temporary))
        except Tf.ErrorException:
            done = False
        if not done:
            raise StspbrError(f"cannot write {path}: choose another place")


def _texture_folder(path: Path) -> str:
    return f"{safe_name(path.stem.removesuffix('_environment'), set())}_textures"


def _write_light(stage: Any, path: Path, light: EnvironmentLight) -> Any:
    """The EXR, and the prim ``/Environment`` that shows it."""
    from pxr import Sdf, UsdLux

    folder = _texture_folder(path)
    write_exr(path.parent / folder / "environment.exr", usd_latlong(light.radiance))
    dome = UsdLux.DomeLight.Define(stage, "/Environment")
    dome.CreateTextureFileAttr(Sdf.AssetPath(f"./{folder}/environment.exr"))
    dome.CreateTextureFormatAttr("latlong")
    dome.CreateIntensityAttr(1.0)
    return dome.GetPrim()


def _package(path: Path, folder: Path, files: list[Path]) -> None:
    """A USDZ as its specification has it: an uncompressed ZIP, each file at a multiple of 64 bytes, the layer first.

    Written by itself because usd-core's writer stores the time, so that equal assets would give unequal bytes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as package:
        for file in files:
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            start = package.start_dir + 30 + len(info.filename.encode())  # where the next header goes
            padding = -(start + 4) % 64
            info.extra = struct.pack("<HH", 0x1986, padding) + bytes(padding)
            package.writestr(info, file.read_bytes())


def _write_meshes(stage: Any, root: Any, asset: Asset, materials: list[Any]) -> None:
    """The nodes as Xforms, each with the triangles that belong to it; all triangles in one mesh without nodes."""
    from pxr import Gf, UsdGeom

    mesh = replace(asset.mesh, normals=mesh_normals(asset.mesh))  # smooth over the borders of nodes
    taken: dict[Any, set[str]] = {root.GetPath(): {"materials"}}
    if mesh.face_node is None or not asset.nodes:
        name = _identifier(asset.name, taken[root.GetPath()])
        _write_mesh(stage, root.GetPath().AppendChild(name), asset.name, mesh, np.eye(4), materials)
        if asset.origin.any():
            place = UsdGeom.Xformable(stage.GetPrimAtPath(root.GetPath().AppendChild(name)))
            place.AddTransformOp().Set(Gf.Matrix4d(shift(asset.origin).T.tolist()))
        return
    prims: list[Any] = []
    worlds: list[np.ndarray] = []
    for index, node in enumerate(asset.nodes):
        parent = root if node.parent is None else prims[node.parent]
        local = np.asarray(node.local_to_parent, np.float64)
        worlds.append(local if node.parent is None else worlds[node.parent] @ local)
        place = parent.GetPath().AppendChild(_identifier(node.name, taken[parent.GetPath()]))
        xform = UsdGeom.Xform.Define(stage, place)
        local = shift(asset.origin) @ local if node.parent is None else local
        if not np.array_equal(local, np.eye(4)):
            xform.AddTransformOp().Set(Gf.Matrix4d(local.T.tolist()))
        _label(xform.GetPrim(), node.name)
        prims.append(xform.GetPrim())
        taken[place] = set()
        chosen = np.flatnonzero(mesh.face_node == index)
        if len(chosen):
            name = node.mesh or node.name
            inner = place.AppendChild(_identifier(name, taken[place]))
            _write_mesh(stage, inner, name, mesh.of_faces(chosen), worlds[-1], materials)


def _write_mesh(stage: Any, place: Any, label: str, mesh: Mesh, world: np.ndarray, materials: list[Any]) -> None:
    """One Mesh prim whose points, under the transform ``world``, are those of ``mesh``."""
    from pxr import Sdf, UsdGeom, UsdShade, Vt

    types, tokens = Sdf.ValueTypeNames, UsdGeom.Tokens
    linear = world[:3, :3]
    plain = np.array_equal(world, np.eye(4))
    to_local = np.eye(4) if plain else np.linalg.inv(world)
    mirrored = np.linalg.det(linear) < 0
    order = [0, 2, 1] if mirrored else [0, 1, 2]  # under a mirror the winding that is seen turns round
    used, faces = np.unique(mesh.faces[:, order], return_inverse=True)
    points = mesh.positions[used].astype(np.float64) @ to_local[:3, :3].T + to_local[:3, 3]
    points = mesh.positions[used] if plain else points.astype(np.float32)

    prim = UsdGeom.Mesh.Define(stage, place)
    _label(prim.GetPrim(), label)
    prim.CreateSubdivisionSchemeAttr(tokens.none)
    prim.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(points, np.float32)))
    prim.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([points.min(axis=0), points.max(axis=0)])))
    prim.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    prim.CreateFaceVertexIndicesAttr(_ints(faces.reshape(-1)))

    normals = mesh_normals(mesh)
    rows = unit(normals.values, (0.0, 1.0, 0.0))[normals.index[:, order].reshape(-1)]
    rows = rows if plain else unit(rows.astype(np.float64) @ linear, (0.0, 1.0, 0.0))
    prim.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(rows)))
    prim.SetNormalsInterpolation(tokens.faceVarying)

    primvars = UsdGeom.PrimvarsAPI(prim)
    if mesh.uvs is not None:
        kept, index = np.unique(mesh.uvs.index[:, order], return_inverse=True)
        uvs = mesh.uvs.values[kept].astype(np.float64) * (1, -1) + (0, 1)  # USD's v grows upwards
        st = primvars.CreatePrimvar("st", types.TexCoord2fArray, tokens.faceVarying)
        st.Set(Vt.Vec2fArray.FromNumpy(uvs.astype(np.float32)))
        st.SetIndices(_ints(index.reshape(-1)))
    if mesh.tangents is not None:
        kept, index = np.unique(mesh.tangents.index[:, order], return_inverse=True)
        tangents = mesh.tangents.values[kept].astype(np.float32)
        if not plain:
            tangents[:, :3] = unit(tangents[:, :3] @ to_local[:3, :3].T, (1.0, 0.0, 0.0))
            tangents[:, 3] *= -1 if mirrored else 1
        frame = primvars.CreatePrimvar("tangents", types.Float4Array, tokens.faceVarying)
        frame.Set(Vt.Vec4fArray.FromNumpy(tangents))
        frame.SetIndices(_ints(index.reshape(-1)))

    owner = mesh.material_of
    present = np.unique(owner)
    if len(present) == 1:
        UsdShade.MaterialBindingAPI.Apply(prim.GetPrim()).Bind(materials[present[0]])
        return
    for material in present:
        name = materials[material].GetPrim().GetName()
        chosen, bind = _ints(np.flatnonzero(owner == material)), UsdShade.Tokens.materialBind
        subset = UsdGeom.Subset.CreateGeomSubset(prim, name, tokens.face, chosen, bind)
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(materials[material])
    UsdGeom.Subset.SetFamilyType(prim, UsdShade.Tokens.materialBind, tokens.partition)


def _ints(values: np.ndarray) -> Any:
    from pxr import Vt

    return Vt.IntArray.FromNumpy(np.ascontiguousarray(values, np.int32))


def _identifier(name: str, taken: set[str]) -> str:
    """An ASCII prim name unlike its siblings'."""
    from pxr import Tf

    return Tf.MakeValidIdentifier(safe_name(Tf.MakeValidIdentifier(name or "asset"), taken))


def _label(prim: Any, name: str) -> None:
    if name and name != prim.GetName():
        prim.SetDisplayName(name)


def _check(path: Path, asset: Asset) -> None:
    if not asset.nodes:
        asset = replace(asset, mesh=replace(asset.mesh, face_node=None))  # without nodes nothing reads it
    check_writable(path, asset)
    mesh = asset.mesh
    if mesh.face_node is None or not asset.nodes:
        return
    worlds: list[np.ndarray] = []
    for index, node in enumerate(asset.nodes):
        local = np.asarray(node.local_to_parent, np.float64)
        worlds.append(local if node.parent is None else worlds[node.parent] @ local)
        if (mesh.face_node == index).any() and not abs(np.linalg.det(worlds[-1][:3, :3])) > 1e-30:
            raise StspbrError(f"cannot write {path}: node {node.name} has a scale of 0: give it one, or drop the nodes")
