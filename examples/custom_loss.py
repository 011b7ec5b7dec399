"""A loss of one's own: enter it into the table, then name it in the settings.

python examples/custom_loss.py [RUN]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from stspbr.threads import prepare_process

prepare_process()  # before torch is imported

import torch  # noqa: E402

from stspbr.optimize.losses import LOSSES, LossFunction  # noqa: E402
from stspbr.settings import CaptureMeshSettings, CoarseSettings, settings_for  # noqa: E402
from stspbr.stages.capture import run_capture  # noqa: E402
from stspbr.stages.coarse import run_coarse  # noqa: E402
from stspbr.stages.session import Session  # noqa: E402


def cauchy(rendered: torch.Tensor, target: torch.Tensor, exposure: torch.Tensor | float) -> torch.Tensor:
    """ln(1 + d²/e): gentle with outliers; its scale follows the exposure of the capture."""
    return torch.log1p((rendered - target) ** 2 / (0.1 * exposure + 1e-8))


def main(run: Path, steps: int = 40) -> Path:
    """Fit a small capture of the demo object with the new loss for network A; returns the artifact's folder."""
    LOSSES["cauchy"] = LossFunction(cauchy)
    session = Session.open(run, quiet=True)
    demo = "procedural:demo"
    run_capture(session, CaptureMeshSettings(asset=demo, light=demo, views=8, test_views=2, resolution=48))
    overrides = [
        "optimize.losses.appearance={cauchy=0.5, logl1=0, smape=0}",
        "geometry.resolution=24",
        f"optimize.iterations={steps}",
    ]
    return run_coarse(session, settings_for(CoarseSettings, overrides)).path


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())))
