"""The rules of the house, each a function from one module's source to what breaks it there."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FLOORS: tuple[tuple[str, ...], ...] = (
    # The ground: what may go wrong, and what time it is. Everything stands on these two.
    ("errors", "clock"),
    ("words", "settings"),
    ("_prefect", "capture", "environment", "runtimes", "cloud", "store", "links", "blocks"),
    # What stands on two doors.
    ("stores", "registry"),
    ("tasks", "queues", "agents", "datasets", "models"),
    # Engines that start tasks: by the clock, by events, in search of something.
    ("automation",),
    ("service",),
    ("agent", "supervisor", "client", "autoscaler"),
    # Flows that agents run on the services queue, and what programs see of them.
    ("apps",),
    ("cli", "board", "__init__"),
    # The doorstep: `python -m clearflow` calls the command line.
    ("__main__",),
)
"""The rooms of each floor, from the ground (0) up. An import may only go down."""

GUESTS = ("apps/quickstart/digits.py",)
"""Programs of users that lie in the package: nothing of it imports them."""

_FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

DOORS: dict[str, tuple[str, ...]] = {
    "blake3": ("store/",),
    "boto3": ("cloud/aws.py",),
    "botocore": ("cloud/aws.py",),
    "docker": ("runtimes/docker.py",),
    "fsspec": ("store/", "links.py"),
    "httpx": ("_prefect/",),
    "kubernetes": ("runtimes/kubernetes.py",),
    "nicegui": ("board/",),
    "optuna": ("automation/search/samplers.py",),
    "slack_sdk": ("automation/",),
    "uv": ("environment/",),
    "websockets": ("_prefect/",),
}
"""Where an outside library may be imported. `uv` stands for running the program too."""

PRIVATE_DOOR = "_prefect/private.py"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80

_STARTERS = {
    "Popen",
    "call",
    "check_call",
    "check_output",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "run",
    "which",
}
_UNFINISHED = re.compile(r"\b(TODO|FIXME|NotImplementedError)\b")
_MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(tmp|root|work|home)(?=/)")


@dataclass(frozen=True)
class Import:
    """One name that an import statement, or `import_module("…")`, brings in."""

    line: int
    module: str
    name: str = ""
    """What is taken from the module; empty for a plain `import module`."""

    @property
    def full(self) -> str:
        """Module and name as one dotted path."""
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(frozen=True)
class Module:
    """A source file of the package; `path` is relative to it, as in `tasks/record.py`."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source, self.path)

    @property
    def room(self) -> str:
        """The top-level name the file belongs to: `tasks`, `store`, `__init__`."""
        return self.path.split("/")[0].removesuffix(".py")

    @cached_property
    def imports(self) -> list[Import]:
        """All imports at any depth: in functions and for type checking as well."""
        return [found for node in ast.walk(self.tree) for found in self._imports_in(node)]

    def _imports_in(self, node: ast.AST) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = self._absolute(node.module or "", node.level)
            for alias in node.names:
                yield Import(node.lineno, module, alias.name)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            match node.args:
                case [ast.Constant(value=str(module)), *_]:
                    level = len(module) - len(module.lstrip("."))
                    yield Import(node.lineno, self._absolute(module[level:], level))

    def _absolute(self, module: str, level: int) -> str:
        if level == 0:
            return module
        package = ["clearflow", *self.path.split("/")[:-1]]
        return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


def modules_of(package: Path) -> list[Module]:
    """All source files below a package folder."""
    return [
        Module(file.relative_to(package).as_posix(), file.read_text(encoding="utf-8"))
        for file in sorted(package.rglob("*.py"))
    ]


