"""A figure of the reports as a file of its own: fixed colours on white, for pages that have no variables for them."""

import re
from typing import Final

COLOURS: Final = {
    "ink": "#1b1f24",
    "muted": "#626b76",
    "grid": "#e6e9ed",
    "model": "#0064a6",
    "other": "#b34a00",
    "third": "#2c7a3f",
    "fourth": "#7a3f9d",
}


def standalone(svg: str) -> str:
    """The figure with colours and a background of its own."""
    coloured = re.sub(r"var\(--(\w+)\)", lambda found: COLOURS[found[1]], svg)
    return coloured.replace(
        "<svg ",
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="background:#fff" ',
        1,
    )
