"""Changes at random: to the values of a JSON file or a checkpoint, to the bytes of any file, to those inside a zip."""

import copy
import io
import random
import zipfile
from collections.abc import Iterator
from typing import Any

ODD = (
    *(None, True, False, 0, 1, -1, 3, 0.5, -0.0, 1e18, 1e308, 10**40, 2**31, 2**63, float("nan"), float("inf")),
    *("", "1", "x", "\ud800", "9" * 5000, [], [[]], {}, [1, 2], {"a": 1}, [None], -float("inf"), "é", [10**400] * 6),
)
#: Put into the bytes of a file: what numbers and brackets are made of, and far too many of them.
BYTES = (b"", b"NaN", b"1e999", b'"', b"{[", b"-", b"[" * 3000, b"9" * 5000, b"\0", b"\xff\xfe", b"\n", b"null")


def mutate(data: Any, dice: random.Random) -> Any:
    """A copy with one to four of its values changed, lost, repeated, or exchanged with another's."""
    data = copy.deepcopy(data)
    for _ in range(dice.randint(1, 4)):
        places = list(walk(data))
        if not places:
            break
        holder, key = dice.choice(places)
        action = dice.choice(("odd", "odd", "lose", "exchange", "repeat"))
        if action == "odd":
            holder[key] = copy.deepcopy(dice.choice(ODD))
        elif action == "lose":
            del holder[key]
        elif action == "exchange":
            other, place = dice.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
    return data


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in a dictionary or a list."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from walk(inner)


def changed(content: bytes, dice: random.Random) -> bytes:
    """Change, cut out, repeat or put in a few bytes; once in ten times cut the rest off."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        place, length = dice.randrange(len(data) + 1), dice.choice((1, 1, 2, 9, 200))
        if data and (kind := dice.random()) < 0.4:
            # Half of them become digits, which most text files would still be sound with.
            place %= len(data)
            data[place] = dice.choice(b"0123456789") if kind < 0.2 else data[place] ^ 1 << dice.randrange(8)
        else:
            data[place : place + dice.choice((0, length))] = dice.choice(
                (dice.randbytes(length), data[:length], *BYTES)
            )
    return bytes(data[: dice.randrange(len(data) + 1)]) if dice.random() < 0.1 else bytes(data)


def changed_in_zip(content: bytes, dice: random.Random, ending: str) -> bytes:
    """Change the bytes of one file of a zip file; lengths and sums of the whole are right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, changed(data, dice) if name.endswith(ending) else data)
    return out.getvalue()
