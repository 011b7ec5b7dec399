"""Checkpoints of a running stage: atomic, and bound to their work."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from stspbr.errors import StspbrError


class Checkpoints:
    """The newest checkpoint of one piece of work (stage, settings, parents, seed) in ``folder``.

    A checkpoint of other work (after a change of settings) is never loaded.

    Args:
        folder: outside the artifacts.
        work: identifies the work uniquely; JSON-serialisable.
    """

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
        self.path = folder / f"{key}.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write beside and rename: a kill at any moment leaves the last complete checkpoint.

        Raises:
            StspbrError: the checkpoint cannot be written.
        """
        partial = self.path.with_suffix(f".partial-{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            partial.unlink(missing_ok=True)
            raise StspbrError(
                f"{self.path}: cannot write the checkpoint ({error}): make room or choose another run"
            ) from None

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint of this work, its tensors on ``device``; None if there is none.

        Raises:
            StspbrError: the checkpoint cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:
            kind = type(error).__name__
            raise StspbrError(f"{self.path}: cannot read the checkpoint ({kind}): delete it to start over") from None

    def clear(self) -> None:
        """Delete this work's checkpoint and partial files; called when its artifact is complete."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f"{self.path.stem}.partial-*"):
            partial.unlink(missing_ok=True)
