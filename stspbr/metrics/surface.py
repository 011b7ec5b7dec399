"""Errors of material and geometry, measured at points of the surface and so free of UV layout and views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene.asset import Asset, Mesh
from stspbr.scene.camera import Camera

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def material_error(
    reference: Asset,
    estimate: Asset,
    samples: int = 100_000,
    seed: int = 0,
    seen: np.ndarray | None = None,
    max_distance_fraction: float = 0.02,
) -> dict:
    """Compare two assets' materials at random points of the reference's surface.

    Each point takes the nearest point of the estimate's surface; pairs that are too far apart, or whose
    faces look into opposite half-spaces, are left out and counted. Maps are read bilinearly, with wrap.

    Args:
        reference, estimate: assets in the same space; each face reads its own material.
        samples: points, uniform by area.
        seed: of the points; ``sample_surface(reference.mesh, samples, seed)`` gives the same ones.
        seen: ``[samples]`` bool, which of the points to use (``visible_points``); None for all.
        max_distance_fraction: largest distance of a pair, in diagonals of the reference's bounding box.

    Returns:
        ``samples``, ``used``, ``unseen``, ``too_far``, ``opposed`` (counts), ``albedo_scale`` (per RGB channel,
        the factor on the estimate that fits the reference best in the least-squares sense, over all used
        points; the light's scale is its inverse) and three regions with the same numbers: ``all``, ``lit``
        (reference albedo luminance > 0.02) and ``dark`` (< 0.1). In each: ``count``, ``albedo_mae``,
        ``albedo_psnr``, ``albedo_mae_scaled``, ``albedo_psnr_scaled``; ``roughness_`` and ``metallic_`` ``mae``,
        ``rmse``, ``bias`` (estimate − reference); ``false_metal_rate`` (share of dielectric points, reference
        metallic < ½, whose estimate is > ½), ``missed_metal_rate`` (the reverse; None where there are no such
        points); and standard errors of the means and shares (``…_se``). Albedo is linear.
    """
    points, face, barycentric = sample_surface(reference.mesh, samples, seed)
    if seen is not None and np.shape(seen) != (samples,):
        raise StspbrError(f"`seen` has shape {np.shape(seen)} but there are {samples} samples: one bool a sample")
    chosen = np.ones(samples, bool) if seen is None else np.asarray(seen, bool)
    points, face, barycentric = points[chosen], face[chosen], barycentric[chosen]

    other_face, other_barycentric, distance = _tree(estimate.mesh).closest(points)
    far = distance > max_distance_fraction * _diagonal(reference.mesh)
    agree = np.sum(_face_normals(reference.mesh)[face] * _face_normals(estimate.mesh)[other_face], axis=-1)
    opposed = ~far & (agree <= 0.0)
    ok = ~far & ~opposed
    truth = read_material(reference, face[ok], barycentric[ok])
    guess = read_material(estimate, other_face[ok], other_barycentric[ok])

    power = np.sum(guess["albedo"] ** 2, axis=0)
    scale = np.where(power > 0, np.sum(guess["albedo"] * truth["albedo"], axis=0) / np.maximum(power, 1e-30), 1.0)
    luminance = truth["albedo"] @ _LUMINANCE
    everywhere = np.ones(len(luminance), bool)
    regions = {"all": everywhere, "lit": luminance > 0.02, "dark": luminance < 0.1}
    return {
        "samples": int(samples),
        "used": int(ok.sum()),
        "unseen": int(samples - chosen.sum()),
        "too_far": int(far.sum()),
        "opposed": int(opposed.sum()),
        "albedo_scale": [float(s) for s in scale],
        **{name: _region(truth, guess, scale, mask) for name, mask in regions.items()},
    }


def geometry_error(reference: Mesh, estimate: Mesh, samples: int = 100_000, seed: int = 0) -> dict:
    """Distances between two surfaces, from ``samples`` points on either.

    Returns:
        ``chamfer_l1`` (mean of the two directed mean distances, in the meshes' unit) and its parts
        ``accuracy`` (estimate to reference) and ``completeness`` (reference to estimate); ``f_score_0.5%`` and
        ``f_score_1%`` (harmonic mean of the shares within that part of the reference's bounding-box diagonal);
        ``normal_consistency`` (mean of n·n' of the faces over both directions, 1 for the same); ``diagonal``.
    """
    diagonal = _diagonal(reference)
    distances, cosines = [], []
    for source, target, own_seed in ((estimate, reference, seed), (reference, estimate, seed + 1)):
        points, face, _ = sample_surface(source, samples, own_seed)
        other, _, distance = _tree(target).closest(points)
        distances.append(distance)
        cosines.append(np.sum(_face_normals(source)[face] * _face_normals(target)[other], axis=-1))
    out = {
        "chamfer_l1": 0.5 * float(distances[0].mean() + distances[1].mean()),
        "accuracy": float(distances[0].mean()),
        "completeness": float(distances[1].mean()),
        "normal_consistency": 0.5 * float(cosines[0].mean() + cosines[1].mean()),
        "diagonal": diagonal,
    }
    for name, fraction in (("0.5%", 0.005), ("1%", 0.01)):
        precision, recall = (float(np.mean(d <= fraction * diagonal)) for d in distances)
        out[f"f_score_{name}"] = 2.0 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return out


def sample_surface(mesh: Mesh, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points spread uniformly by area.

    Returns:
        ``(points [count, 3] float64, face ids [count] int64, barycentrics [count, 3] float64)``.
    """
    a, b, c = _corners(mesh)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    if len(area) == 0 or not np.isfinite(area.sum()) or area.sum() <= 0:
        raise StspbrError("cannot sample the surface: the mesh has no face with an area (or NaN vertices)")
    rng = np.random.default_rng(seed)
    face = np.searchsorted(np.cumsum(area) / area.sum(), rng.uniform(size=count), side="right")
    face = np.minimum(face, len(area) - 1)
    r, s = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
    barycentric = np.stack([1.0 - r, r * (1.0 - s), r * s], axis=-1)
    corners = np.stack([a[face], b[face], c[face]], axis=1)
    return np.einsum("nk,nkd->nd", barycentric, corners), face, barycentric


def visible_points(
    mesh: Mesh,
    points: np.ndarray,
    normals: np.ndarray,
    cameras: Sequence[Camera],
    poses: Sequence[np.ndarray] | None = None,
    minimum: int = 1,
) -> np.ndarray:
    """Which points of a surface at least ``minimum`` cameras see: in frame, from the front, not hidden.

    Args:
        mesh: what may stand in the way, object space.
        points, normals: ``[N, 3]`` object space, normals pointing outwards.
        cameras, poses: the views and their ``object_to_world`` (None for identity).

    Returns:
        ``[N]`` bool.
    """
    tree, step = _tree(mesh), 1e-4 * _diagonal(mesh)
    count = np.zeros(len(points), np.int64)
    start = points + step * normals  # off the surface, so that a point does not hide itself
    for k, camera in enumerate(cameras):
        pose = np.eye(4) if poses is None else np.asarray(poses[k], dtype=np.float64)
        eye = np.linalg.solve(pose, np.append(camera.position, 1.0))[:3]
        left = np.flatnonzero(count < minimum)
        clip = np.concatenate([points[left], np.ones((len(left), 1))], axis=1) @ camera.clip_from_object(pose).T
        framed = (np.abs(clip[:, :3]) <= clip[:, 3:]).all(axis=1)
        facing = np.sum((eye - points[left]) * normals[left], axis=-1) > 0
        left = left[framed & facing]
        count[left[~tree.blocked(start[left], np.broadcast_to(eye, (len(left), 3)))]] += 1
    return count >= minimum


def seen_samples(
    mesh: Mesh,
    cameras: Sequence[Camera],
    poses: Sequence[np.ndarray] | None = None,
    samples: int = 100_000,
    seed: int = 0,
    minimum: int = 1,
) -> np.ndarray:
    """``material_error``'s ``seen`` for a reference mesh and its cameras: ``[samples]`` bool."""
    points, face, _ = sample_surface(mesh, samples, seed)
    return visible_points(mesh, points, _face_normals(mesh)[face], cameras, poses, minimum)


def read_material(asset: Asset, face: np.ndarray, barycentric: np.ndarray) -> dict[str, np.ndarray]:
    """Albedo ``[N, 3]``, roughness and metallic ``[N]`` at surface points, each face by its own material."""
    mesh = asset.mesh
    if mesh.uvs is None:
        uv = np.zeros((len(face), 2))
    else:
        uv = np.einsum("nk,nkd->nd", barycentric, mesh.uvs.astype(np.float64)[mesh.uv_faces[face]])
    owner = np.zeros(len(face), np.int64) if mesh.face_material is None else mesh.face_material[face]
    if len(owner) and owner.max() >= len(asset.materials):
        raise StspbrError(f"{asset.name}: a face names material {owner.max()} of {len(asset.materials)}")
    out = {"albedo": np.zeros((len(face), 3)), "roughness": np.zeros(len(face)), "metallic": np.zeros(len(face))}
    for k in np.unique(owner):
        material, own = asset.materials[k], owner == k
        if mesh.uvs is None and max(material.albedo.size // 3, material.roughness.size, material.metallic.size) > 1:
            raise StspbrError(f"{asset.name}: material {material.name} has textures but the mesh has no UVs")
        out["albedo"][own] = sample_map(material.albedo, uv[own])
        out["roughness"][own] = sample_map(material.roughness, uv[own])[:, 0]
        out["metallic"][own] = sample_map(material.metallic, uv[own])[:, 0]
    return out


def sample_map(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear lookup with wrap, ``[N, C]``: ``image`` ``[H, W, C]``, ``uv`` ``[N, 2]``, (0, 0) the top-left corner."""
    height, width, _ = image.shape
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    column, row = np.floor(x), np.floor(y)
    s, t = (x - column)[:, None], (y - row)[:, None]
    c0, r0 = column.astype(np.int64) % width, row.astype(np.int64) % height
    c1, r1 = (c0 + 1) % width, (r0 + 1) % height
    image = np.asarray(image, dtype=np.float64)
    return (image[r0, c0] * (1 - s) + image[r0, c1] * s) * (1 - t) + (image[r1, c0] * (1 - s) + image[r1, c1] * s) * t


def _region(truth: dict, guess: dict, scale: np.ndarray, mask: np.ndarray) -> dict:
    count = int(mask.sum())
    out: dict = {"count": count}
    if count == 0:
        return out
    truth, guess = ({name: values[mask] for name, values in maps.items()} for maps in (truth, guess))
    for suffix, factor in (("", 1.0), ("_scaled", scale)):
        error = factor * guess["albedo"] - truth["albedo"]
        out[f"albedo_mae{suffix}"], out[f"albedo_mae{suffix}_se"] = _mean(np.abs(error).mean(axis=-1))
        out[f"albedo_psnr{suffix}"] = float(-10.0 * np.log10(max(np.mean(error**2), 1e-20)))
    for name in ("roughness", "metallic"):
        error = guess[name] - truth[name]
        out[f"{name}_mae"], out[f"{name}_mae_se"] = _mean(np.abs(error))
        out[f"{name}_bias"], out[f"{name}_bias_se"] = _mean(error)
        out[f"{name}_rmse"] = float(np.sqrt(np.mean(error**2)))
    metal, said = truth["metallic"] >= 0.5, guess["metallic"] > 0.5
    out["false_metal_rate"], out["false_metal_rate_se"] = _mean(said[~metal])
    out["missed_metal_rate"], out["missed_metal_rate_se"] = _mean(~said[metal])
    return out


def _mean(values: np.ndarray) -> tuple[float | None, float | None]:
    """Mean and its standard error; (None, None) of nothing."""
    if len(values) == 0:
        return None, None
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))


def _tree(mesh: Mesh):
    from stspbr.metrics.triangle_tree import build_tree  # Numba: not before it is needed

    if len(mesh.faces) == 0:
        raise StspbrError("cannot measure distances to an empty mesh: it has no face")
    if not np.isfinite(mesh.positions).all():
        raise StspbrError("cannot measure distances to a mesh with NaN or infinite vertices")
    return build_tree(mesh.positions, mesh.faces)


def _corners(mesh: Mesh) -> list[np.ndarray]:
    return [np.asarray(mesh.positions, dtype=np.float64)[mesh.faces[:, k]] for k in range(3)]


def _face_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals ``[F, 3]`` of the triangles; zero where there is no area."""
    a, b, c = _corners(mesh)
    n = np.cross(b - a, c - a)
    return n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-30)


def _diagonal(mesh: Mesh) -> float:
    used = np.asarray(mesh.positions, dtype=np.float64)[np.unique(mesh.faces)]
    return float(np.linalg.norm(used.max(axis=0) - used.min(axis=0)))
