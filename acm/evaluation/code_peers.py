"""How the tests of a program and the program itself, two processes, reach each other's objects.

Plain data crosses. Any other object stays where it is, and the other side holds a :class:`Remote`. Messages are pickles
that can name no class and no function, so reading one runs nothing.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import operator
import pickle
import pickletools
import sys
import traceback
from collections import Counter, deque
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any, TypeGuard

LARGEST = 1 << 28  # bytes of a message
ACTING = ("BUILD", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ")  # codes of a pickle that change or make objects
PLAIN = (type(None), bool, int, float, str, bytes, bytearray, tuple, list, dict, set, frozenset)
# Further types that cross, each as the arguments of its constructor. Those of the program's own that extend a plain
# type cross as that type.
VALUES: dict[type, Any] = {
    complex: lambda x: (x.real, x.imag),
    range: lambda x: (x.start, x.stop, x.step),
    slice: lambda x: (x.start, x.stop, x.step),
    deque: lambda x: (list(x), x.maxlen),
    Counter: lambda x: (dict(x),),
    Decimal: lambda x: (str(x),),
    Fraction: lambda x: (x.numerator, x.denominator),
    date: lambda x: (x.year, x.month, x.day),
    datetime: lambda x: (x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond, x.tzinfo),
    timedelta: lambda x: (x.days, x.seconds, x.microseconds),
    type({}.keys()): lambda x: (list(x),),
    type({}.values()): lambda x: (list(x),),
}
BASES = (bool, int, float, str, bytes, tuple, list, dict, set, frozenset)
CONSTRUCTORS: dict[str, Any] = {kind.__name__: kind for kind in (*VALUES, *BASES)} | {
    "dict_keys": lambda found: dict.fromkeys(found).keys(),
    "dict_values": lambda found: dict(enumerate(found)).values(),
}
OPERATIONS: dict[str, Any] = {  # on an object of the other process, done there
    "__call__": lambda f, *arguments, **named: f(*arguments, **named), "__iter__": iter, "__next__": next,
    "__len__": len, "__getitem__": operator.getitem, "__setitem__": operator.setitem,
    "__str__": str, "__repr__": repr, "__bool__": bool, "__int__": int, "__float__": float,
}  # fmt: skip
# Between two objects of the other process alone: from one of the tests' values it would learn that, and could agree.
BETWEEN = {name: getattr(operator, name) for name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")}
BETWEEN |= {name: getattr(operator, name) for name in ("__add__", "__sub__", "__mul__")}
BETWEEN["__instancecheck__"] = lambda kind, thing: isinstance(thing, kind)


class Ended(BaseException):
    """The other process has ended, or says what makes no sense."""


class Remote:
    """An object of the other process. What is done to it is done there."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.__dict__.update(peer_=peer, number_=number)

    def __getattr__(self, name: str) -> Any:
        return self.peer_.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.peer_.ask("setattr", self, name, value)


def forwarded(name: str) -> Any:
    """A method that does the same to the object itself."""

    def method(self: Remote, *arguments: Any, **named: Any) -> Any:
        if name in BETWEEN and type(arguments[0]) is not Remote:
            return name != "__instancecheck__" and NotImplemented
        return self.peer_.call(self, name, arguments, named)

    return method


for name in OPERATIONS | BETWEEN:
    setattr(Remote, name, forwarded(name))


