"""What an estimator is: a digest of its code, of all that it refers to, and of the software under it.

Stored replicates may only be used again for the very estimator that made them. A function is its code, defaults and
closure, and the functions and values of its own module that it names, followed through; installed packages count with
their version; kapstats with its source.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from kapstats.errors import DataError
from kapstats.estimates import versions


def of_callable(estimator: Callable[..., Any]) -> str:
    """Digest of a callable; another closure, helper, default or version has another one.

    Raises
    ------
    DataError
        When something that the callable refers to cannot be read (an open file, a lock); give ``key=`` then.

    Examples
    --------
    >>> one, again, two = (of_callable(functools.partial(max, by)) for by in (1, 1, 2))
    >>> one == again, one == two
    (True, False)
    """
    found = hashlib.sha256(software().encode())
    for part in _parts(estimator, {}):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


@functools.cache
def software() -> str:
    """Versions of what computes, and a digest of the source of kapstats."""
    found = hashlib.sha256()
    root = resources.files("kapstats")
    for path in sorted(_sources(root), key=str):
        found.update(path.read_bytes())
    return repr((sorted(versions().items()), found.hexdigest()))


def _sources(folder: Any) -> Iterator[Any]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.endswith(".py"):
            yield entry


def _parts(value: Any, known: dict[int, Any]) -> Iterator[bytes]:
    """Everything that tells `value` from another, in an order that does not change."""
    if id(value) in known and not isinstance(value, (str, bytes, int, float, bool, type(None))):
        yield b"again"
        return
    known[id(value)] = value  # held, so that no other object takes its place
    if isinstance(value, functools.partial):
        yield from _all([value.func, value.args, sorted(value.keywords.items())], known)
    elif isinstance(value, MethodType):
        yield from _all([value.__func__, value.__self__], known)
    elif isinstance(value, ModuleType | BuiltinFunctionType):
        yield repr((value.__name__, _version(value.__name__ if isinstance(value, ModuleType) else ""))).encode()
    elif isinstance(value, FunctionType):
        yield from _function(value, known)
    elif isinstance(value, type):
        yield from _class(value, known)
    elif isinstance(value, list | tuple):
        yield type(value).__name__.encode()
        yield from _all(value, known)
    elif isinstance(value, dict):
        yield from _all([item for pair in value.items() for item in pair], known)
    else:
        yield _pickled(value)
        if not _installed(type(value).__module__):
            yield from _class(type(value), known)


def _all(values: Any, known: dict[int, Any]) -> Iterator[bytes]:
    for value in values:
        yield from _parts(value, known)


def _function(function: FunctionType, known: dict[int, Any]) -> Iterator[bytes]:
    """Code, defaults, closure and the named globals of a function; of an installed one its name and version."""
    module = function.__module__ or ""
    if _installed(module):
        yield repr((module, function.__qualname__, _version(module))).encode()
        return
    yield from _code(function.__code__)
    yield from _all([function.__defaults__, sorted((function.__kwdefaults__ or {}).items())], known)
    for cell in function.__closure__ or ():
        filled = cell != type(cell)()  # a function may close over a name that has no value yet
        yield from _parts(cell.cell_contents if filled else "no value", known)
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield name.encode()
        yield from _parts(function.__globals__[name], known)


def _class(kind: type, known: dict[int, Any]) -> Iterator[bytes]:
    """The functions and values of a class of the user's, its bases included; of an installed one its name."""
    if _installed(kind.__module__):
        yield repr((kind.__module__, kind.__qualname__, _version(kind.__module__))).encode()
        return
    for name, value in sorted(vars(kind).items()):
        if not name.startswith("__") or callable(value):
            yield name.encode()
            held = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            yield from _parts(held.fget if isinstance(held, property) else held, known)
    yield from _all(kind.__bases__, known)


def _code(code: CodeType) -> Iterator[bytes]:
    yield repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode()


def _names(code: CodeType) -> set[str]:
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=4)
    except Exception as error:
        raise DataError(
            f"certify: the estimator refers to a {type(value).__name__} whose content cannot be read, so stored "
            "replicates could be those of another estimator. Give key='...' (change it when the estimator changes), or "
            "leave out out=."
        ) from error


@functools.cache
def _installed(module: str) -> bool:
    """Whether a module belongs to kapstats, the standard library or an installed package: not code of the user's."""
    top = module.partition(".")[0]
    if top == "kapstats" or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    folders = Path(getattr(sys.modules.get(top), "__file__", None) or "").parts
    return "site-packages" in folders or "dist-packages" in folders


@functools.cache
def _version(module: str) -> str:
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    return ", ".join(metadata.version(name) for name in names)
