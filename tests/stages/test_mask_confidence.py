"""The confidence of masks that were found, in the check and its contact sheet."""

from __future__ import annotations

import json
import shutil

from stspbr.stages.capture_check import as_json, run_capture_check


def test_it_stands_beside_its_frame_and_unsure_masks_are_warned_of(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "capture", tmp_path / "run" / "capture")
    facts = tmp_path / "run" / "capture" / "v0001" / "run.json"
    names = [frame.name for frame in run_capture_check(tmp_path / "run")[0].frames]
    plain = run_capture_check(tmp_path / "run")[0]
    assert plain.mask_confidence == {} and not any(f.code == "unsure-mask" for f in plain.findings)
    photos = [name.removeprefix("images/").replace(".exr", ".jpg") for name in names]
    known = {photo: 0.95 for photo in photos} | {photos[2]: 0.5}
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"photos": {"mask_confidence": known}}))
    check, out = run_capture_check(tmp_path / "run")
    assert check.mask_confidence[names[2]] == 0.5 and len(check.mask_confidence) == len(names)
    (finding,) = [f for f in check.findings if f.code == "unsure-mask"]
    assert finding.frames == [names[2]] and "1 masks that were found" in finding.text
    assert as_json(check)["frames"][2]["mask_confidence"] == 0.5
    assert list(out.glob("contact-sheet-*.png"))
