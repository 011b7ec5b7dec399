"""Films and animated pictures of a sequence of frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.files import atomic_path

FILM_SUFFIXES = (".mp4", ".webp", ".gif")


def check_film(path: Path) -> None:
    """StspbrError if no film can be written to ``path``: another suffix, or no FFmpeg for MP4."""
    if path.suffix.lower() not in FILM_SUFFIXES:
        kind = path.suffix or "a file without suffix"
        raise StspbrError(f"--turntable {path}: cannot write {kind}: use {', '.join(FILM_SUFFIXES)}")
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            raise missing_extra("imageio-ffmpeg", "view", "films as MP4") from None


def write_film(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Write pictures of one size as a film: MP4 (H.264), or animated WebP or GIF, which repeat for ever.

    Args:
        frames: ``[H, W, 3]`` uint8 each; for MP4 odd sides lose their last row or column.
        fps: pictures per second; GIF can have whole hundredths of a second only, at least two.

    Returns:
        The number of frames.

    Raises:
        StspbrError: as ``check_film``; no frames; the file cannot be written.
    """
    check_film(path)
    count = 0
    with atomic_path(path) as temporary:
        try:
            with _writer(temporary, fps) as append:
                for frame in frames:
                    append(np.ascontiguousarray(frame))
                    count += 1
                if count == 0:
                    raise StspbrError(f"{path}: there is no picture to be shown")
        except (OSError, RuntimeError) as error:
            raise StspbrError(f"{path}: the film cannot be written ({first_line(error)})") from error
    return count


@contextlib.contextmanager
def _writer(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """What appends a frame to the file."""
    if path.suffix.lower() == ".mp4":
        import imageio.v2 as imageio

        coding: dict[str, Any] = {"codec": "libx264", "quality": 8, "pixelformat": "yuv420p", "macro_block_size": 1}
        writer: Any = imageio.get_writer(path, format="FFMPEG", mode="I", fps=fps, **coding)
        with writer:
            yield lambda frame: writer.append_data(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
        return
    from PIL import Image

    pictures: list[Image.Image] = []
    yield lambda frame: pictures.append(Image.fromarray(frame))
    if not pictures:
        return
    step = 1000.0 / fps
    duration = max(20, round(step / 10) * 10) if path.suffix.lower() == ".gif" else max(1, round(step))
    coding = {"quality": 85, "method": 4} if path.suffix.lower() == ".webp" else {"optimize": False}
    more: Any = {"append_images": pictures[1:], "duration": duration, "loop": 0, **coding}
    pictures[0].save(path, save_all=True, **more)
