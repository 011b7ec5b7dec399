"""Meshes that UsdSkel poses, at the earliest time: as their animation has them, else at rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stspbr.formats.usd.stage import local_to_world
from stspbr.notes import Notes


@dataclass
class Posed:
    """Where a skinned mesh is.

    Attributes:
        matrix: ``[4, 4]`` from the points to the stage's world; the mesh's own transform does not count.
        points: ``[P, 3]`` that are bent; None if the mesh's own points are moved as a whole.
    """

    matrix: np.ndarray
    points: np.ndarray | None = None


def skinned(prim: Any, cache: Any, notes: Notes) -> Posed | None:
    """The pose of a Mesh prim with a skeleton; None without one."""
    from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

    binding = UsdSkel.BindingAPI(prim)
    skeleton = binding.GetInheritedSkeleton()
    root = UsdSkel.Root.Find(prim)
    if not (skeleton and root and prim.HasAPI(UsdSkel.BindingAPI)):
        return None
    skeletons = UsdSkel.Cache()
    skeletons.Populate(root, Usd.PrimDefaultPredicate)
    skin, skel = skeletons.GetSkinningQuery(prim), skeletons.GetSkelQuery(skeleton)
    name, time = str(prim.GetName()), Usd.TimeCode.EarliestTime()
    if not (skin and skel and skin.HasJointInfluences()):
        return None
    if skin.HasBlendShapes():
        notes("blend shapes are left out", name)
    transforms = skel.ComputeSkinningTransforms(time)
    mapper = skin.GetJointMapper()
    if mapper and transforms:
        transforms = mapper.RemapTransforms(transforms, Vt.Matrix4dArray(1, Gf.Matrix4d(1)))
    notes("skins are left out: their meshes stand as the skeleton does", name)
    world = local_to_world(cache, skel.GetPrim())
    if not transforms:
        return None
    each = np.array(transforms, np.float64).transpose(0, 2, 1)
    if np.allclose(each, each[:1], rtol=0, atol=1e-6 * max(1.0, float(np.abs(each).max()))):
        return Posed(world @ each[0] @ np.array(skin.GetGeomBindTransform(time), np.float64).T)
    points = UsdGeom.Mesh(prim).GetPointsAttr().Get(time)
    if not points or not skin.ComputeSkinnedPoints(transforms, points, time):
        return None
    notes("it is bent by its skeleton: its normals are computed anew", name)
    return Posed(world, np.array(points, np.float64))
