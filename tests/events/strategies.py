"""Random events: everything that a record can hold, whether or not the door would let it in."""

from hypothesis import strategies as st

from nearline.events.impression import MAX_TIME_MS, Feedback, Impression, Tick

TIME = st.integers(0, MAX_TIME_MS - 1)
COUNT = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NUMBER = st.floats(width=64)
FEATURES = st.dictionaries(TEXT, NUMBER, max_size=4) | st.lists(NUMBER, max_size=4)

IMPRESSIONS = st.builds(
    Impression,
    TEXT,
    TIME,
    st.dictionaries(TEXT, TEXT, max_size=3),
    st.dictionaries(TEXT, FEATURES, max_size=3),
    st.dictionaries(TEXT, st.tuples(NUMBER, NUMBER), max_size=3),
    NUMBER,
    NUMBER,
    st.none() | NUMBER,
    st.none() | TEXT,
    COUNT,
    st.dictionaries(TEXT, COUNT, max_size=3),
    st.none() | TIME,
    NUMBER,
)
EVENTS = (
    IMPRESSIONS | st.builds(Feedback, TEXT, TIME, NUMBER, NUMBER, st.none() | TEXT) | st.builds(Tick, TIME)
)
