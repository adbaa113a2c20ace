"""The pages as a browser gets them: what is in them, what is escaped, who may look and who may change."""

import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from shop import EMOJI, HOSTILE

from nearline.dashboard.watched import Watched
from nearline.store.generations import Status

pytest.importorskip("starlette", reason="needs nearline[serve]")
pytest.importorskip("httpx2", reason="the test client of Starlette needs it")

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from nearline.dashboard.http import create_app, routes

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "/",
    "/entities",
    "/generations",
    "/dead",
    f"/entity?name={quote(HOSTILE)}",
    f"/entity?name={quote(EMOJI)}",
)
PASSWORD = "secret"  # noqa: S105 - of a test
DOCUMENTS = ("/overview.json", f"/entity.json?name={quote(HOSTILE)}")


@pytest.fixture
def client(watched):
    return TestClient(create_app(watched))


@pytest.fixture
def changing(new_shop):
    """A shop with a candidate, generation 2, and the client of a dashboard that may switch to it."""
    store = new_shop.store
    store.mark(store.create(store.model(1), created_ms=0).number, Status.CANDIDATE)
    watched = Watched(new_shop.deployment_open, clock=new_shop.clock)
    return store, TestClient(create_app(watched, may_change=True), follow_redirects=False)


class Outline(HTMLParser):
    """What a page is made of: tags with attributes in order, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_landmarks_and_nothing_that_its_policy_forbids(client, path):
    reply = client.get(path)
    assert reply.status_code == 200
    outline = Outline(reply.text)
    assert outline.open == []
    tags = [tag for tag, _ in outline.tags]
    assert [tags.count(one) for one in ("main", "h1", "nav", "header")] == [1, 1, 1, 1]
    assert tags.count("caption") == tags.count("table")
    assert "style" not in tags
    for tag, attributes in outline.tags:
        assert tag != "script" or attributes["src"].startswith("static/")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [attributes.get("aria-labelledby") for _, attributes in outline.tags]
    assert set(filter(None, labelled)) <= set(ids)


@pytest.mark.parametrize(
    "path", [*PAGES, *DOCUMENTS, "/entity?name=nobody", "/static/dashboard.js", "/no-such"]
)
def test_every_reply_has_the_headers_that_keep_scripts_out(client, path):
    reply = client.get(path)
    if reply.status_code == 404 and path == "/no-such":
        assert reply.headers["content-type"].startswith("text/plain")
        return
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_names_are_escaped_wherever_they_come_from(client, path):
    page = client.get(path).text
    for hostile in (HOSTILE, "<script>alert(2)</script>", "<i>nobody</i>", "<b>Noir</b>"):
        assert hostile not in page
    for hostile in (quote(HOSTILE), "%22%3E%3Cscript%3Ealert(3)%3C/script%3E", "'%20onfocus=alert(4)%20'"):
        found = Outline(client.get(f"/entity?name={hostile}").text)
        assert [tag for tag, _ in found.tags].count("script") == 2


def test_names_come_through_whole(client):
    entities = unescape(client.get("/entities").text)
    assert f">{EMOJI}</a>" in entities
    assert f">{HOSTILE}</a>" in entities
    assert f'<span class="name">{EMOJI}</span>' in client.get(f"/entity?name={quote(EMOJI)}").text
    assert "nobody" in unescape(client.get("/dead").text)
    assert (
        "&lt;script&gt;alert(2)&lt;/script&gt;" not in client.get("/dead").text
    )  # it is no event: hexadecimal
    assert b"<script>alert(2)</script>".hex() in client.get("/dead").text


def test_the_numbers_fetched_are_those_of_the_page(client):
    page, live = unescape(client.get("/").text), client.get("/overview.json").json()
    for one in live["numbers"]:
        assert f'id="number-{one["id"]}">{one["text"]}<' in page
    for table in [*live["tables"], *(chart["table"] for chart in live["charts"])]:
        assert f'id="table-{table["id"]}"' in page
        for row in table["rows"]:
            assert len(row) == len(table["columns"])
            assert all(cell in page for cell in row)
    for chart in live["charts"]:
        assert f'id="plot-{chart["id"]}"' in page
        assert all(len(one["values"]) == len(chart["x"]) > 1 for one in chart["series"])


def test_what_is_fetched_of_an_entity_is_that_of_its_page(client):
    query = f"name={quote(HOSTILE)}"
    page, live = unescape(client.get(f"/entity?{query}").text), client.get(f"/entity.json?{query}").json()
    for table in [*live["tables"], *(chart["table"] for chart in live["charts"])]:
        assert f'id="table-{table["id"]}"' in page
        assert all(cell in page for row in table["rows"] for cell in row)
    assert [table["id"] for table in live["tables"]] == ["examples", "ranking"]
    assert f'data-source="entity.json?name={quote(HOSTILE, safe="")}"' in page


def test_a_name_that_nobody_knows_is_not_found(client):
    reply = client.get("/entity?name=nobody")
    assert reply.status_code == 404
    assert "served by the population prior" in reply.text
    assert client.get("/entity").status_code == 404


def test_without_a_live_generation_the_page_says_so(tmp_path):
    from nearline.dashboard.deployment import Deployment
    from nearline.events.log import MemoryLog
    from nearline.events.partition import partitions_of
    from nearline.store.memory import MemoryStore
    from nearline.stream.joined_log import JoinedLog

    rows = JoinedLog(tmp_path / "joined")
    empty = Deployment(MemoryLog(), rows, MemoryStore(partitions_of, partitions=1), "empty")
    client = TestClient(create_app(Watched(empty)))
    assert client.get("/").status_code == 503
    assert "no generation is live yet" in client.get("/overview.json").text
    assert "No generations yet." in client.get("/generations").text
    rows.close()


def test_without_leave_nothing_can_be_changed(client):
    assert (
        "disabled" not in client.get("/generations").text
    )  # the only generation is live: nothing to switch to
    assert client.get("/switch?number=1").status_code == 404
    assert client.post("/switch", data={"number": "1"}).status_code == 404


def test_without_leave_the_button_is_disabled(new_shop):
    store = new_shop.store
    store.mark(store.create(store.model(1), created_ms=0).number, Status.CANDIDATE)
    page = TestClient(create_app(Watched(new_shop.deployment_open))).get("/generations").text
    assert re.search(r"<button type=\"button\" disabled>Switch", page)


def asked(client, number):
    """The fields of the form that asks."""
    page = client.get(f"/switch?number={number}").text
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', page))


def test_a_switch_is_asked_about_and_then_done(changing):
    store, client = changing
    assert "Switch<span" in client.get("/generations").text
    fields = asked(client, 2)
    assert store.live() == 1
    reply = client.post("/switch", data=fields)
    assert (reply.status_code, reply.headers["location"], store.live()) == (303, "generations", 2)
    reply = client.post("/switch", data=asked(client, 1))  # and back
    assert (reply.status_code, store.live()) == (303, 1)


def test_a_switch_that_our_page_did_not_ask_about_is_refused(changing):
    store, client = changing
    fields = asked(client, 2)
    client.get("/")
    wrong = [
        {"number": "2"},
        {"number": "2", "token": ""},
        fields | {"token": "0" * 64},
        fields | {"number": "1"},
        fields | {"padding": "x" * 5_000},
    ]
    for form in wrong:
        assert client.post("/switch", data=form).status_code == 403
    assert client.post("/switch", data=fields, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    client.cookies.clear()
    assert client.post("/switch", data=fields).status_code == 403
    assert store.live() == 1


def test_a_generation_that_was_refused_meanwhile_is_not_switched_to(changing):
    store, client = changing
    fields = asked(client, 2)
    store.mark(2, Status.REFUSED)
    reply = client.post("/switch", data=fields)
    assert (reply.status_code, store.live()) == (409, 1)
    assert "refused" in reply.text
    assert client.get("/switch?number=2").status_code == 404


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Basic !", "Basic " + b64encode(b"a:wrong").decode(), "secret"]
)
def test_a_token_is_asked_for(watched, given):
    client = TestClient(create_app(watched, token=PASSWORD))
    reply = client.get("/", headers={} if given is None else {"authorization": given})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("given", ["Bearer secret", "Basic " + b64encode(b"anybody:secret").decode()])
def test_who_has_the_token_may_look(watched, given):
    client = TestClient(create_app(watched, token=PASSWORD))
    assert client.get("/static/dashboard.css", headers={"authorization": given}).status_code == 200


def test_other_names_than_its_own_are_refused(watched):
    client = TestClient(
        create_app(watched, hosts=("localhost", "127.0.0.1")), base_url="http://localhost:8321"
    )
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_it_can_be_mounted_into_a_service(watched):
    client = TestClient(Starlette(routes=[Mount("/dashboard", routes=routes(watched))]))
    page = client.get("/dashboard")  # leads to the path with a slash
    assert page.url.path == "/dashboard/"
    links = re.findall(r'(?:href|src|action)="([^"]+)"', page.text)
    assert len(links) > 8
    for link in links:
        if not link.startswith(("#", "data:")):
            assert client.get(f"/dashboard/{link}").status_code == (404 if link == "entity" else 200)


def test_the_charting_library_is_the_one_on_record():
    record = (ROOT / "docs" / "decisions" / "0019-dashboard.md").read_text(encoding="utf-8")
    static = ROOT / "src" / "nearline" / "dashboard" / "static"
    for name in ("uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"):
        assert sha256((static / name).read_bytes()).hexdigest() in record


def test_a_file_that_is_not_ours_is_not_there(client):
    for name in ("uPlot.LICENSE", "../http.py", "%2e%2e%2fhttp.py", "x"):
        assert client.get(f"/static/{name}").status_code == 404
