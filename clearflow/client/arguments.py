"""Command lines: what argparse, click and typer make of them is a task's parameters too.

They belong to the section Args. What is stored there goes before the command line, unless the
command line itself was changed after that was captured.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from clearflow.client.imports import when_imported
from clearflow.client.later import Later
from clearflow.errors import Usage
from clearflow.words.parameters import ARGS, cast, plain

if TYPE_CHECKING:
    import argparse
else:
    argparse = Later("argparse")

_depth = threading.local()
_parsed: dict[str, Any] = {}
_watched: list[bool] = []


def _alone(section: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Nobody stores anything yet."""
    return None


_exchange: Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None] = _alone


def parsed() -> Mapping[str, Any]:
    """What was parsed so far, by name."""
    return dict(_parsed)


def capture(exchange: Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]) -> None:
    """Hand everything that is parsed from now on to `exchange`, and take what it gives instead.

    It is called with the section and the values, and returns what is stored, or None.
    """
    global _exchange
    _exchange = exchange
    if not _watched:
        _watched.append(True)
        when_imported("argparse", _patch_argparse)
        when_imported("click.core", _patch_click)


def _patch_argparse(module: Any) -> None:
    parser = module.ArgumentParser
    parser.parse_known_args = _argparse(parser.parse_known_args)


def _settled(values: Mapping[str, Any]) -> Mapping[str, Any]:
    said = {name: plain(value) for name, value in values.items()}
    _parsed.update(said)
    stored = _exchange(ARGS, said)
    return {} if stored is None else {k: v for k, v in stored.items() if said.get(k, v) != v}


def _argparse(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse_known_args(
        self: argparse.ArgumentParser,
        args: Sequence[str] | None = None,
        namespace: Any = None,
        *more: Any,
        **named: Any,
    ) -> Any:
        # Subcommands are parsed within; and what is parsed from elsewhere is no command line.
        inner = getattr(_depth, "deep", False)
        if inner or (args is not None and list(args) != sys.argv[1:]):
            return original(self, args, namespace, *more, **named)
        _depth.deep = True
        try:
            found, rest = original(self, args, namespace, *more, **named)
        finally:
            _depth.deep = False
        actions = {action.dest: action for action in _actions(self)}
        values = {k: v for k, v in vars(found).items() if k in actions}
        for name, wanted in _settled(values).items():
            if name in actions:
                setattr(found, name, _as_action(actions[name], wanted, values[name]))
        return found, rest

    return parse_known_args


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += _actions(inner)
    return found


def _as_action(action: argparse.Action, wanted: Any, have: Any) -> Any:
    kind = action.type
    if not callable(kind) or wanted is None:
        return wanted if wanted is None else cast(wanted, have)
    try:
        if isinstance(wanted, list):
            return [kind(str(item)) for item in wanted]
        return kind(str(wanted))
    except (TypeError, ValueError, argparse.ArgumentTypeError):
        raise Usage(f"the parameter Args/{action.dest} is {wanted!r}, which does not fit") from None


def _patch_click(click: ModuleType) -> None:
    original = click.Command.parse_args

    @functools.wraps(original)
    def parse_args(self: Any, context: Any, args: Sequence[str]) -> Any:
        rest = original(self, context, args)
        kinds = {p.name: p for p in self.params if p.name in context.params}
        own = {name: context.params[name] for name in kinds}
        prefix = "" if context.parent is None else f"{context.info_name}."
        stored = _settled({f"{prefix}{name}": value for name, value in own.items()})
        for name, parameter in kinds.items():
            if f"{prefix}{name}" in stored:
                wanted = stored[f"{prefix}{name}"]
                context.params[name] = parameter.type_cast_value(context, wanted)
        return rest

    click.Command.parse_args = parse_args
