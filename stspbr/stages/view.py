"""View: a live page of a run, or a film of it; nothing is written to the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError
from stspbr.scene import Frame
from stspbr.stages.relight import turntable_frames
from stspbr.stages.session import Session
from stspbr.stages.view_source import RunSource
from stspbr.view.drawing import Look, photo_camera, photo_picture, to_bytes
from stspbr.view.film import check_film, write_film
from stspbr.view.painter import LARGEST
from stspbr.view.placement import Placement
from stspbr.view.server import Server
from stspbr.view.serving import require_viser
from stspbr.view.subject import Subject
from stspbr.view.viewer import NEWEST, OWN_LIGHT, Choice, Viewer


def run_view(
    session: Session, host: str, port: int, lights: list[str], size: int | None, announce: Callable[[str], None]
) -> None:
    """Serve a live page of the session's run until Ctrl-C.

    Args:
        host, port: to listen on; if the port is taken, the next one is used.
        lights: further lights to choose from, as ``evaluate --lights`` takes them.
        size: pixels along the longer side of a picture of a camera that rests; None: the default.
        announce: gets the page's address, with the token if it asks for one.

    Raises:
        StspbrError: the run or a light does not exist, viser is not installed, or no port is free.
    """
    require_viser()
    viewer = Viewer(session.run, RunSource(session, lights))
    with Server(viewer, host, port, largest=size or LARGEST, say=session.say) as server:
        if server.guard.port != port:
            session.say(f"port {port} is taken; this is {server.guard.port}")
        session.say(f"{viewer.headline()}; Ctrl-C ends the page, and leaves the run alone")
        announce(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


@dataclass(frozen=True)
class Turntable:
    """How a film is made.

    Attributes:
        frames: pictures per turn; size: pixels along a side; fps: pictures per second.
        show: version; channel, light: see ``Choice``.
    """

    frames: int = 120
    size: int = 512
    fps: float = 30.0
    show: str = NEWEST
    channel: str = "shaded"
    light: str = OWN_LIGHT


def run_turntable(session: Session, path: Path, how: Turntable, lights: list[str]) -> int:
    """Write a film of a run without any window: a turn about its newest asset, and return the number of frames.

    A capture of photos, which has no asset, shows the photos themselves, by their azimuth about the object.

    Raises:
        StspbrError: nothing that could be shown, or a film that cannot be written.
    """
    check_film(path)
    viewer = Viewer(session.run, RunSource(session, lights))
    if how.show != NEWEST and how.show not in viewer.shown():
        raise StspbrError(f"--show {how.show}: choose {', '.join(viewer.shown())}")
    if how.light not in viewer.lights():
        raise StspbrError(f"--light {how.light}: choose {', '.join(viewer.lights())}; --lights adds files")
    subject, error = viewer.subject(how.show)
    if error:
        raise StspbrError(error)
    if subject is None:
        return write_film(path, _photos(viewer, how), how.fps)
    if how.channel not in subject.channels:
        raise StspbrError(f"--channel {how.channel}: choose {', '.join(subject.channels)}")
    choice = Choice(show=how.show, light=how.light, look=Look(channel=how.channel))
    return write_film(path, _turn(viewer, subject, choice, how), how.fps)


def _turn(viewer: Viewer, subject: Subject, choice: Choice, how: Turntable) -> Iterator[np.ndarray]:
    positions = subject.surface.positions.detach().cpu().numpy()
    for frame in turntable_frames(positions, how.frames, how.size):
        view = viewer.draw(choice, frame.camera)
        if view.error:
            raise StspbrError(view.error)
        yield view.image


def _photos(viewer: Viewer, how: Turntable) -> Iterator[np.ndarray]:
    frames, error = viewer.frames()
    if error or not frames:
        raise StspbrError(error or f"{viewer.run}: there is nothing to be shown yet")
    centre = Placement.of_cameras(frames).centre
    for frame in sorted(frames, key=lambda frame: azimuth(frame, centre))[:: max(1, len(frames) // how.frames)]:
        yield to_bytes(photo_picture(frame, photo_camera(frame, how.size, how.size)))


def azimuth(frame: Frame, centre: np.ndarray) -> float:
    """Where a camera stands about the object's upright axis, in radians from +Z towards +X, in [0, 2π)."""
    eye = (np.linalg.inv(frame.object_to_world) @ frame.camera.camera_to_world)[:3, 3] - centre
    return float(np.arctan2(eye[0], eye[2]) % (2.0 * np.pi))
