"""What is refused before gradio sees it."""

import asyncio
import io
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from softmoa.data.limits import limits
from softmoa.ui import checks, guard
from softmoa.ui.guard import BUSY, FULL, HOSTS, Guard, Session, Upload, address, is_ours, share_out


def apart(work: Coroutine) -> Any:
    """Its answer; the browser's loop runs on this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def app(scope, receive, send):
    """Reads what is sent."""
    while (await receive()).get("more_body"):
        pass
    await send({"status": 200})


def status(
    path: str = "/",
    method: str = "GET",
    host: str = "localhost:7860",
    behind: Guard | None = None,
    body: bytes = b"",
    **more: str,
) -> int:
    """Of the answer; 200 where the app behind would have given it."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": body}

    said = {"host": host, **more}
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in said.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    apart((behind or Guard(app))(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/process_recording/",
        "/gradio_api/proxy=https://x.hf.space/file",
        "/gradio_api/vibe-edit/",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/component_server",
        "/monitoring/summary",
        "/login",
    ],
)
def test_routes_that_nobody_needs(path):
    assert status(path, "POST") == 404


@pytest.mark.parametrize(
    "path", ["/", "/config", "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/x"]
)
def test_routes_that_the_page_and_callers_need(path):
    assert status(path) == 200 and status(path, "POST") == 200


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("http://localhost:7860", 200),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example", 403),
        ("http://127.0.0.1:7860", 403),
    ],
)
def test_pages_of_other_sites(origin, code):
    assert status("/gradio_api/queue/join", "POST", origin=origin) == code
    assert status("/config", origin=origin) == 200


def test_names_of_this_server(monkeypatch):
    monkeypatch.setenv("SPACE_HOST", "ann-lab.hf.space")
    monkeypatch.setenv(HOSTS, "lab.example.org, other.example:8000")
    for host in ("ann-lab.hf.space", "lab.example.org:443", "10.0.0.7", "[::1]:80"):
        assert status(host=host) == 200
    for host in ("evil.example", "", "bob-lab.hf.space", "lab.example.org.evil.example"):
        assert status(host=host) == 421
    assert is_ours("localhost") and not is_ours("10.0.0.7.evil.example")


def asked(client: str = "127.0.0.1", passed: str = "", size: int = 0) -> Request:
    headers = [(b"content-length", str(size).encode())]
    headers += [(b"x-forwarded-for", passed.encode())] if passed else []
    return Request({"type": "http", "headers": headers, "client": (client, 5)})


@pytest.mark.parametrize(
    ("client", "passed", "known"),
    [
        ("8.8.8.8", "", "8.8.8.8"),
        ("8.8.8.8", "9.9.9.9", "8.8.8.8"),  # no proxy of ours: their own word
        ("10.0.0.3", "9.9.9.9, 8.8.8.8, 10.1.1.1", "8.8.8.8"),
        ("::ffff:10.0.0.3", "::ffff:8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", "", ""),
        ("10.0.0.3", "unknown, 8.8.8.8:443", ""),
    ],
)
def test_the_address_that_a_visitor_cannot_choose(client, passed, known):
    assert ".".join(map(str, address(asked(client, passed).scope))) == known


def queue_of(push: object, **parts: object) -> Any:
    """As gradio's, shared out."""
    empty = {"active_jobs": [], "server_app": None, "blocks": SimpleNamespace(fns={})}
    kept = ("event_queue_per_concurrency_id", "pending_messages_per_session",
            "pending_event_ids_session")  # fmt: skip
    queue: Any = SimpleNamespace(push=push, **(empty | {name: {} for name in kept} | parts))
    share_out(queue)
    return queue


async def push(body, request, username):
    return True, "id", "success"


def joined(
    waiting: list[tuple[str, str, str]], session: str, client: str, kind: str, data: object = ()
) -> object:
    """What a queue with some (session, address, kind) in it answers to one more."""
    events = [
        SimpleNamespace(session_hash=session, request=asked(client), concurrency_id=kind)
        for session, client, kind in waiting
    ]
    half = len(events) // 2
    queue = queue_of(
        push,
        event_queue_per_concurrency_id={"model": SimpleNamespace(queue=events[:half])},
        active_jobs=[None, *([event] for event in events[half:])],
        blocks=SimpleNamespace(fns={0: SimpleNamespace(concurrency_id=kind)}),
    )
    body = SimpleNamespace(session_hash=session, fn_index=0, data=data)
    return apart(queue.push(body, asked(client), None))[1]


def test_a_visitor_has_a_share_of_the_queue():
    most, share = limits().visitor_queue, limits().queue // 2
    mine = [("mine", "127.0.0.1", "model")] * most
    assert joined(mine[1:], "mine", "127.0.0.1", "model") == "id"
    assert joined(mine, "mine", "127.0.0.1", "load") == BUSY.format(count=most)
    assert joined(mine, "another", "127.0.0.1", "model") == "id"
    mine = [(str(k), "8.8.8.8", "model") for k in range(share)]
    assert joined(mine[1:], "new", "8.8.8.8", "model") == "id"
    assert joined(mine, "new", "8.8.8.8", "load") == BUSY.format(count=share)
    assert joined(mine, "new", "9.9.9.9", "model") == "id"


@pytest.fixture(autouse=True)
def waited(monkeypatch) -> list[float]:
    """Seconds that were to be waited, and were not."""
    found = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(guard.asyncio, "sleep", sleep)
    return found


