"""Transport among copies whose poses are refined: bounces are kept while a pose moves a little, and come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from stspbr.fields.material_values import MaterialValues
from stspbr.render.backend import get_backend
from stspbr.render.gbuffer import Surface, surface_points
from stspbr.scene import Corners
from stspbr.transport.ground import Ground
from stspbr.transport.neighbours import Neighbours
from stspbr.transport.transport import Transport

from .scenes import gradient_sky, sphere

CPU = torch.device("cpu")
TURNS = ((0, 40, 0), (0, -30, 0), (0, -30.1, 0))


@pytest.fixture(scope="module", params=[None, Ground(np.array([0.0, 1.0, 0.0]), -1.2)], ids=["alone", "on a floor"])
def ground(request):
    return request.param


class Looks:
    """Views of a ball among copies of it, each in its pose, moved by ``degrees``."""

    def __init__(self, ground: Ground | None) -> None:
        positions, faces = sphere(200)
        self.surface = Surface(positions, faces, Corners(positions, faces))
        at = np.stack([np.eye(4)] * 3)
        at[:, :3, :3] = [Rotation.from_euler("xyz", turn, degrees=True).as_matrix() for turn in TURNS]
        at[:, :3, 3] = (0, 0, 0), (2.3, 0, 0), (0, 0, 2.4)
        self.poses, self.ground = at, ground
        self.backend = get_backend("cpu", CPU)
        self.transport = self.new()
        self.transport.refresh(self.surface, self.material)

    def new(self) -> Transport:
        transport = Transport(self.backend, poses=3, ground=self.ground, neighbours=Neighbours.of(self.poses))
        transport.drift = 0.5
        return transport

    @staticmethod
    def material(gbuffer) -> MaterialValues:
        one = torch.ones_like(gbuffer.position[:, :1])
        return MaterialValues(0.6 * one.expand(-1, 3), 0.3 * one, 0.2 * one, gbuffer.normal)

    def seen(self, transport: Transport, degrees: float, views=(0, 1, 2)) -> list[torch.Tensor]:
        """What arrives at some places of each view."""
        triangle = torch.arange(0, len(self.surface.faces), 40)
        gbuffer = surface_points(self.surface, triangle, torch.full((len(triangle), 2), 0.3), self.backend)
        places = transport.places(self.surface, gbuffer)
        light = gradient_sky().prefilter().detach()
        turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
        out = []
        for view in views:
            rotations = torch.from_numpy(self.poses[view, :3, :3] @ turn).float()[None]
            owner = torch.zeros(len(triangle), dtype=torch.int64)
            around = transport.around(places, rotations, owner, light)
            own = getattr(around, "lookups", around)
            ways, weights = gbuffer.normal[None].roll(1, 1), torch.ones(len(triangle), 4)
            out += [
                own.irradiance.total,
                around(torch.ones(1, len(triangle), 3), gbuffer.normal * 0 + 1, ways, weights)[0],
            ]
        return out


def test_bounces_are_kept_while_a_pose_moves_a_little(ground, monkeypatch):
    looks = Looks(ground)
    radiosity = looks.transport._snapshot.radiosity
    asked = []
    before = type(radiosity).bounced
    monkeypatch.setattr(type(radiosity), "bounced", lambda self, *rest: asked.append(1) or before(self, *rest))
    first = looks.seen(looks.transport, 0.0)
    assert len(asked) == 3  # the second and third copy are turned nearly alike, but stand elsewhere
    near = looks.seen(looks.transport, 0.3)
    assert len(asked) == 3
    for one, other in zip(first, near, strict=True):
        assert float((one - other).abs().mean()) < 0.02 * float(one.mean())
    looks.seen(looks.transport, 3.0, views=(0,))
    assert len(asked) == 4


def test_a_checkpoint_has_all_that_copies_send_on(ground):
    looks = Looks(ground)
    looks.seen(looks.transport, 0.0, views=(0, 2))
    again = looks.new()
    again.load_state(looks.transport.state())
    for one, other in zip(looks.seen(looks.transport, 0.2), looks.seen(again, 0.2), strict=True):
        assert torch.equal(one, other)
