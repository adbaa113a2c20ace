"""A shop that has been open for a while, for the tests that only look."""

import pytest
from shop import Shop

from nearline.dashboard.watched import Watched
from nearline.events.impression import Feedback
from nearline.events.wire import encode_event


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Sixty requests; then three records that cannot be used, and ten requests more that move event time on."""
    opened = Shop(tmp_path_factory.mktemp("shop"))
    opened.open_for(60)
    now_ms = opened.clock.now_ms()
    letters = [encode_event(Feedback(name, now_ms, 1.0)) for name in ("nobody/0", "<i>nobody</i>/1")]
    opened.log.append([*letters, b"\x01<script>alert(2)</script>"])
    opened.open_for(10)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def watched(shop):
    return Watched(shop.deployment(), clock=shop.clock)


@pytest.fixture(scope="session")
def look(watched):
    return watched.look()


@pytest.fixture
def new_shop(tmp_path):
    """One that nobody has visited."""
    opened = Shop(tmp_path)
    opened.deployment()
    yield opened
    opened.close()
