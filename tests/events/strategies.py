"""Random events: everything that the types allow, whether or not the door would let it in."""

from hypothesis import strategies as st

from nearline.events.impression import Feedback, Impression, Tick

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NUMBER = st.floats(width=64)
FEATURES = st.dictionaries(TEXT, NUMBER, max_size=4) | st.lists(NUMBER, max_size=4)

IMPRESSIONS = st.builds(
    Impression,
    TEXT,
    INT64,
    st.dictionaries(TEXT, TEXT, max_size=3),
    st.dictionaries(TEXT, FEATURES, max_size=3),
    st.dictionaries(TEXT, st.tuples(NUMBER, NUMBER), max_size=3),
    NUMBER,
    NUMBER,
    st.none() | NUMBER,
    st.none() | TEXT,
    INT64,
    st.dictionaries(TEXT, INT64, max_size=3),
    st.none() | INT64,
    NUMBER,
)
EVENTS = (
    IMPRESSIONS | st.builds(Feedback, TEXT, INT64, NUMBER, NUMBER, st.none() | TEXT) | st.builds(Tick, INT64)
)
