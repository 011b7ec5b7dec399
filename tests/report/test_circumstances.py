"""How a run came about: each line follows from a setting, a figure or a note of the run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from stspbr.report.circumstances import circumstances
from stspbr.report.records import RunRecord

COARSE = {
    "transport": {"mode": "auto", "rays": "auto", "ramp": [0.6, 0.8], "ground": "auto"},
    "fields": {"alpha": "off"},
    "camera": {"poses": {"mode": "off"}},
}


def told(coarse=COARSE, capture=None, metrics=None, notes=()):
    class Given(RunRecord):
        def json(self, stage, name):
            return (metrics or {}) if name == "metrics.json" and stage == "bake" else {}

    stages = {"capture": capture or {"kind": "photos"}, "coarse": coarse}
    artifacts = {stage: SimpleNamespace(settings=settings) for stage, settings in stages.items()}
    facts = {"capture": {"warnings": list(notes)}}
    return dict(circumstances(Given(Path("run"), "run", artifacts=artifacts, facts=facts)))


def test_transport_and_ground():
    found = told()
    assert found["Shadows and bounces"] == [
        "on (transport.mode=auto), rays by auto, faded in from 60% to 80% of coarse"
    ]
    assert found["Floor"] == ["none: transport.ground=auto found no reason for one"]
    assert "rendered without them" in told(capture={"renderer": "raster"})["Shadows and bounces"][0]
    assert "cut-outs" in told(COARSE | {"fields": {"alpha": "mask"}})["Shadows and bounces"][0]
    off = told(COARSE | {"transport": COARSE["transport"] | {"mode": "off", "ground": "none"}})
    assert off["Shadows and bounces"][0].startswith("off") and off["Floor"] == ["none (transport.ground=none)"]
    floor = told(metrics={"ground": {"grey": [0.2, 0.25, 0.3], "height": -0.5}})["Floor"]
    assert floor == ["diffuse, albedo 0.20, 0.25, 0.30 (red, green, blue), at height -0.5"]


def test_what_the_cameras_did():
    assert told()["Poses and lenses"] == ["as the capture has them (camera.poses.mode=off)"]
    assert "Response of the cameras" not in told()
    camera = {
        "response": {
            "cameras": 1, "exposure_stops": [-0.25, 0.5], "vignetting_at_corner": [[0.8, 0.9, 0.85]],
            "held_out": "fitted",
        },
        "cameras": {"rotation_degrees": 0.3, "translation_of_distance": 0.01, "focal_factor": 1.002},
    }  # fmt: skip
    found = told(metrics={"camera": camera})
    expected = ["1 fitted; exposures from -0.25 to +0.50 stops; 20 % darker in the corners at most", "fitted"]
    assert found["Response of the cameras"] == expected
    assert "0.30°" in found["Poses and lenses"][0] and "1.00 %" in found["Poses and lenses"][0]


def test_notes_of_the_readers():
    assert "Notes of the readers" not in told()
    assert told(notes=["alpha was left out", "few views"])["Notes of the readers"] == [
        "alpha was left out",
        "few views",
    ]


def test_an_empty_record_says_nothing():
    assert circumstances(RunRecord(Path("run"), "run")) == []
