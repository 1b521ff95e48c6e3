"""Mutations without coverage, the same ones for the same seed: for the short run, which needs no atheris."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

from tests.fuzz.target import Target

#: Values at the edges of what a field of 1, 2, 4 or 8 bytes can hold.
_EDGES = [
    number.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for number in (0, 1, (1 << (8 * size - 1)) - 1, 1 << (8 * size - 1), (1 << 8 * size) - 1)
    for order in ("little", "big")
]
#: What text readers take for an end, a quote or a control character.
_ODD = (
    b"\n",
    b"\0",
    b"\r",
    b"\x1b[2J",
    b"\x85",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xff",
    b'"',
    b"'",
    b"\\",
    b"-1",
    b"9" * 30,
)


#: Values for any place of a JSON document.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 1 << 31, 1 << 64, 1e308, float("inf"), float("nan"), "", [], {}, [[]]),
    *(
        {"a": None},
        "a\0b",
        "\x1b[2J",
        "\ud800",
        "eth0",
        "10.0.0.1/24",
        "::/0",
        "x" * 300,
        [None],
        [{}],
        "-1",
        "1",
    ),
)


def mutated(chance: Random, target: Target, corpus: Sequence[bytes]) -> Iterator[bytes]:
    """Yield inputs without end: each one of the corpus with one to six changes."""
    while True:
        data = bytearray(chance.choice(corpus))
        if target.is_json and chance.randrange(3):
            data[:] = with_values(chance, bytes(data)) or data
        else:
            for _ in range(chance.randint(1, 6)):
                _change(chance, data, corpus, target.tokens)
        yield bytes(data[: target.largest])


def with_values(chance: Random, data: bytes) -> bytes:
    """Return a JSON document with one to three values changed; b"" if it is none."""
    try:
        document = [json.loads(data)]
    except (ValueError, RecursionError):
        return b""
    for _ in range(chance.randint(1, 3)):
        places = list(_places(document))
        holder, key = chance.choice(places)
        other = chance.choice(places)
        value = chance.choice(_VALUES) if chance.randrange(4) else other[0][other[1]]
        match chance.randrange(8):
            case 0 if holder is not document:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice([str(other[1]), "x", ""])] = deepcopy(value)
            case 2 if isinstance(holder, list):
                holder.insert(key, deepcopy(value))
            case _:
                holder[key] = deepcopy(value)
    return json.dumps(document[0], ensure_ascii=bool(chance.randrange(2))).encode("utf-8", "surrogatepass")


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each list and dictionary with each of its keys."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _change(chance: Random, data: bytearray, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    place = chance.randint(0, len(data))
    length = min(chance.choice((1, 2, 4, 8, 64)), len(data) - place)
    match chance.randrange(8):
        case 0:
            data[place : place + length] = chance.randbytes(length)
        case 1:
            del data[place : place + length]
        case 2:
            data[place:place] = data[place : place + length] * chance.choice((1, 2, 50))
        case 3:
            value = chance.choice(_EDGES)
            data[place : place + len(value)] = value
        case 4:
            data[place : place + chance.choice((0, length))] = chance.choice([*tokens, *_ODD])
        case 5:
            other = chance.choice(corpus)
            begin = chance.randint(0, len(other))
            data[place : place + length] = other[begin : begin + chance.choice((4, 32, 256))]
        case 6:
            del data[place:]
        case 7 if place < len(data):
            data[place] ^= 1 << chance.randrange(8)
