"""Texture a made teapot from a text: brass with a black handle. Minutes on two cores.

python examples/texture_teapot.py [RUN]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import stspbr
from stspbr.settings import EvaluateSettings, TextureSettings
from stspbr.stages.texture import run_texture

stspbr.prepare_process()


def main(run: Path, **changes: Any) -> dict[str, Any]:
    """Texture the teapot in the folder ``run``; returns how far each part is from what its words mean."""
    session = stspbr.Session.open(run, seed=0, quiet=bool(changes))
    settings = TextureSettings(mesh="procedural:teapot", prompt="polished brass, black handle", size=512)
    bake = run_texture(session, settings.model_copy(update=changes))
    found = stspbr.run_evaluate(session, EvaluateSettings(prompt=True))
    print(f"{bake.path / 'asset.glb'}; pictures in {bake.path / 'turntable'}")
    return json.loads(found.file("prompt.json").read_text(encoding="utf-8"))["parts"]


if __name__ == "__main__":
    for part, error in main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/texture-teapot")).items():
        print(part, {name: error[name] for name in ("albedo", "roughness", "metallic")})
