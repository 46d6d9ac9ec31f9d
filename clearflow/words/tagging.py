"""Whether the tags of a task are those that somebody asks for, in ClearML's words.

["a", "b"]                      any of them          ["a", "-b"]            a, and not b
["__$all", "a", "b"]            all of them          ["__$not", "a"]        not a
["__$any", "a", "b", "__$all", "__$not", "c"]        a or b, and not c
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

PUBLISHED, ARCHIVED = "published", "archived"
"""Tags that say what became of a task; a copy of it has them not."""

_ANY, _ALL, _NOT = "__$any", "__$all", "__$not"
_WORDS = {"__$or": _ANY, "__$and": _ALL}


def fits(tags: Collection[str], asked: Sequence[str]) -> bool:
    """Whether these tags are what was asked for. Every tag fits an empty list.

    `__$not` stands for the one tag behind it, as does a minus sign in front of one.
    """
    mode, negated = _ANY, False
    wanted: list[str] = []
    found_any = False
    for word in asked:
        word = _WORDS.get(word, word)
        if word in {_ANY, _ALL}:
            mode = word
        elif word == _NOT:
            negated = True
        elif negated or word.startswith("-"):
            if word.lstrip("-" if not negated else "") in tags:
                return False
            negated = False
        elif mode == _ALL:
            if word not in tags:
                return False
        else:
            wanted.append(word)
            found_any = found_any or word in tags
    return found_any or not wanted
