"""Scenes view: a live page of a trained model; nothing is written to the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stspbr.neural.model import Views, averaged
from stspbr.neural.partitions import FACTORS
from stspbr.optimize.attribution import Attribution, of_picture, pixels
from stspbr.render.scene_tracer import SceneTracer
from stspbr.scenes.description import Scene, SceneCamera, composed
from stspbr.scenes.generation import kind_of
from stspbr.scenes.tracing import pose_numbers, render_views, traced_scene
from stspbr.stages.scenes_source import Source
from stspbr.stages.session import Session
from stspbr.view.scene_server import SceneServer
from stspbr.view.scene_view import SceneChoice, Shown

_REFERENCE_SPP = 8


def run_scenes_view(session: Session, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve a page of the newest model until Ctrl-C.

    Args:
        host, port: to listen on; if the port is taken, the next one is used.
        announce: gets the page's address.

    Raises:
        StspbrError: there is no model, viser or Mitsuba is not installed, or no port is free.
    """
    show = ModelShow(Source.open(session))
    with SceneServer(show, host, port) as server:
        if server.guard.port != port:
            session.say(f"port {port} is taken; this is {server.guard.port}")
        session.say(f"{show.source.artifact.path.name} of {session.run}; Ctrl-C ends the page")
        announce(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


class ModelShow:
    """Pictures of a model for a page; all calls come from one thread."""

    def __init__(self, source: Source) -> None:
        self.source, self.count = source, source.count
        self._tracer = SceneTracer()
        self._scenes = lru_cache(maxsize=16)(source.scene)
        self._observed = lru_cache(maxsize=16)(self._observations)

    def predict(self, choice: SceneChoice) -> Shown:
        """See ``view.scene_view.SceneShow``."""
        source, model = self.source, self.source.model
        numbers = (choice.light, choice.geometry, choice.material)
        seen = [self._observed(number, choice.round, choice.observation_spp) for number in numbers]
        with torch.no_grad():
            vectors = source.swap([model.represent(one) for one in seen])
        scene, pose, fov = self._asked(choice)
        passes = [name for name in source.config.passes if name != "beauty"] or ["normal"]
        side = max(model.output_side, max(source.config.sizes))
        found = self._tracer.render(traced_scene(scene), pose, [fov], side, choice.query_spp, 1, passes)
        query = self._views(found, pose)
        with torch.no_grad():
            picture = torch.expm1(model.picture(vectors, query))[0]
        shown = Shown(
            _image(picture),
            [_image(one) for one in averaged(seen[1].buffers["beauty"], model.output_side)[0]],
            {name: _image(averaged(query.buffers[name], model.output_side)[0, 0]) for name in passes},
            lines=["light, geometry and material of " + ", ".join(map(str, numbers))],
        )
        if choice.pixel is not None:
            self._attribute(choice, shown, seen[1], query)
        return shown

    def reference(self, choice: SceneChoice, round: int) -> np.ndarray:
        """See ``view.scene_view.SceneShow``."""
        scene, pose, fov = self._asked(choice)
        side = self.source.model.output_side
        found = self._tracer.render(traced_scene(scene), pose, [fov], side, _REFERENCE_SPP, 100 + round, ["beauty"])
        return np.moveaxis(found["beauty"][0], 0, -1)

    def _attribute(self, choice: SceneChoice, shown: Shown, observations: Views, query: Views) -> None:
        """Of the scene whose shapes are shown; its own vector, since only its observations are on the page."""
        x, y = choice.pixel or (0, 0)
        outputs = pixels(self.source.model.output_side, x, y, choice.patch)
        found: Attribution = of_picture(self.source.model, observations, query, outputs)
        maps = found.maps
        if maps.shape[-1] != self.source.model.output_side and maps.shape[-1] % self.source.model.output_side == 0:
            maps = averaged(maps, self.source.model.output_side)
        shown.heat = maps.cpu().numpy()
        shares = found.partitions(self.source.model.every_partition[0].ranges())
        each = ", ".join(f"{name} {100 * shares[name]['share']:.0f} %" for name in FACTORS)
        shown.lines.append(f"pixel {x},{y} comes from {each}")

    def _asked(self, choice: SceneChoice) -> tuple[Scene, np.ndarray, float]:
        parts = [self._scenes(number) for number in (choice.light, choice.geometry, choice.material)]
        scene = composed(*(one for one, _ in parts))
        own = parts[1][1][-1]
        if choice.world_to_camera is None:
            return scene, own.world_to_camera[None], own.fov
        return scene, np.reshape(choice.world_to_camera, (1, 4, 4)), choice.fov

    def _observations(self, number: int, round: int, spp: int) -> Views:
        """The stored observations, or others: drawn and path-traced now."""
        source = self.source
        if round == 0 and spp == SceneChoice().observation_spp:
            return source.views(number).chosen(slice(0, -1))
        scene, cameras = self._scenes(number)
        chosen = cameras[:-1]
        if round:
            random = np.random.default_rng([number, round])
            chosen = [kind_of(source.config).camera(random) for _ in chosen]
        return self._traced(scene, chosen, spp, 10 + round)

    def _traced(self, scene: Scene, cameras: list[SceneCamera], spp: int, seed: int) -> Views:
        found = render_views(self._tracer, scene, cameras, self.source.side, spp, seed, self.source.config.passes)
        return self._views(found, None, pose_numbers(cameras))

    def _views(self, found: dict[str, np.ndarray], pose: np.ndarray | None, numbers: np.ndarray | None = None) -> Views:
        if numbers is None:
            assert pose is not None
            numbers = pose.reshape(len(pose), 16).astype(np.float32)
        device = self.source.device
        buffers = {name: torch.from_numpy(values)[None].to(device) for name, values in found.items()}
        return Views(buffers, torch.from_numpy(numbers)[None].to(device))


def _image(values: Tensor) -> np.ndarray:
    """``[C, S, S]`` as ``[S, S, C]``."""
    return np.moveaxis(values.cpu().numpy(), 0, -1)
