"""The pages as text: everything is inside, everything is escaped, what is missing is said."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

import stspbr.report
from stspbr.report.compare_page import compare_page
from stspbr.report.comparison import compare_records
from stspbr.report.records import read_record
from stspbr.report.run_page import run_page
from stspbr.report.settings import brief

VENDOR = Path(stspbr.report.__file__).parent / "vendor"
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes; checks that every element is closed in its order."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def check_self_contained(html: str) -> Page:
    page = Page(html)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#")), (name, value[:80])
    assert not page.all("iframe") and all("src" not in script for script in page.all("script"))
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "@import" not in outside and not re.search(r"url\((?!['\"]?data:)", outside)
    assert not re.search(r"https?://", outside)
    for link in page.all("a"):
        assert f'id="{link["href"][1:]}"' in html
    ids = re.findall(r'\sid="([^"]+)"', outside)
    assert len(ids) == len(set(ids))
    return page


def test_a_whole_run(make_run):
    run = make_run()
    html = run_page(read_record(run))
    page = check_self_contained(html)
    assert {attributes["id"] for attributes in page.all("section")} == {
        "model", "metrics", "views", "maps", "light", "relighting", "curves", "settings", "provenance",
    }  # fmt: skip
    assert len(html) < 5_000_000
    embedded = re.search(r'<script type="text/plain" id="glb-0">([^<]*)</script>', html)[1]
    assert base64.b64decode(embedded) == (run / "bake/v0001/asset.glb").read_bytes()
    shown = [page.text, *(image["alt"] for image in page.all("img"))]
    for words in (
        "31.50 dB",
        "albedo MAE",
        "1900 compared",
        "60 never seen",
        "reference",
        "hall, test_0000",
        "light recovered",
        "true light",
        "false_metal: error",
        "coarse: losses",
        "specialize/v0001",
    ):
        assert any(words in text for text in shown), words
    assert read_record(run).artifacts["bake"].content_hash in html
    assert "Copyright © 2010-2026 three.js authors" in html  # its licence travels with it
    assert run_page(read_record(run)) == html  # the same run, the same page


@pytest.mark.parametrize(
    ("stages", "sections"),
    [
        (("capture", "coarse", "specialize", "bake"), {"model", "metrics", "maps", "light"}),
        (("capture", "coarse"), {"metrics"}),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(make_run, stages, sections):
    page = check_self_contained(run_page(read_record(make_run(stages=stages, logs=False))))
    assert {attributes["id"] for attributes in page.all("section")} == sections | {"settings", "provenance"}
    assert ("no evaluation of this bake" if "bake" in stages else "no bake yet") in page.text


def test_an_older_evaluation_without_pictures(make_run):
    page = check_self_contained(run_page(read_record(make_run(pictures=False, learned=False))))
    text = page.text + " ".join(image["alt"] for image in page.all("img"))
    assert "contact sheet" in text and "there are no true maps" in text
    assert "known and given" in text and "true light" not in text


def test_nothing_escapes_its_place(make_run):
    evil = "<img src=x onerror=alert(1)><"
    run = make_run(evil.replace("/", "") + "script>", stages=("capture", "coarse"))
    record = read_record(run)
    record.artifacts["coarse"].manifest["settings"]["note"] = "</script><b>"
    html = run_page(record)
    page = check_self_contained(html)
    assert evil not in html and "onerror=alert(1)" in page.text
    other = make_run("two", stages=("capture", "coarse"))
    html = compare_page(compare_records([run, other]))
    assert evil not in html
    check_self_contained(html)


def test_a_comparison(make_run):
    runs = [make_run("one"), make_run("two", scale=2.0, rate=0.02), make_run("bare", stages=("capture", "coarse"))]
    html = compare_page(compare_records(runs))
    page = check_self_contained(html)
    assert "one" in page.text and "bare : this run has no bake yet" in page.text
    assert html.count('data-glb="') == 2 and "no model: this run has no bake" in page.text
    assert html.count('alt="test_0000: target"') == 1  # the same picture in both runs: once
    assert html.count('alt="test_0000: result"') == 2
    assert re.search(r'<td class="best" title="material.lit.albedo_mae = 0.02">', html)
    assert "+0.0200" in page.text and "coarse.optimize.rate" in page.text


def test_a_comparison_of_runs_with_nothing_to_compare(make_run):
    bare = {"stages": ("capture",), "logs": False}
    page = check_self_contained(compare_page(compare_records([make_run("one", **bare), make_run("two", **bare)])))
    assert "all settings, seeds, devices and versions are the same" in page.text


def test_the_bundle_is_what_its_readme_says():
    import hashlib
    import json

    data = (VENDOR / "three.min.js").read_bytes()
    readme = (VENDOR / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(data).hexdigest() in readme
    package = json.loads((VENDOR / "package.json").read_text(encoding="utf-8"))
    for name, version in package["devDependencies"].items():
        assert f"{name if name != 'three' else 'three.js'} {version}" in readme
    assert "http" not in (VENDOR / "package-lock.json").read_text(encoding="utf-8")
    assert "SPDX-License-Identifier: MIT" in data.decode("utf-8")


def test_the_floor_stands_in_the_brief():
    ground = {"ground": {"grey": [0.5, 0.4, 0.3], "height": -0.75}}
    record = SimpleNamespace(artifacts={}, json=lambda stage, name: ground if stage == "bake" else {})
    assert brief(record) == ["floor of grey 0.40 at height -0.75"]
