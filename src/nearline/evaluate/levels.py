"""The names of the levels of freshness that a replay compares."""

from typing import Final

LEVEL_0, LEVEL_1, LEVEL_2, WINDOW = "level 0", "level 1", "level 2", "window"
LEVEL_3, REFITTED, IDEAL = "level 3", "level 3 + refits", "ideal"
LEVELS: Final = (LEVEL_0, LEVEL_1, LEVEL_2, WINDOW, LEVEL_3, REFITTED, IDEAL)
"""The levels there are, in the order to show them."""