def test_a_file_from_outside_takes_its_time_and_one_of_our_own_none(waited):
    body = bytes(3 * int(guard.RATE))
    assert status("/gradio_api/upload", "POST", body=body) == 200 and not waited
    status("/gradio_api/upload", "POST", body=body, x_forwarded_for="8.8.8.8")
    assert waited == [3.0]


def test_who_is_refused_waits_for_it(waited):
    mine = [("mine", "127.0.0.1", "model")] * limits().visitor_queue
    assert joined(mine, "another", "127.0.0.1", "model") == "id" and not waited
    assert joined(mine, "mine", "127.0.0.1", "model") != "id" and waited == [guard.HELD]


def test_who_opens_many_sessions_loses_their_own_and_others_keep_theirs(monkeypatch):
    kept = {"visitor": 1}
    states = SimpleNamespace(session_data=kept, time_last_used={})

    async def push(body, request, username):
        body.session_hash = body.session_hash or f"call {len(kept)}"  # as gradio's does
        kept[body.session_hash] = 1
        return True, "id", "success"

    queue = queue_of(push, server_app=SimpleNamespace(state_holder=states))

    async def come(session: str | None, client: str) -> None:
        await queue.push(
            SimpleNamespace(session_hash=session, fn_index=0, data=[]), asked(client), None
        )

    async def flood() -> None:
        await come("visitor", "8.8.8.8")
        for k in range(2 * limits().sessions):
            monkeypatch.setattr(guard.time, "monotonic", lambda k=k: 60.0 * k)
            await come(f"junk {k}", "9.9.9.9")
            await come(None, "9.9.9.9")

    apart(flood())
    assert "visitor" in kept and f"junk {2 * limits().sessions - 1}" in kept
    assert len(kept) <= limits().sessions + 1


def test_a_session_has_what_is_its_own_and_no_copy_of_the_page():
    with gr.Blocks() as demo:
        box, state = gr.Textbox("a"), gr.State([1])
    one, other = Session(demo), Session(demo)
    one[box._id] = gr.Textbox("b")
    one[state._id].append(2)
    one._update_value_in_config(box._id, "x" * 10**6)
    assert (one[box._id].value, one[state._id]) == ("b", [1, 2])
    assert (other[box._id].value, other[state._id]) == ("a", [1])
    assert len(str(list(one.components))) < 10_000 and not list(other.components)


def test_an_address_begins_few_sessions_in_a_minute():
    answers, queue = [], queue_of(push)

    async def flood() -> None:
        for session in [*map(str, range(limits().sessions // 4)), "one more", "0"]:
            body = SimpleNamespace(session_hash=session, fn_index=0, data=[])
            answers.append((await queue.push(body, asked("9.9.9.9"), None))[1])

    apart(flood())
    assert answers == ["id"] * (limits().sessions // 4) + [guard.NEW, "id"]


def test_a_full_queue_of_one_kind_of_work_refuses_no_other():
    waiting = [(str(k), "127.0.0.1", "model") for k in range(limits().queue)]
    assert joined(waiting, "new", "127.0.0.1", "model") == FULL
    assert joined(waiting, "new", "127.0.0.1", "load") == "id"


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/gradio_api/queue/join", {"content_length": "25000000"}, 200),
        ("/gradio_api/queue/join", {"content_length": "25000001"}, 413),
        ("/gradio_api/call/classify", {"content_length": "-1"}, 411),
        ("/gradio_api/call/classify", {"transfer_encoding": "chunked"}, 411),
        ("/gradio_api/upload", {"content_length": "26000000"}, 200),
        ("/gradio_api/upload", {"transfer_encoding": "chunked"}, 411),
    ],
)
def test_a_request_says_its_size_and_has_little(path, headers, code):
    assert status(path, "POST", **headers) == code


def test_an_address_may_send_half_of_what_is_kept(monkeypatch):
    behind, bounds = Guard(app), limits().model_copy(update={"uploads_mb": 4})
    monkeypatch.setattr(guard, "limits", lambda: bounds)

    def upload(who: str) -> int:
        return status(
            "/gradio_api/upload", "POST", behind=behind, body=bytes(1_000_001), x_forwarded_for=who
        )

    assert [upload("8.8.8.8") for _ in range(3)] == [200, 200, 413]
    assert [upload("9.9.9.9") for _ in range(2)] == [200, 200]
    assert upload("1.1.1.1") == 413
    now = guard.time.monotonic()
    monkeypatch.setattr(guard.time, "monotonic", lambda: now + 60 * 32)
    assert upload("8.8.8.8") == 200


def test_equal_uploads_of_two_visitors_lie_apart():
    first, other = (Upload(io.BytesIO(b"the same")).sha.hexdigest() for _ in range(2))
    assert first != other


def test_what_strangers_write_is_shown_as_text(monkeypatch):
    shown = []
    monkeypatch.setattr(checks.gr, "Warning", shown.append)
    said = checks.warn("The label '![x](http://x.example/a.png)' of <img src=y> is no class.")
    assert "![" not in said and "<img" not in said and "<img" not in shown[0]
    assert "<" not in checks.refuse("<img src=y>").message


def test_visitors_take_turns():
    came = [("8.8.8.8", "a"), ("8.8.8.8", "b"), ("8.8.8.8", "c"), ("9.9.9.9", "d"), ("", "e")]
    waiting = [SimpleNamespace(session_hash=x, request=asked(who)) for who, x in came]
    guard.take_turns(waiting)  # type: ignore[arg-type]
    assert "".join(event.session_hash for event in waiting) == "adebc"
