"""What the join refuses, and why."""

from nearline.events.impression import MAX_NAME_BYTES

NO_IMPRESSION = "its impression did not come in time, or is forgotten"
NO_ID = f"id of the impression: expected 1 to {MAX_NAME_BYTES} bytes of UTF-8"
NO_FEEDBACK_ID = f"id of the feedback: expected at most {MAX_NAME_BYTES} bytes of UTF-8"
NO_NUMBER = "label, weight: expected finite numbers, the weight 0 or more"
TOO_EARLY = "it is older than its impression by more than the attribution window"

REASONS = (NO_IMPRESSION, NO_ID, NO_FEEDBACK_ID, NO_NUMBER, TOO_EARLY)
"""In the order of the kernel's, `Reason` in kernels/join_run.hpp."""


def is_name(name: str) -> bool:
    """Whether an impression may have this id."""
    return 0 < len(name) <= MAX_NAME_BYTES and (name.isascii() or len(name.encode()) <= MAX_NAME_BYTES)