class Peer:
    """One end of the socket. Each side asks, and answers what it is asked while it waits.

    open: whether the other side may reach all that this side's objects lead to, or call functions alone.
    """

    def __init__(self, connection: Connection, open: bool, names: dict[str, Any]) -> None:
        self.connection, self.open, self.names = connection, open, names
        self.given: list[Any] = []
        self.numbers: dict[int, int] = {}  # by the id of an object, which ``given`` keeps alive
        self.remotes: dict[int, Remote] = {}
        self.errors: dict[str, type[Exception]] = {}

    def send(self, *message: Any) -> None:
        """Send a message of plain data and objects of either side."""
        if self.open:  # what the program printed stays, though it may be killed next
            with contextlib.suppress(Exception):
                sys.stdout.flush()
        buffer = io.BytesIO()
        Sender(buffer, self).dump(message)
        self.connection.send_bytes(buffer.getvalue())

    def receive(self) -> Any:
        """The next message. It runs nothing here."""
        try:
            data = self.connection.recv_bytes(LARGEST)
            if self.given and not self.open and any(code.name in ACTING for code, _, _ in pickletools.genops(data)):
                raise pickle.UnpicklingError("it would change an object of the tests")
            return Receiver(io.BytesIO(data), self).load()
        except Exception as error:  # whatever the other side makes up
            raise Ended(f"{type(error).__name__}: {error}") from None

    def ask(self, *question: Any) -> Any:
        """What the other side answers. An error there is raised here."""
        self.send("?", *question)
        while True:
            kind, *found = self.receive()
            if kind == "?":
                self.answer(*found)
            elif kind == "=":
                return found[0]
            else:
                names, text = found
                raise self.error(names)(text)

    def call(self, target: Remote, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What a method of the other side's object returns. Lists, dicts and sets that it changed are changed here."""
        found, after = self.ask("call", target, name, arguments, named)
        for old, new in zip(arguments, after, strict=True):
            if type(old) is type(new) is list:
                old[:] = new
            elif type(old) is type(new) in (dict, set):
                old.clear()
                old.update(new)
        return found

    def answer(self, action: str, *details: Any) -> None:
        """Do what the other side asks for, and say what came of it."""
        try:
            found = self.done(action, *details)
        except Exception as error:
            if self.open:
                traceback.print_exc()
            self.send("!", ancestors(type(error)), str(error)[:1000])
        else:
            self.send("=", found)

    def done(self, action: str, *details: Any) -> Any:
        """What an action gives."""
        if not self.open and (action, details[1]) != ("call", "__call__"):
            raise TypeError("the tests' functions can be called, and nothing else")
        if action == "call":
            target, name, arguments, named = details
            return (OPERATIONS | BETWEEN)[name](target, *arguments, **named), list(arguments)
        if action == "names":
            return {name: self.names[name] for name in details[0] if name in self.names}
        return {"getattr": getattr, "setattr": setattr}[action](*details)

    def crossing(self, thing: Any) -> Any:
        """How an object crosses. None: as it is."""
        kind = type(thing)
        if kind in PLAIN:
            return None
        if kind in VALUES:
            return "value", kind.__name__, VALUES[kind](thing)
        if kind is Remote:
            return "yours", thing.number_
        if kind.__module__ == "numpy" and getattr(thing, "shape", None) == () and type(thing.item()) in BASES:
            return "value", type(thing.item()).__name__, (thing.item(),)
        if isinstance(thing, BASES):
            base: Any = next(base for base in BASES if isinstance(thing, base))
            return "value", base.__name__, (str.__str__(thing) if base is str else base(thing),)
        if is_error(thing):
            return "error", ancestors(thing)
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = len(self.given)
            self.given.append(thing)
        return "mine", self.numbers[id(thing)]

    def arrived(self, form: Any) -> Any:
        """What crossed in this form."""
        kind, *details = form
        if kind == "value":
            name, arguments = details
            return CONSTRUCTORS[name](*arguments)
        (found,) = details
        if kind == "error":
            return self.error(found)
        if kind == "yours":
            return self.given[found]
        return self.remotes.setdefault(found, Remote(self, found))

    def error(self, names: list[str]) -> type[Exception]:
        """The class of errors of this name: a built-in one, else one made here. names: its own, then its ancestors'."""
        if is_error(known := getattr(builtins, names[0], None)):
            return known
        if names[0] not in self.errors:
            self.errors[names[0]] = type(names[0], (self.error(names[1:]),), {})
        return self.errors[names[0]]


class Sender(pickle.Pickler):
    """Writes plain data; ``Peer.crossing`` says how anything else crosses."""

    def __init__(self, buffer: io.BytesIO, peer: Peer) -> None:
        super().__init__(buffer, protocol=5)
        self.peer = peer

    def persistent_id(self, thing: Any) -> Any:
        return self.peer.crossing(thing)


class Receiver(pickle.Unpickler):
    """Reads plain data. It finds no class and no function, so that a message cannot run anything."""

    def __init__(self, buffer: io.BytesIO, peer: Peer) -> None:
        super().__init__(buffer)
        self.peer = peer

    def persistent_load(self, form: Any) -> Any:
        return self.peer.arrived(form)

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} may not cross")


def ancestors(kind: type[Exception]) -> list[str]:
    """The names of a class of errors and of those above it, up to Exception."""
    return [above.__name__ for above in kind.__mro__ if issubclass(above, Exception)]


def is_error(kind: Any) -> TypeGuard[type[Exception]]:
    """Whether this is a class of errors."""
    return isinstance(kind, type) and issubclass(kind, Exception)
