"""What the tabs of a page share: the run as it is now, and what was read of it. It knows nothing of browsers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from stspbr.errors import one_line
from stspbr.render.light import PrefilteredLight
from stspbr.scene import Camera, EnvironmentLight, Frame
from stspbr.view.drawing import (
    BACKGROUND,
    Lamp,
    Look,
    difference,
    divided,
    draw,
    labelled,
    photo_camera,
    photo_picture,
    to_bytes,
)
from stspbr.view.losses import Losses
from stspbr.view.placement import Placement
from stspbr.view.run_state import Activity, RunState, Version, look
from stspbr.view.subject import CHANNELS, Subject

NEWEST = "newest"
"""The entry of a list that follows the run."""
NOTHING, PHOTO, DIFFERENCE, BOTH = "nothing", "photo", "difference from the photo", "photo, difference"
"""What can stand beside a subject, besides another version; the last three while looking through a photo's camera."""
OF_PHOTO = (PHOTO, DIFFERENCE, BOTH)
OWN_LIGHT = "its own"
DIFFERENCE_LABEL = "difference, white from 25 %"
_KEPT = 4  # subjects in memory


class Source(Protocol):
    """The interface of what reads a run for the viewer; every error is a StspbrError or an OSError."""

    lights: Mapping[str, EnvironmentLight]

    def subject(self, version: Version) -> Subject | None:
        """What a version holds; None: nothing but photos."""

    def live(self, activity: Activity) -> Subject:
        """The surface of a stage that is going on, from its ``model``."""

    def frames(self, state: RunState) -> list[Frame]:
        """The photos of the run's newest capture."""

    def prefiltered(self, light: EnvironmentLight) -> PrefilteredLight:
        """A light as the shading reads it."""


@dataclass(frozen=True)
class Choice:
    """What one tab shows.

    Attributes:
        show: ``NEWEST`` or the name of a version.
        beside: ``NOTHING``, the name of a version, or one of ``OF_PHOTO`` while looking through a photo's camera.
        split: where the line between the two stands, in [0, 1] from the left.
        light: ``OWN_LIGHT`` or the name of another.
        photo: number of the photo whose camera is looked through; None: no photo's.
        covered: share of the picture's width, at its right, that controls hide; three pictures side by side avoid it.
    """

    show: str = NEWEST
    beside: str = NOTHING
    split: float = 0.5
    light: str = OWN_LIGHT
    look: Look = field(default_factory=Look)
    photo: int | None = None
    covered: float = 0.0


@dataclass(frozen=True)
class View:
    """A picture ``[H, W, 3]`` in 8 bits, the distances ``[H, W]`` of what it shows, and what went wrong."""

    image: np.ndarray
    depth: np.ndarray
    error: str = ""


