"""Texels against the weights of a net, with a loss in pixels to a fixed texture: texels fit far better."""

from __future__ import annotations

import numpy as np
import torch

from stspbr.optimize.appearance import MaterialMaps, TextureAppearance
from stspbr.optimize.deep_maps import DeepAppearance
from stspbr.procedural.plain_shapes import superellipsoid
from stspbr.procedural.revolution import Profile, revolve
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, ViewBatch, render_gbuffer
from stspbr.scene.camera_rig import sphere_cameras

DEVICE = torch.device("cpu")
PROFILE = Profile(np.array([(0, 0.8), (0.4, 0.8), (0.6, 0.3), (0.5, -0.3), (0.6, -0.8), (0.0, -0.8)], float))
SIDE = 32


def fitted(appearance, truth, gbuffers, steps, rate):
    """PSNR of the views after fitting the maps to those of ``truth``."""
    parameters = [p for group in appearance.groups().values() for p in group]
    optimizer = torch.optim.Adam(parameters, lr=rate, eps=1e-15)
    with torch.no_grad():
        targets = [truth.evaluate(gbuffer, 1.0).albedo for gbuffer in gbuffers]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * 0.01 ** (step / steps)
        number = step % len(gbuffers)
        loss = (appearance.evaluate(gbuffers[number], 1.0).albedo - targets[number]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        appearance.constrain()
    with torch.no_grad():
        pairs = zip(gbuffers, targets, strict=True)
        errors = [(appearance.evaluate(gbuffer, 1.0).albedo - target).square().mean() for gbuffer, target in pairs]
    return float(-10 * torch.log10(torch.stack(errors).mean()))


def test_texels_fit_a_texture_better_than_a_net_does():
    backend = get_backend("cpu", DEVICE)
    surface = Surface.of(revolve(*PROFILE.sampled(15), 16), DEVICE)
    cameras = sphere_cameras(4, 3.6, 34.0, 64)
    gbuffers = [render_gbuffer(surface, ViewBatch.of([c], [np.eye(4)], DEVICE), backend) for c in cameras]
    rng = torch.Generator().manual_seed(0)
    image = torch.rand((SIDE // 4, SIDE // 4, 3), generator=rng).repeat_interleave(4, 0).repeat_interleave(4, 1)
    others = {"roughness_range": (0.03, 1.0), "joint": False, "backend": backend}

    def maps(albedo):
        return [MaterialMaps(albedo, torch.full((SIDE, SIDE, 2), 0.5), None)]

    truth = TextureAppearance(maps(image), **others)
    grey = torch.full((SIDE, SIDE, 3), 0.5)
    explicit = fitted(TextureAppearance(maps(grey), **others), truth, gbuffers, 160, 0.05)
    before = fitted(DeepAppearance(maps(grey), 0, **others), truth, gbuffers, 0, 0.01)
    deep = fitted(DeepAppearance(maps(grey), 0, **others), truth, gbuffers, 160, 0.01)
    print(f"explicit {explicit:.1f} dB, dip {deep:.1f} dB, from {before:.1f} dB")
    assert explicit >= 45.0 and explicit >= deep + 8.0
    assert deep > before + 0.5  # it learns, slowly


def test_shapes_are_closed_and_face_outwards():
    mesh = superellipsoid(0.5, 1.0, (0.7, 0.8, 0.9))
    corners = mesh.positions[mesh.faces].astype(float)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert volume > 0 and (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert np.linalg.norm(mesh.positions, axis=1).max() <= 0.951
