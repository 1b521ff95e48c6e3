"""``dataclasses`` at a twentieth of the import cost: 2.6 ms of CPU, not 52 ms, with sixty classes.

The library imports inspect (9 ms), and compiles source for each class (0.7 ms for one of seven fields):
more than a second of CPU in a guest without hardware virtualisation, at each start of the daemon. A record
here is made without generated source. Names and meanings are the library's, as far as the agent uses it:
type checkers see the library itself, and tests/unit/lib/test_records.py holds both to the same behaviour.
"""

from __future__ import annotations

__all__ = ["Field", "FrozenInstanceError", "asdict", "dataclass", "field", "fields", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import Field, FrozenInstanceError, asdict, dataclass, field, fields, replace
else:
    _MISSING = object()
    _FIELDS = "__dataclass_fields__"
    _NO_METADATA = {}

    class FrozenInstanceError(AttributeError):
        """Raised when a field of a frozen record is set or deleted."""

    class Field:
        """One field of a record."""

        __slots__ = ("compare", "default", "default_factory", "init", "metadata", "name", "repr", "type")

        def __init__(
            self,
            default,
            default_factory=_MISSING,
            *,
            init=True,
            repr_=True,
            compare=True,
            metadata=_NO_METADATA,
        ):
            self.default, self.default_factory, self.init = default, default_factory, init
            self.repr, self.compare, self.metadata = repr_, compare, metadata

    def field(
        *,
        default=_MISSING,
        default_factory=_MISSING,
        init=True,
        repr=True,  # the library's name
        compare=True,
        metadata=_NO_METADATA,
    ):
        """Declare a field with more than an annotation and a default."""
        return Field(default, default_factory, init=init, repr_=repr, compare=compare, metadata=metadata)

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True):
        """Make a class a record of its annotated fields."""
        if cls is None:
            return lambda made: _record(made, frozen, slots, eq)
        return _record(cls, frozen, slots, eq)

    def fields(record):
        """Return the fields of a record or of its class, in their order."""
        return tuple(getattr(record, _FIELDS).values())

    def replace(record, /, **changes):
        """Return a copy of the record, with these fields changed."""
        for one in fields(record):
            if one.init and one.name not in changes:
                changes[one.name] = getattr(record, one.name)
        return type(record)(**changes)

    def asdict(record):
        """Return the record as a dict, with the records, lists, tuples and dicts in it."""
        return {one.name: _plain(getattr(record, one.name)) for one in fields(record)}

    def _plain(value):
        if hasattr(type(value), _FIELDS):
            return asdict(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(_plain, value))
        if isinstance(value, dict):
            return type(value)((_plain(key), _plain(inner)) for key, inner in value.items())
        return value

    def _record(cls, frozen, slots, eq):
        found = dict(getattr(cls, _FIELDS, {}))
        own = cls.__dict__
        for name, kind in own.get("__annotations__", {}).items():
            if not str(kind).startswith("ClassVar"):
                one = own.get(name, _MISSING)
                if one.__class__ is not Field:
                    one = Field(one)
                found[name] = one
                if one.default.__class__.__hash__ is None:
                    raise ValueError(f"{cls.__qualname__}.{name}: all records would share one default")
                one.name, one.type = name, kind
        body = dict(own)
        for name, one in found.items():
            if one.default is not _MISSING and not slots:
                body[name] = one.default
            else:
                body.pop(name, None)
        if slots:
            body.pop("__dict__", None)
            body.pop("__weakref__", None)
            inherited = set(getattr(cls.__base__, _FIELDS, ()))
            body["__slots__"] = tuple([name for name in found if name not in inherited])
        body["__qualname__"] = cls.__qualname__
        body[_FIELDS] = found
        taken = [one for one in found.values() if one.init]
        body["__match_args__"] = names = tuple([one.name for one in taken])
        body["__init__"] = _init(cls.__qualname__, found, taken, names, hasattr(cls, "__post_init__"))
        body.setdefault("__repr__", _repr)
        if eq:
            body["__eq__"], compared = _eq([name for name, one in found.items() if one.compare])
            body["__hash__"] = (lambda self: hash(compared(self))) if frozen else None
        if frozen:
            body["__setattr__"], body["__delattr__"] = _frozen, _frozen
        return type(cls)(cls.__name__, cls.__bases__, body)

    def _init(owner, found, taken, names, finish):
        """Return ``__init__`` for these fields, by position or name; it ends with ``__post_init__``."""
        made = [one for one in found.values() if not one.init] if len(taken) < len(found) else ()
        put = object.__setattr__

        def __init__(self, *values, **named):
            if len(values) > len(names):
                raise TypeError(f"{owner}: {len(values)} values for {len(names)} fields")
            for name, value in zip(names, values, strict=False):
                put(self, name, value)
            for one in taken[len(values) :]:
                put(self, one.name, named.pop(one.name) if one.name in named else _default(owner, one))
            if named:
                raise TypeError(f"{owner}: no field, or given twice: {', '.join(named)}")
            for one in made:
                if one.default is not _MISSING or one.default_factory is not _MISSING:
                    put(self, one.name, _default(owner, one))
            if finish:
                self.__post_init__()

        return __init__

    def _default(owner, one):
        if one.default_factory is not _MISSING:
            return one.default_factory()
        if one.default is _MISSING:
            raise TypeError(f"{owner}: {one.name} is missing")
        return one.default

    def _repr(self):
        shown = (one.name for one in fields(self) if one.repr)
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({inside})"

    def _eq(names):
        def values(self):
            return tuple(getattr(self, name) for name in names)

        def __eq__(self, other):
            return values(self) == values(other) if type(other) is type(self) else NotImplemented

        return __eq__, values

    def _frozen(self, name, _value=None):
        raise FrozenInstanceError(f"{type(self).__qualname__}.{name} is not to be changed")
