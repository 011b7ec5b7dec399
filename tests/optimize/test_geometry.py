"""A given shape with the normal maps of several materials looks as the asset does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from stspbr.errors import StspbrError
from stspbr.geometry.creases import split_normals
from stspbr.geometry.intersections import intersecting_pairs
from stspbr.geometry.tangents import with_frames
from stspbr.optimize.geometry import FixedGeometry
from stspbr.procedural.jar import demo_asset
from stspbr.render.asset_renderer import AssetRenderer
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import ViewBatch, render_gbuffer
from stspbr.render.prefilter import prefilter_latlong
from stspbr.scene import Asset, EnvironmentLight, Mesh
from stspbr.scene.camera_rig import object_cameras

CPU = torch.device("cpu")


def test_normal_maps_of_several_materials_bend_their_own_faces():
    asset = demo_asset(16, around=24, along=20)
    mesh = with_frames(asset.mesh)
    mesh.face_material = (np.arange(len(mesh.faces)) % 3).astype(np.int32)
    bends = np.random.default_rng(0).normal(size=(2, 8, 8, 3)) * 0.3 + [0, 0, 1]
    bends = (bends / np.linalg.norm(bends, axis=-1, keepdims=True)).astype(np.float32)
    normals = [bends[0], None, bends[1]]
    asset = Asset(mesh, [replace(asset.materials[0], normal=normal) for normal in normals])
    backend = get_backend("cpu", CPU)
    view = ViewBatch.of([object_cameras(mesh, 1, 0, 48)[0][0]], [np.eye(4)], CPU)
    geometry = FixedGeometry(mesh, movable=False, laplacian=0, folding=0, device=CPU, normal_maps=normals)
    found = render_gbuffer(geometry.surface(), view, backend)
    light = prefilter_latlong(EnvironmentLight(np.ones((8, 16, 3), np.float32)), base_resolution=128)
    out = AssetRenderer(asset, backend, CPU).render(view, light)
    wanted = out["normal"].reshape(-1, 3).index_select(0, found.covered)
    inside = out["alpha"].reshape(-1).index_select(0, found.covered) > 0.9999
    torch.testing.assert_close(found.normal[inside], wanted[inside], atol=1e-5, rtol=0)
    smooth = render_gbuffer(replace(geometry.surface(), normal_maps=None), view, backend).normal
    moved = (found.normal - smooth).norm(dim=1)
    owner = torch.as_tensor(mesh.face_material)[found.triangle]
    assert moved[owner == 1].max() < 1e-5 and moved[owner == 0].mean() > 0.1 and moved[owner == 2].mean() > 0.1


def test_the_vertices_of_a_mesh_move_by_offsets_that_bend_it_or_not():
    mesh = demo_asset(16, around=24, along=20).mesh
    geometry = FixedGeometry(mesh, movable=True, laplacian=1, folding=0, device=CPU)
    geometry.offsets.data += torch.tensor([0.1, -0.2, 0.3])
    (term,) = geometry.regularizers(0.0)
    assert term.name == "laplacian" and term.value.item() < 1e-8  # a translation bends nothing
    geometry.surface().positions.sum().backward()
    assert (geometry.offsets.grad == 1).all()
    geometry.offsets.data[0] += 0.1
    assert geometry.regularizers(0.0)[0].value.item() > 1e-3
    still = FixedGeometry(mesh, movable=False, laplacian=1, folding=1, device=CPU)
    assert not still.surface().positions.requires_grad and still.regularizers(0.0) == []
    for why, change in (("no faces", {"faces": mesh.faces[:0]}), ("indices beyond", {"positions": mesh.positions[:5]})):
        with pytest.raises(StspbrError, match=why):
            FixedGeometry(replace(mesh, **change), movable=True, laplacian=1, folding=0, device=CPU)


def test_split_normals_stay_split_while_vertices_move():
    box = trimesh.creation.box((1.0, 1.0, 1.0))
    positions, faces = box.vertices.astype(np.float32), box.faces.astype(np.int32)
    start, end = positions[faces], positions[np.roll(faces, -1, axis=1)]
    split = split_normals(positions, faces, (start == end).sum(axis=2) == 2)
    geometry = FixedGeometry(
        Mesh(positions, faces, normals=split), movable=True, laplacian=0.0, folding=0.0, device=torch.device("cpu")
    )
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    with torch.no_grad():
        geometry.offsets.copy_(torch.from_numpy(positions) @ turn.T - torch.from_numpy(positions))
    normals = geometry.surface().normals
    assert len(normals.values) == 24
    expected = torch.from_numpy(split.values[split.index]) @ turn.T
    torch.testing.assert_close(normals.values[normals.index.long()].detach(), expected, atol=1e-6, rtol=0)
    geometry.surface().normals.values.sum().backward()
    assert geometry.offsets.grad is not None


def test_a_mesh_that_has_moved_through_itself_is_untangled():
    ball = trimesh.creation.icosphere(3)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32))
    geometry = FixedGeometry(mesh, movable=True, laplacian=0.0, folding=0.0, device=CPU)
    assert geometry.untangle() == (0, 0)
    assert (geometry.offsets == 0).all()
    with torch.no_grad():
        geometry.offsets[7] = -2.2 * torch.as_tensor(ball.vertices[7])  # through the other side
    before, after = geometry.untangle()
    assert before > 0 and after == 0
    moved = geometry.surface()
    assert len(intersecting_pairs(moved.positions.detach().numpy(), ball.faces)) == 0
    still = FixedGeometry(mesh, movable=False, laplacian=0.0, folding=0.0, device=CPU)
    assert still.untangle() == (0, 0)
