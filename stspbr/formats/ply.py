"""PLY: a mesh with the material's values at its vertices, for tools without textures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stspbr.colour import linear_to_srgb
from stspbr.errors import StspbrError
from stspbr.files import write_file
from stspbr.scene.asset import Asset
from stspbr.scene.attributes import mesh_normals, unique_rows, unit
from stspbr.scene.bilinear import bilinear
from stspbr.version import __version__

_TYPES = {"f4": "float", "f8": "double", "u1": "uchar"}


def write_ply(path: str | Path, asset: Asset) -> None:
    """Write a binary PLY, atomically, with vertices split at seams.

    A vertex has position, normal (``nx ny nz``), texture coordinates (``s t``, t upwards, if the asset has UVs),
    colour (``red green blue``, sRGB bytes sampled from the albedo) and ``roughness`` and ``metallic`` as floats.
    Only vertices have colours: what the maps show between them is lost.

    Raises:
        StspbrError: no triangles; a textured material but no UVs; a place that cannot be written.
    """
    mesh = asset.mesh
    if len(mesh.faces) == 0:
        raise StspbrError(f"cannot write {path}: the mesh has no triangles")
    normals, uvs = mesh_normals(mesh), mesh.uvs
    owner = mesh.material_of
    uv_faces = np.zeros_like(mesh.faces) if uvs is None else uvs.index
    corners = np.stack([mesh.faces, uv_faces, normals.index, np.repeat(owner[:, None], 3, axis=1)], axis=-1)
    vertices, index = unique_rows(corners.reshape(-1, 4).astype(np.int32))
    point, uv, normal, material = vertices.T
    points = mesh.positions[point]
    points = points + asset.origin if asset.origin.any() else points  # double where float would not do
    columns = dict(zip("xyz", points.T, strict=True))
    columns |= dict(zip(("nx", "ny", "nz"), unit(normals.values, (0.0, 1.0, 0.0))[normal].T, strict=True))
    places = np.zeros((len(vertices), 2)) if uvs is None else uvs.values[uv].astype(np.float64)
    if uvs is not None:
        columns |= {"s": places[:, 0], "t": 1.0 - places[:, 1]}
    values = np.zeros((len(vertices), 5))
    for number, one in enumerate(asset.materials):
        chosen = material == number
        maps = (one.albedo, one.roughness, one.metallic)
        if uvs is None and any(image.shape[:2] != (1, 1) for image in maps):
            raise StspbrError(f"cannot write {path}: {one.name} has maps but the mesh has no UVs: unwrap it first")
        values[chosen] = np.concatenate([bilinear(image, places[chosen]) for image in maps], axis=1)
    colour = np.rint(linear_to_srgb(np.clip(values[:, :3], 0, 1)) * 255).astype(np.uint8)
    columns |= dict(zip(("red", "green", "blue"), colour.T, strict=True))
    columns |= {"roughness": values[:, 3], "metallic": values[:, 4]}
    write_file(path, _encoded(columns, index.reshape(-1, 3)))


def _encoded(columns: dict[str, np.ndarray], faces: np.ndarray) -> bytes:
    kinds = {name: "u1" if values.dtype == np.uint8 else "f4" for name, values in columns.items()}
    kinds |= {name: columns[name].dtype.str[1:] for name in "xyz"}
    rows = np.zeros(len(columns["x"]), [(name, f"<{kind}") for name, kind in kinds.items()])
    for name, values in columns.items():
        rows[name] = values
    triangles = np.zeros(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces
    head = ["ply", "format binary_little_endian 1.0", f"comment stspbr {__version__}", f"element vertex {len(rows)}"]
    head += [f"property {_TYPES[kind]} {name}" for name, kind in kinds.items()]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(head).encode("ascii") + rows.tobytes() + triangles.tobytes()
