"""Ways to damage text and bytes."""

from __future__ import annotations

import random

SPICE = (
    "(", ")", "((", "))", "*", "**", "^", ":", "/", "+", "-", "~", "|", "||", "`", "'", '"', ",", "=", "==", "[", "]",
    "{", "}", "#", "\n", "\t", "\x00", "\ufeff", "\u202e", "é", "漢", "%in%", "1", "0", "-1", "1e309", "9" * 30, "NaN",
    "None", "__import__('os')", "lambda: 0", "x.y", "x[0]", "{{}}", "=1+1", "<script>", "\\", ";", "\r",
)  # fmt: skip


def text(draw: random.Random, seed: str, most: int = 4) -> str:
    """`seed` with a few characters or pieces left out, doubled, exchanged, or spiced."""
    out = seed
    for _ in range(draw.randint(0, most)):
        at, to = sorted(draw.randrange(len(out) + 1) for _ in range(2))
        match draw.randrange(6):
            case 0:
                out = out[:at] + draw.choice(SPICE) + out[at:]
            case 1:
                out = out[:at] + out[min(to, at + 6) :]
            case 2:
                out = out[:at] + out[at:to] * draw.choice((2, 2, 3, 20)) + out[to:]
            case 3:
                out = out[:at] + draw.choice(SPICE) + out[at + 1 :]
            case 4:
                out = out[:at] + chr(draw.choice((draw.randrange(32, 127), draw.randrange(0x2FFF)))) + out[at + 1 :]
            case _:
                out = out[to:] + out[at:to] + out[:at]
        out = out[:5_000]
    return out


def raw(draw: random.Random, seed: bytes) -> bytes:
    """`seed` cut, with bytes turned, doubled or left out."""
    out = bytearray(seed)
    for _ in range(draw.randint(1, 6)):
        if not out:
            break
        at = draw.randrange(len(out))
        match draw.randrange(5):
            case 0:
                out[at] ^= 1 << draw.randrange(8)
            case 1:
                out[at] = draw.choice((0, 9, 10, 13, 34, 44, 59, 255))
            case 2:
                del out[at : at + draw.randint(1, 90)]
            case 3:
                out[at:at] = out[at : at + draw.randint(1, 90)]
            case _:
                del out[at:]
    return bytes(out)
