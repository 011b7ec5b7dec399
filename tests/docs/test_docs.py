"""The generated pages list every command, option and setting; the navigation lists every page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from stspbr.settings import ExportDatasetSettings, ExportSettings, Recipe

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "scripts/reference_pages.py")
pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pages)

COMMANDS = {name: pages.command_page(name, command, context) for name, command, context in pages.commands()}


@pytest.fixture(scope="module")
def built() -> tuple[Any, Any]:
    """Configuration and files of MkDocs as its plugins and the hook leave them."""
    config = pytest.importorskip("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"))
    from mkdocs.structure.files import get_files

    config = config.plugins.on_config(config)
    return config, config.plugins.on_files(get_files(config), config=config)


def leaves(schema: dict[str, Any], prefix: str = "") -> set[str]:
    """The dotted keys of a JSON schema: a second opinion on the models' fields."""
    out: set[str] = set()
    for name, entry in schema["properties"].items():
        below = resolved(entry)
        out |= {f"{prefix}{name}"} if below is None else leaves(below, f"{prefix}{name}.")
    return out


def resolved(entry: dict[str, Any]) -> dict[str, Any] | None:
    parts = [entry, *entry.get("allOf", []), *entry.get("anyOf", [])]  # anyOf: a stage that may be left out
    reference = next((one["$ref"] for one in parts if "$ref" in one), None)
    return None if reference is None else SCHEMA["$defs"][reference.rpartition("/")[2]]


SCHEMA = Recipe.model_json_schema()


def test_the_commands_that_everyone_needs_are_there():
    wanted = {"capture photos", "capture check", "coarse", "specialize", "bake", "export asset", "run recipe"}
    assert wanted | {"run photos"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_all_its_options_and_arguments(name):
    command = next(command for other, command, _ in pages.commands() if other == name)
    for parameter in command.params:
        words = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name]
        for word in words:
            cell = re.escape(word.replace("|", "\\|"))
            assert re.search(rf"^\| `[^`]*{cell}(?![\w-])", COMMANDS[name], re.MULTILINE), (name, word)
    assert f"stspbr {name}" in COMMANDS[name] and "{" not in COMMANDS[name].split("```")[1]


def test_every_table_has_as_many_cells_as_its_head():
    for text in [*COMMANDS.values(), pages.commands_table(), pages.settings_tables()]:
        for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
            counts = {len(re.split(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
            assert len(counts) == 1, table


def rows_by_stage() -> dict[str, dict[str, str]]:
    """Stage to key to row, as the page of the settings has them."""
    out: dict[str, dict[str, str]] = {}
    for title, body in re.findall(r"^### (.*?)\n(.*?)(?=^###|\Z)", pages.settings_tables(), re.MULTILINE | re.DOTALL):
        rows = {row[1]: row[0] for row in re.finditer(r"^\| `([^`]*)` \|.*$", body, re.MULTILINE)}
        out |= dict.fromkeys(re.findall(r"`([^`]*)`", title), rows)
    return out


def test_every_setting_has_a_row():
    tables = rows_by_stage()
    stages = {name: schema for name, entry in SCHEMA["properties"].items() if (schema := resolved(entry)) is not None}
    assert {"coarse", "specialize", "bake", "refine", "texture", "unpack_orm", "evaluate"} == stages.keys()
    for stage, schema in stages.items():
        assert tables[stage].keys() == leaves(schema), stage
    assert tables["recipe"].keys() == SCHEMA["properties"].keys() - stages.keys() - {"capture"}
    for name, model in {"export.asset": ExportSettings, "export.dataset": ExportDatasetSettings}.items():
        assert tables[name].keys() == model.model_json_schema()["properties"].keys()


def test_every_way_to_capture_has_a_table_of_all_its_keys():
    tables = rows_by_stage()
    for kind, reference in SCHEMA["properties"]["capture"]["anyOf"][0]["discriminator"]["mapping"].items():
        assert tables[f"capture.{kind}"].keys() == leaves(SCHEMA["$defs"][reference.rpartition("/")[2]]), kind


def test_defaults_are_those_of_the_stage_and_not_of_the_shared_model():
    tables = rows_by_stage()
    for stage in ("coarse", "specialize", "bake"):
        default = Recipe.model_fields[stage].get_default(call_default_factory=True).optimize
        assert f"| `{default.iterations}` |" in tables[stage]["optimize.iterations"]
        assert f"| `{default.rates.light.rate}` |" in tables[stage]["optimize.rates.light.rate"]


def test_sphinx_roles_of_docstrings_become_names():
    html = "<p>see :func:<code>stspbr.a.b</code> and <code>plain</code></p>"
    assert pages.on_page_content(html) == "<p>see <code>stspbr.a.b</code> and <code>plain</code></p>"


def test_the_navigation_names_every_page_and_every_page_is_there(built):
    config, files = built

    def named(nav: Any) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        return [path for entry in (nav.values() if isinstance(nav, dict) else nav) for path in named(entry)]

    there = {file.src_uri for file in files.documentation_pages()}
    listed = named(config.nav)
    assert sorted(listed) == sorted(there), set(listed) ^ there
    assert {pages.command_file(name) for name in COMMANDS} <= there


def test_the_documents_name_no_command_or_option_that_is_not_there():
    options = {
        opt for _, command, _ in pages.commands() for p in command.params for opt in [*p.opts, *p.secondary_opts]
    }
    options |= {"--help", "--version"}
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for line in re.findall(r"\bstspbr ((?:[a-z-]+ ?)[^`\n]*)", path.read_text(encoding="utf-8")):
            line = line.partition("#")[0]
            if not any(line.split()[: len(name.split())] == name.split() for name in COMMANDS):
                continue
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", line):
                assert option in options, (path.name, line)


def test_pages_name_no_setting_that_is_not_there():
    every = {name for definition in SCHEMA["$defs"].values() for name in definition.get("properties", {})}
    every |= {*SCHEMA["properties"], "key"}  # key=value is how one writes them
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if path.name in ("ablation.md", "speed.md"):  # what was tried then
            continue
        for key in re.findall(r"--set '?([a-z_.]+)[=`]", path.read_text(encoding="utf-8")):
            assert set(key.split(".")) <= every, (path.name, key)
