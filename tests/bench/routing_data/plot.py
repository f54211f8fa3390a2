"""Draws quality against strong calls or cost, as SVG by hand."""

from collections.abc import Mapping, Sequence
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 420
LEFT: Final = 56
RIGHT: Final = 150
TOP: Final = 24
BOTTOM: Final = 48
COLOURS: Final = ("#1f6feb", "#d1495b", "#2a9d5c", "#8a63d2")


def draw(
    title: str, axes: str, curves: Mapping[str, Sequence[Sequence[float]]], *, lot: bool
) -> str:
    """Return a picture of curves of two shares; with ``lot``, of what sending by lot comes to too.

    ``axes`` says what runs to the right, and what upwards.
    """
    top = max([1.0, *(y for points in curves.values() for _, y in points)])
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="16" font-weight="bold">{title}</text>',
    ]
    for step in range(6):
        part = step / 5
        x, y = _place(part, part * top, top)
        lines += [
            f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>',
            f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e4e4e4"/>',
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{part:.0%}</text>',
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{part * top:.0%}</text>',
        ]
    if lot:
        (x0, y0), (x1, y1) = _place(0, 0, top), _place(1, 1, top)
        lines += [
            f'<path d="M{x0} {y0} L{x1} {y1}" stroke="#888888" stroke-dasharray="4 4"/>',
            f'<text x="{WIDTH - RIGHT + 10}" y="{HEIGHT - BOTTOM}" fill="#888888">random</text>',
        ]
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " L".join("{} {}".format(*_place(x, y, top)) for x, y in points)
        at = TOP + 18 + 20 * number
        lines += [
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{WIDTH - RIGHT + 10}" y="{at}" fill="{colour}">{name}</text>',
        ]
    lines += [f'<text x="{LEFT}" y="{HEIGHT - 10}">{axes}</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def _place(x: float, y: float, top: float) -> tuple[float, float]:
    across = LEFT + x * (WIDTH - RIGHT - LEFT)
    down = HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP)
    return round(across, 1), round(down, 1)
