"""MkDocs hook: write the pages of the commands and the tables of the settings from the code, at every build."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TREE = "commands"  # folder of the generated pages
_ROLE = re.compile(r":(?:class|data|func|meth|mod):<code>([^<]*)</code>")


def commands() -> Iterator[tuple[str, Any, Any]]:
    """``(name, command, context)`` of every command that is not a group, e.g. ``"capture photos"``."""
    import typer

    from stspbr.cli import app

    root = typer.main.get_command(app)
    yield from _below(root, typer.Context(root, info_name="stspbr"), ())


def _below(group: Any, context: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    import typer

    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        own = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _below(command, own, (*path, name))
        else:
            yield " ".join((*path, name)), command, own


def command_file(name: str) -> str:
    """The page of a command, relative to the documents' folder."""
    return f"{TREE}/{name.replace(' ', '-')}.md"


def command_page(name: str, command: Any, context: Any) -> str:
    """The Markdown page of one command: what it does, usage, arguments and options."""
    usage = re.sub(r"{(.+?)}(?:\.\.\.)?", r"\1", " ".join(context.get_usage().split())).removeprefix("Usage: ")
    parts = [f"# {name}", _text(command.help), f"```text\n{usage}\n```"]
    rows = [(parameter, parameter.get_help_record(context)) for parameter in command.get_params(context)]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        chosen = [record for parameter, record in rows if parameter.param_type_name == kind and record]
        if chosen:
            parts += [f"## {title}", _table((title[:-1], "Default, limits", "Meaning"), map(_record, chosen))]
    return "\n\n".join(parts) + "\n"


def commands_table() -> str:
    """Every command with a link to its page and the first line of its help."""
    rows = (
        (f"[{name}]({command_file(name).removeprefix(f'{TREE}/')})", _text(command.help).split("\n")[0])
        for name, command, _ in commands()
    )
    return _table(("Command", "What it does"), rows)


def _record(record: tuple[str, str]) -> tuple[str, str, str]:
    """The cells of an option: click appends its default and limits to the help, in brackets."""
    text, _, extra = record[1].partition("  [")
    if not extra and text.startswith("["):
        text, extra = "", text[1:]
    return f"`{record[0].strip()}`", extra.removesuffix("]").removeprefix("default: "), text


def settings_tables() -> str:
    """Every setting: a heading and a table per stage."""
    from stspbr.settings.table import markdown

    return markdown()


# -- Markdown ----------------------------------------------------------------------------------------------


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(docstring: str | None) -> str:
    """A docstring as Markdown: no indentation, single backticks."""
    import inspect

    return inspect.cleandoc(docstring or "").replace("``", "`")


# -- MkDocs events -----------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Add the commands' pages to the navigation, below their index."""
    section = next(found for found in _lists(config.nav) if f"{TREE}/index.md" in found)
    section += [{name: command_file(name)} for name, _, _ in commands()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the commands' pages."""
    from mkdocs.structure.files import File

    for name, command, context in commands():
        files.append(File.generated(config, command_file(name), content=command_page(name, command, context)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Append the generated tables to the two hand-written pages."""
    generated = {f"{TREE}/index.md": commands_table, "settings.md": settings_tables}.get(page.file.src_uri)
    return markdown if generated is None else f"{markdown}\n\n{generated()}\n"


def on_page_content(html: str, **_: Any) -> str:
    """Reduce the Sphinx roles of docstrings to the names."""
    return _ROLE.sub(r"<code>\1</code>", html)


def _lists(nav: Any) -> Iterator[list[Any]]:
    if isinstance(nav, list):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _lists(entry)
