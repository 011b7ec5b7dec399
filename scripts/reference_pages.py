"""MkDocs hook: writes the pages of the commands and of the settings from the code, at every build.

A page per command comes from the command tree, the rows of the settings from the pydantic models.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

TREE = "commands"  # folder of the generated pages
_LIMITS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "multiple_of": "multiple of {}"}
_NAMES = {int: "integer", float: "number", bool: "true or false", str: "text"}
_SMALL = 2  # fields: models up to this stand in the table of the model that holds them
_ROLE = re.compile(r":(?:class|data|func|meth|mod):<code>([^<]*)</code>")


# -- commands ----------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any, Any]]:
    """``(name, command, context)`` of every command that does something, e.g. ``"capture photos"``."""
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
    """Every command with its page and its first sentence."""
    rows = (
        (f"[{name}]({command_file(name).removeprefix(f'{TREE}/')})", _text(command.help).split("\n")[0])
        for name, command, _ in commands()
    )
    return _table(("Command", "What it does"), rows)


def _record(record: tuple[str, str]) -> tuple[str, str, str]:
    """The cells of an option: click puts its default and limits in brackets behind the help."""
    text, _, extra = record[1].partition("  [")
    if not extra and text.startswith("["):
        text, extra = "", text[1:]
    return f"`{record[0].strip()}`", extra.removesuffix("]").removeprefix("default: "), text


# -- settings ----------------------------------------------------------------------------------------------


def settings_tables() -> str:
    """All settings of a recipe: one section per stage, one table per group of keys."""
    from stspbr.settings import Recipe

    parts: list[str] = []
    for name, field in Recipe.model_fields.items():
        models = [model for model in _members(field.annotation) if _is_model(model)]
        for model in models:
            kind = model.model_fields.get("kind")
            title = name if kind is None else f"{name}: {', '.join(typing.get_args(kind.annotation))}"
            default = None if len(models) > 1 else field.get_default(call_default_factory=True)
            parts += _section(title, name, model, default)
    return "\n\n".join(parts)


def _section(title: str, key: str, model: Any, instance: Any) -> list[str]:
    """Heading, purpose and table of one model, then those of the models in it; small ones have no section."""
    rows, nested = [], []
    for name, field in model.model_fields.items():
        default = getattr(instance, name) if instance is not None else field.get_default(call_default_factory=True)
        inner = next((member for member in _members(field.annotation) if _is_model(member)), None)
        if inner is None:
            rows.append(_row(name, field, default, instance is None))
        elif len(inner.model_fields) <= _SMALL:
            leaves = inner.model_fields.items()
            rows += [_row(f"{name}.{leaf}", entry, getattr(default, leaf), False) for leaf, entry in leaves]
        else:
            nested += _section(f"{key}.{name}", f"{key}.{name}", inner, default)
    parts = [f"{'###' if '.' in key else '##'} {title}", _text(model.__doc__)]
    if rows:
        parts.append(_table(("Key", "Type and range", "Default", "Meaning"), rows))
    return parts + nested


def _row(name: str, field: Any, default: Any, may_be_required: bool) -> tuple[str, ...]:
    shown = "required" if may_be_required and field.is_required() else f"`{_value(default)}`"
    return f"`{name}`", _type(field), shown, field.description or ""


def _type(field: Any) -> str:
    limits = [_LIMITS[name].format(f"{value:g}") for name, value in _bounds(field)]
    return ", ".join([_words(field.annotation), *limits])


def _bounds(field: Any) -> Iterator[tuple[str, Any]]:
    for entry in field.metadata:
        for name in _LIMITS:
            if isinstance(value := getattr(entry, name, None), int | float):
                yield name, value


def _words(annotation: Any) -> str:
    """A type as a reader of TOML calls it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is typing.Annotated:
        return _words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, arguments))
    if origin is dict:
        return f"table of {_words(arguments[1])}s"
    if origin is tuple and ... not in arguments:
        kinds = list(dict.fromkeys(map(_words, arguments)))
        return f"list of {len(arguments)} {kinds[0]}s" if len(kinds) == 1 else f"list of {'; '.join(kinds)}"
    if origin in (list, tuple):
        return f"list of {_words(arguments[0])}" + ("" if "list" in _words(arguments[0]) else "s")
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _value(value: Any) -> str:
    """A default as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value)


def _members(annotation: Any) -> list[Any]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return list(typing.get_args(annotation)) if union else [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "model_fields")


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
    """Put the commands' pages below their index in the navigation."""
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
    """End the two hand-written pages with what is generated."""
    generated = {f"{TREE}/index.md": commands_table, "settings.md": settings_tables}.get(page.file.src_uri)
    return markdown if generated is None else f"{markdown}\n\n{generated()}\n"


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name other functions as Sphinx does; what is left of that is the name."""
    return _ROLE.sub(r"<code>\1</code>", html)


def _lists(nav: Any) -> Iterator[list[Any]]:
    if isinstance(nav, list):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _lists(entry)
