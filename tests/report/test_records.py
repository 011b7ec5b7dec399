"""What a page is given of a run: the newest line of work, and a notice for whatever is missing or does not fit."""

from __future__ import annotations

import pytest

from stspbr.artifacts import ArtifactStore
from stspbr.errors import StspbrError
from stspbr.report.records import read_record


def test_a_whole_run(make_run):
    record = read_record(make_run())
    assert list(record.artifacts) == ["capture", "coarse", "specialize", "bake", "evaluate"]
    assert record.name == "run" and not record.notices
    assert record.facts["bake"]["seconds"] == 12.5
    assert record.errors["material"]["used"] == 1900
    assert record.file("bake", "asset.glb").is_file() and record.file("bake", "nothing") is None


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (("capture", "coarse", "specialize", "bake"), "no evaluation of this bake"),
        (("capture", "coarse"), "its last stage is coarse"),
    ],
)
def test_a_run_that_has_not_come_to_the_end(make_run, stages, said):
    record = read_record(make_run(stages=stages, logs=False))
    assert tuple(record.artifacts) == stages and record.errors is None
    assert len(record.notices) == 1 and said in record.notices[0]


def test_an_evaluation_of_an_older_bake_is_left_out(make_run):
    run = make_run(logs=False)
    store = ArtifactStore(run)
    with store.create("bake", settings={"another": 1}, parents=[store.resolve("specialize")]) as draft:
        (draft.path / "metrics.json").write_text("{}")
    record = read_record(run)
    assert record.artifacts["bake"].version == "v0002" and record.errors is None
    assert any("evaluate/v0001 is not of bake/v0002" in line for line in record.notices)
    older = read_record(run, "v0001")
    assert older.artifacts["bake"].version == "v0001" and older.errors is not None


def test_broken_and_lost_parts_are_notices(make_run):
    run = make_run(logs=False)
    (run / "evaluate" / "v0001" / "errors.json").write_text("{}")
    (run / "specialize" / "v0001" / "metrics.json").unlink()
    record = read_record(run)
    assert list(record.artifacts) == ["bake"]
    assert any("errors.json was truncated" in line for line in record.notices)
    assert any("metrics.json is missing" in line for line in record.notices)


def test_a_parent_that_was_replaced_is_not_shown(make_run):
    run = make_run(logs=False)
    made = make_run("other", logs=False, rate=0.5)
    for stage in ("capture", "coarse", "specialize"):
        (run / stage / "v0001").rename(run / f"old-{stage}")
        (made / stage / "v0001").rename(run / stage / "v0001")
    record = read_record(run)
    assert list(record.artifacts) == ["bake", "evaluate"]
    assert any("specialize/v0001 is not what bake/v0001 was made from" in line for line in record.notices)


def test_what_is_no_run_is_one_clear_error(tmp_path):
    with pytest.raises(StspbrError, match="no such folder"):
        read_record(tmp_path / "nowhere")
    (tmp_path / "bake").mkdir()
    with pytest.raises(StspbrError, match="is not a run"):
        read_record(tmp_path)
