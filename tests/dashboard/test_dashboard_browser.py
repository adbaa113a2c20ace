"""The pages in Chromium: light, dark and on a phone; nothing overflows, everything can be read, nothing moves focus.

`NEARLINE_SCREENSHOTS=DIR` keeps the pictures.
"""

import os
import shutil
import socket
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from shop import EMOJI, HOSTILE, Shop

from nearline.dashboard.watched import Watched
from nearline.events.impression import Impression
from nearline.events.wire import encode_event
from nearline.store.generations import Status

uvicorn = pytest.importorskip("uvicorn", reason="needs nearline[serve]")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES = {
    "overview": "",
    "entities": "entities",
    "entity": f"entity?name={quote(HOSTILE)}",
    "generations": "generations",
    "dead": "dead",
    "switch": "switch?number=2",
}
LOOKS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("dark", 360)}
FAINT = """
() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (one) => {
    for (; one !== null; one = one.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const one of document.querySelectorAll("body *")) {
    const says = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
    if (!says || one.getClientRects().length === 0) continue;
    const [a, b] = [light(numbers(getComputedStyle(one).color).slice(0, 3)), light(behind(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${one.tagName} ${one.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}
"""


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("browsed"))
    shop.open_for(40)
    shop.log.append([b"\x01<script>alert(2)</script>"])
    shop.open_for(4)
    store = shop.store
    number = store.create(store.model(1), created_ms=shop.clock.now_ms(), level=2).number
    figures = {"margin": 0.01, "rows": 90.0, "loss": 0.61, "calibration": 1.02, "served_loss": 0.6}
    store.mark(number, Status.CANDIDATE, metrics=figures)
    shop.deployment()
    yield shop
    shop.close()


@pytest.fixture(scope="module")
def address(open_shop):
    from nearline.dashboard.http import create_app

    app = create_app(Watched(open_shop.deployment_open, clock=open_shop.clock), may_change=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, address):
    """Open a page in a scheme and a width; nothing may be said on its console."""
    said, contexts = [], []

    def open_(path, scheme="light", width=1280):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.clock.install()
        page.goto(address + path)
        if path == PAGES["overview"]:
            playwright.expect(page.locator("#updated")).to_contain_text("Updated")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [one for one in said if not one.startswith("Failed to load resource")] == []


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_fits_and_can_be_read(opened, tmp_path, look):
    scheme, width = LOOKS[look]
    page = opened(PAGES["overview"], scheme, width)
    root = page.url
    for name, path in PAGES.items():
        if name != "overview":
            page.goto(root + path)
        charts = {"overview": 4, "entity": 1}.get(name, 0)
        playwright.expect(page.locator(".plot canvas")).to_have_count(charts)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(FAINT) == [], name
        for chart in page.locator(".plot").all():
            outer, canvas = chart.bounding_box(), chart.locator("canvas").bounding_box()
            assert 0.9 * outer["width"] <= canvas["width"] <= outer["width"]
        picture = Path(os.environ.get("NEARLINE_SCREENSHOTS", tmp_path)) / f"{name}-{look}.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 5_000


def test_new_numbers_come_by_themselves_and_leave_focus_where_it_is(opened, open_shop):
    page = opened(PAGES["overview"])
    field = page.get_by_label("Entity", exact=True)
    field.click()
    field.type("user")
    lag = page.locator("#number-lag-events")
    assert lag.text_content() == "0"
    open_shop.log.append(
        [encode_event(Impression(f"new-{i}", open_shop.clock.now_ms(), {})) for i in range(3)]
    )
    open_shop.clock.advance(2_000)
    page.clock.run_for(6_000)
    playwright.expect(lag).to_have_text("3")
    assert page.evaluate("document.activeElement.id") == "entity-name"
    assert field.input_value() == "user"
    assert "events a second" in page.locator("#said").text_content()


def test_updates_can_be_paused_by_the_keyboard(opened):
    page = opened(PAGES["overview"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    pause = page.get_by_role("button", name="Pause updates")
    playwright.expect(pause).to_have_attribute("aria-pressed", "true")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(20_000)
    assert asked == []
    pause.click()
    with page.expect_response("**/overview.json"):
        page.clock.run_for(6_000)


def test_a_lost_server_is_said_and_found_again(opened):
    page = opened(PAGES["overview"])
    page.route("**/overview.json", lambda route: route.fulfill(status=503, body="{}"))
    page.clock.run_for(6_000)
    updated = page.locator("#updated")
    playwright.expect(updated).to_contain_text("No answer (503)")
    page.unroute("**/overview.json")
    page.clock.run_for(6_000)
    playwright.expect(updated).to_contain_text("Updated")


def test_a_name_is_found_by_typing_it_and_is_text(opened):
    page = opened(PAGES["entities"])
    page.get_by_label("Entity", exact=True).fill(EMOJI)
    page.get_by_role("button", name="Show").click()
    assert page.get_by_role("heading", level=1).text_content() == f"Entity {EMOJI}"
    page.goto(page.url.partition("entity?")[0] + PAGES["entity"])
    assert page.get_by_role("heading", level=1).text_content() == f"Entity {HOSTILE}"


def test_a_generation_is_switched_to_by_asking_and_answering(opened, open_shop):
    page = opened(PAGES["generations"])
    page.get_by_role("button", name="Switch to generation 2").click()
    assert open_shop.store.live() == 1
    page.get_by_role("button", name="Switch to generation 2").click()
    page.wait_for_url("**/generations")
    assert open_shop.store.live() == 2
    open_shop.store.rollback()