class Viewer:
    """A run and what was read of it.

    Args:
        run: its folder.
        source: reads artifacts.

    Raises:
        StspbrError: there is no such folder.
    """

    def __init__(self, run: Path, source: Source) -> None:
        self.run, self.source = run, source
        self.state = look(run)
        self.losses = Losses(run)
        self._lock = threading.RLock()
        self._subjects: OrderedDict[str, Subject | None] = OrderedDict()
        self._lamps: OrderedDict[int, Lamp] = OrderedDict()
        self._frames: tuple[str, list[Frame]] = ("", [])
        self._placement: Placement | None = None

    # -- what there is ---------------------------------------------------------------------------

    def poll(self) -> bool:
        """Look again; whether anything has changed. It reads no artifact."""
        before, after = self.state, look(self.run)
        self.state = after
        changed = self.losses.poll()
        return changed or before != after

    def running(self) -> bool:
        """Whether a stage goes on."""
        return self.state.activity is not None and self.state.activity.state == "running"

    def headline(self) -> str:
        """What goes on, in one line."""
        activity = self.state.activity
        return self.state.headline(None if activity is None else self.losses.step(activity.stage))

    def shown(self) -> list[str]:
        """What can be chosen to be shown: the newest first."""
        names = [version.name for version in reversed(self.state.versions)]
        live = self.live_name()
        return [NEWEST, *([live] if live else []), *names]

    def live_name(self) -> str | None:
        """The entry of the stage that is going on; None if it has no surface yet."""
        found = self.state.activity
        return f"{found.stage}, going on" if found is not None and found.model is not None else None

    def besides(self, photo: int | None) -> list[str]:
        """What can stand beside it."""
        photos = [*OF_PHOTO] if photo is not None else []
        return [NOTHING, *photos, *self.shown()[1:]]

    def lights(self) -> list[str]:
        """The lights that can be chosen."""
        return [OWN_LIGHT, *self.source.lights]

    def resolved(self, name: str) -> str | None:
        """The name of what is shown for an entry; None if there is nothing yet. What is gone becomes the newest."""
        live = self.live_name()
        if name in self.shown()[1:]:
            return name
        newest = self.state.newest()
        return live or (None if newest is None else newest.name)

    def channels(self, choice: Choice) -> tuple[str, ...]:
        """The channels of what is shown."""
        subject, _ = self.subject(choice.show)
        return CHANNELS[:-1] if subject is None else subject.channels

    # -- what is read ----------------------------------------------------------------------------

    def subject(self, name: str) -> tuple[Subject | None, str]:
        """What an entry shows, and why it cannot, in one line."""
        found = self.resolved(name)
        if found is None:
            return None, ""
        activity = self.state.activity
        if found == self.live_name() and activity is not None:
            return self._read(self._key(found), lambda: self.source.live(activity))
        version = next(version for version in self.state.versions if version.name == found)
        return self._read(self._key(found), lambda: self.source.subject(version))

    def frames(self) -> tuple[list[Frame], str]:
        """The photos of the newest capture, and why there are none, in one line."""
        captures = [version.name for version in self.state.versions if version.stage == "capture"]
        with self._lock:
            if captures and self._frames[0] != captures[-1]:
                try:
                    self._frames = captures[-1], self.source.frames(self.state)
                except Exception as error:
                    return [], _line(error)
            return self._frames[1], "" if captures else "there is no finished capture yet"

    def placement(self) -> Placement:
        """Where the object is; it stays what it was at the first call that knew."""
        with self._lock:
            if self._placement is None:
                subject, _ = self.subject(NEWEST)
                if subject is not None:
                    self._placement = Placement(*subject.sphere())
                elif frames := self.frames()[0]:
                    return Placement.of_cameras(frames)
            return self._placement or Placement(np.zeros(3), 1.0)

    def lamp(self, name: str, subject: Subject | None) -> Lamp | None:
        """A light by its entry; prepared once, which takes seconds."""
        light = self.source.lights.get(name) or (None if subject is None else subject.light)
        if light is None:
            return None
        with self._lock:
            key = id(light)  # the lamp keeps it alive, so that no other light has it
            if key not in self._lamps:
                self._lamps[key] = Lamp(light, self.source.prefiltered(light))
                while len(self._lamps) > _KEPT:
                    self._lamps.popitem(last=False)
            return self._lamps[key]

    def missing(self, choice: Choice) -> str:
        """What has to be read or prepared before a picture, which takes a while, in one line; empty: nothing."""
        for name in {choice.show, choice.beside} - {NOTHING, *OF_PHOTO}:
            subject = self._subjects.get(self._key(self.resolved(name)))
            light = self.source.lights.get(choice.light) or (None if subject is None else subject.light)
            if subject is None and self._key(self.resolved(name)) not in self._subjects:
                return f"reading {self.resolved(name) or 'the run'} …"
            if choice.look.needs_light and light is not None and id(light) not in self._lamps:
                return "preparing the light …"
        return ""

    def depicted(self, choice: Choice) -> tuple[str, ...]:
        """What a picture is of: another picture of the same would be the same."""
        captures = [version.name for version in self.state.versions if version.stage == "capture"]
        names = [name for name in (choice.show, choice.beside) if name not in (NOTHING, *OF_PHOTO)]
        return (*(self._key(self.resolved(name)) for name in names), *captures[-1:])

    # -- what is drawn ---------------------------------------------------------------------------

    def draw(self, choice: Choice, camera: Camera) -> View:
        """One tab's picture from ``camera``, in the capture's world; a photo's own camera if one is looked through."""
        with self._lock:
            frames = self.frames()[0] if choice.photo is not None else []
            frame = frames[choice.photo] if choice.photo is not None and choice.photo < len(frames) else None
            pose = np.eye(4)
            if frame is not None and choice.beside == BOTH:
                return self._three(choice, camera, frame)
            if frame is not None:
                camera, pose = photo_camera(frame, camera.width, camera.height), frame.object_to_world
            two = choice.beside != NOTHING and (frame is not None or choice.beside not in OF_PHOTO)
            if not two:
                return self._one(choice.show, choice, camera, pose)
            if choice.beside == DIFFERENCE and frame is not None:
                shown = self._one(
                    choice.show, replace(choice, look=replace(choice.look, channel="shaded")), camera, pose
                )
                if shown.error:
                    return shown
                heat = difference(shown.image / 255.0, photo_picture(frame, camera, choice.look.exposure))
                return replace(shown, image=to_bytes(labelled(heat, DIFFERENCE_LABEL, 8, "left")))
            return self._pair(choice, camera, pose, frame)

    def _three(self, choice: Choice, camera: Camera, frame: Frame) -> View:
        """Photo, render and their difference side by side, or one above the other where the picture is high.

        What stands in the middle has the chosen channel; the difference is always that of the shaded render.
        """
        wide = camera.width >= camera.height
        free = round(camera.width * (1.0 - choice.covered))
        size = (max(1, free // 3), camera.height) if wide else (camera.width, max(1, camera.height // 3))
        part, pose, plain = photo_camera(frame, *size), frame.object_to_world, replace(choice.look, channel="shaded")
        photo = photo_picture(frame, part, choice.look.exposure)
        shaded = self._one(choice.show, replace(choice, look=plain), part, pose)
        middle = shaded if choice.look == plain else self._one(choice.show, choice, part, pose)
        heat = difference(shaded.image / 255.0, photo)
        names = (frame.name, self.resolved(choice.show) or "", "difference")
        panels = zip((photo, middle.image / 255.0, heat), names, strict=True)
        image = np.full((camera.height, camera.width, 3), BACKGROUND)
        for number, (panel, name) in enumerate(panels):
            top, left = (0, number * size[0]) if wide else (number * size[1], 0)
            image[top : top + size[1], left : left + size[0]] = labelled(panel, name, 8, "left")
            if number:
                image[top : top + (size[1] if wide else 2), left : left + (2 if wide else size[0])] = 0.95
        nowhere = np.full(image.shape[:2], np.inf, np.float32)
        return View(to_bytes(image), nowhere, middle.error or shaded.error)

    def _pair(self, choice: Choice, camera: Camera, pose: np.ndarray, frame: Frame | None) -> View:
        column = int(np.clip(round(choice.split * camera.width), 0, camera.width))
        halves = [(choice.show, 0, column), (choice.beside, column, camera.width - column)]
        image = np.zeros((camera.height, camera.width, 3), np.uint8)
        depth = np.full((camera.height, camera.width), np.inf, np.float32)
        errors = []
        for name, left, width in halves:
            if width < 1:
                continue
            part = camera.resampled((left, 0, width, camera.height), (width, camera.height))
            if name == PHOTO and frame is not None:
                shown = View(to_bytes(photo_picture(frame, part, choice.look.exposure)), depth[:, :width])
            else:
                shown = self._one(name, choice, part, pose)
            image[:, left : left + width], depth[:, left : left + width] = shown.image, shown.depth
            errors += [shown.error] if shown.error else []
        right = frame.name if choice.beside == PHOTO and frame is not None else choice.beside
        image = to_bytes(divided(image / 255.0, column, (self.resolved(choice.show) or "", right)))
        return View(image, depth, errors[0] if errors else "")

    def _one(self, name: str, choice: Choice, camera: Camera, pose: np.ndarray) -> View:
        subject, error = self.subject(name)
        try:
            lamp = self.lamp(choice.light, subject) if choice.look.needs_light else None
            if not error and subject is not None and choice.look.channel not in subject.channels:
                error = f"{self.resolved(name)} has no channel {choice.look.channel}"
            if not error and subject is not None and lamp is None and choice.look.channel == "shaded":
                error = f"{self.resolved(name)} has no light of its own: choose another light, or another channel"
            image, depth = draw(subject, lamp, camera, pose, choice.look)
        except Exception as problem:
            error, image = _line(problem), np.full((camera.height, camera.width, 3), BACKGROUND)
            depth = np.full(image.shape[:2], np.inf, np.float32)
        return View(to_bytes(image), depth.astype(np.float32), error)

    def _key(self, found: str | None) -> str:
        """Under what a subject is kept: its name, and when it was written."""
        activity = self.state.activity
        if found == self.live_name() and activity is not None and activity.model is not None:
            return f"{found} {activity.changed}"
        return next((f"{found} {one.written}" for one in self.state.versions if one.name == found), "")

    def _read(self, key: str, read: Callable[[], Subject | None]) -> tuple[Subject | None, str]:
        with self._lock:
            if key not in self._subjects:
                try:
                    self._subjects[key] = read()
                except Exception as error:
                    return None, _line(error)
                stage = key.split()[0]
                for other in [name for name in self._subjects if name != key and name.split()[0] == stage]:
                    del self._subjects[other]  # an older look at the same stage that goes on
                while len(self._subjects) > _KEPT:
                    self._subjects.popitem(last=False)
            self._subjects.move_to_end(key)
            return self._subjects[key], ""


def _line(error: Exception) -> str:
    """One line of an error, which a page shows in place of a picture."""
    line = one_line(error)
    if line is None:
        raise error
    return line