def upward_imports(module: Module) -> Iterator[str]:
    """An import may only go down, and rooms on one floor do not import each other."""
    if module.path in GUESTS:
        return
    here = _FLOOR_OF.get(module.room)
    if here is None:
        yield f"{module.path}: the room `{module.room}` is on no floor"
        return
    for found in module.imports:
        room = _room_reached(found)
        if room is None or room == module.room:
            continue
        there = _FLOOR_OF.get(room)
        if there is None:
            yield f"{module.path}:{found.line}: imports `{room}`, which is on no floor"
        elif there >= here:
            yield (
                f"{module.path}:{found.line}: `{module.room}` (floor {here}) imports "
                f"`{room}` (floor {there})"
            )


def _room_reached(found: Import) -> str | None:
    """The room of the package an import goes to; None when it leaves the package."""
    first, *rest = found.full.split(".")
    if first != "clearflow":
        return None
    taken_from_the_package_itself = found.module == "clearflow" and found.name
    if not rest or (taken_from_the_package_itself and rest[0] not in _FLOOR_OF):
        return "__init__"
    return rest[0]


def private_prefect(module: Module) -> Iterator[str]:
    """Prefect's private names, and its server, are reached from one file only."""
    if module.path == PRIVATE_DOOR:
        return
    for found in module.imports:
        if _is_private_prefect(found.full):
            yield f"{module.path}:{found.line}: `{found.full}` belongs in {PRIVATE_DOOR}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _is_private_prefect(dotted := _dotted(node)):
            yield f"{module.path}:{node.lineno}: `{dotted}` belongs in {PRIVATE_DOOR}"


def _is_private_prefect(dotted: str) -> bool:
    first, *rest = dotted.split(".")
    if first != "prefect" and not first.startswith("prefect_"):
        return False
    hidden = any(part.startswith("_") and not part.startswith("__") for part in rest)
    return hidden or (first == "prefect" and rest[:1] == ["server"])


def wrong_doors(module: Module) -> Iterator[str]:
    """An outside library is imported in one place."""
    for found in module.imports:
        library = found.module.split(".")[0]
        if library in DOORS and not module.path.startswith(DOORS[library]):
            yield f"{module.path}:{found.line}: `{library}` belongs in {DOORS[library][0]}"
    if module.path.startswith(DOORS["uv"]):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.expr) and _runs_uv(node):
            yield f"{module.path}:{node.lineno}: running `uv` belongs in {DOORS['uv'][0]}"


def _runs_uv(node: ast.expr) -> bool:
    match node:
        case ast.List(elts=[ast.Constant(value="uv"), _, *_]):
            return True
        case ast.Call(args=[ast.Constant(value=str(command)), *_]):
            return _called(node) in _STARTERS and command.split()[:1] == ["uv"]
    return False


def long_ones(module: Module) -> Iterator[str]:
    """A file is read in one sitting, a function on a screen or two."""
    lines = len(module.source.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{module.path}: {lines} lines, more than {MAX_FILE_LINES}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield (
                    f"{module.path}:{node.lineno}: `{node.name}` has {lines} lines, "
                    f"more than {MAX_FUNCTION_LINES}"
                )


def unfinished(module: Module) -> Iterator[str]:
    """What is in the package is finished."""
    for number, line in enumerate(module.source.splitlines(), start=1):
        if found := _UNFINISHED.search(line):
            yield f"{module.path}:{number}: {found[0]}"


def machine_paths(module: Module) -> Iterator[str]:
    """No text names a folder of somebody's machine.

    What follows a `{…}` in an f-string continues a path and does not start one.
    """
    continuations = {
        id(part)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.JoinedStr)
        for before, part in zip(node.values, node.values[1:], strict=False)
        if isinstance(before, ast.FormattedValue)
    }
    for node in ast.walk(module.tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in continuations:
                if found := _MACHINE_PATH.search(text):
                    yield f"{module.path}:{node.lineno}: a path below {found[0]}/"


def _called(node: ast.Call) -> str:
    """The last name of what is called: `run` for `subprocess.run(…)`."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _dotted(node: ast.expr) -> str:
    """`prefect.server.models` for that chain of attributes; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute) if before := _dotted(value):
            return f"{before}.{attribute}"
    return ""
