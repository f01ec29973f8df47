"""What is refused before gradio sees it: routes that the app does not need, other sites' requests,
and more than one visitor's share of the queue, of the disk and of memory.

Gradio runs ffmpeg, fetches addresses and opens sessions for anyone who asks by the right path. A
page of another site that a visitor has open could use this server through their browser.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import secrets
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from itertools import chain
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from gradio import Blocks, route_utils, state_holder
from gradio.queueing import Event, Queue

from softmoa.data.limits import limits

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[..., Awaitable], Callable[..., Awaitable]], Awaitable[None]]

HOSTS = "SOFTMOA_HOSTS"  # further names of this server, separated by commas
_UNNEEDED = re.compile(
    r"(/gradio_api)?/(process_recording|proxy=.*|login|token|user|deep_link|dev/.*|runs"
    r"|run-history/.*|monitoring.*|profiling/.*|(undo-)?vibe-.*|custom_component/.*"
    r"|component_server|pwa_icon.*|stream/.*/playlist.*)/?"
)
_FILES = re.compile(r"(/gradio_api)?/(upload|mcp(/.*)?)/?")

RATE = 10e6  # bytes a second of a file from outside: reading them holds up the others
HELD = 1.0  # seconds until a refusal is told: who floods the queue has to wait for each
FULL = "Too many requests wait here; please try again in a minute."
NO_LENGTH = "Please say how large your request is, by Content-Length."
LARGE = "A request has at most {megabytes:g} MB; please upload the file first."
SENT = "Too much was sent here in the last {minutes} minutes; please try later."
NEW = "Too many pages or calls were begun from your address; please wait for a minute."
NO_FILE = "Please send the file itself, not where it lies."
BUSY = "You have {count} requests waiting here, as many as one visitor may; please let them end."


class Guard:
    """ASGI middleware; answers 403, 404, 411, 413 or 421 in place of the app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sent: Counter[tuple[float, bytes]] = Counter()  # bytes, by minute and address

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        refused = self._refused(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            await self.app(scope, self._counted(scope, receive), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            code, why = refused
            head = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": code, "headers": head})
            await send({"type": "http.response.body", "body": why.encode()})

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence for what is not served."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = _name(headers.get(b"host", ""))
        if not is_ours(host):
            return 421, f"This server does not go by that name; its owner may add it to {HOSTS}."
        if _UNNEEDED.fullmatch(_path(scope)):
            return 404, "There is nothing here."
        if scope.get("method", "GET") in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get(b"origin")
        if origin is not None and _name(urlsplit(origin).netloc) != host:
            return 403, "Pages of other sites may not use this server."
        size = headers.get(b"content-length", "0")
        if b"transfer-encoding" in headers or not size.isdecimal():
            return 411, NO_LENGTH
        if not _FILES.fullmatch(_path(scope)):
            most = limits().upload_mb
            return (413, LARGE.format(megabytes=most)) if int(size) > 1e6 * most else None
        minutes, now, who = limits().upload_minutes, time.monotonic() // 60, address(scope)
        for old in [kept for kept in self.sent if kept[0] < now - minutes]:
            del self.sent[old]
        mine = sum(size for (_, other), size in self.sent.items() if who and other == who)
        if max(self.sent.total(), 2 * mine) > 1e6 * limits().uploads_mb:
            return 413, SENT.format(minutes=minutes)
        return None

    def _counted(self, scope: Scope, receive: Any) -> Any:
        """The same, but what is received of a file is counted, and takes its time."""
        if scope["type"] != "http" or not _FILES.fullmatch(_path(scope)):
            return receive

        async def counted() -> Any:
            message, who = await receive(), address(scope)
            size = len(message.get("body", b""))
            self.sent[time.monotonic() // 60, who] += size
            if who:
                await asyncio.sleep(size / RATE)
            return message

        return counted


def _path(scope: Scope) -> str:
    return scope["path"].removeprefix(scope.get("root_path", ""))


def is_ours(host: str) -> bool:
    """An address, which no other site's name can stand for, or a name of this server."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        names = _names(os.environ.get(HOSTS, ""), os.environ.get("SPACE_HOST", ""))
        return host in names or host.endswith((".gradio.live", ".localhost"))
    return True


@lru_cache(maxsize=4)
def _names(configured: str, space: str) -> frozenset[str]:
    said = {_name(name) for name in f"{configured},{space}".split(",")} - {""}
    own = socket.gethostname().lower()
    return frozenset({"localhost", own, f"{own}.local", socket.getfqdn().lower(), *said})


def _name(host: str) -> str:
    """Without its port."""
    return re.sub(r":\d*$", "", host.strip().lower())


class Upload(route_utils.GradioUploadFile):
    """What a visitor sends lies in a folder that gradio names by its content; here also by chance,
    so that nobody deletes what another one sent, and nobody finds what they do not know of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sha.update(secrets.token_bytes(16))


class Session(state_holder.SessionState):
    """Gradio's own describes every component and keeps what each last showed, for links to a state
    of the page that this app gives in its own way: 1.2 MB, and a third of a second in which nobody
    else is answered."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))  # type: ignore[arg-type]

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


def share_out(queue: Queue) -> None:
    """Let one visitor take no more than a share of a queue, and one kind of work no other's places.

    A session has as many as `visitor_queue` says; an address, behind which a class may sit, half
    of all, and half of the sessions that are remembered; and they take turns. Gradio bounds only
    sums and keeps one line, so that one flood refuses everybody, or has them wait for all of it,
    and calls without a page push out what visitors have recorded.
    """
    push = queue.push
    begun: Counter[tuple[float, bytes]] = Counter()  # new sessions, by minute and address
    owners: dict[str, tuple[bool, bytes]] = {}  # of sessions, the latest used last

    async def join(body: Any, request: Any, username: str | None) -> tuple:
        answer = await decided(body, request, username)
        if not answer[0]:
            await asyncio.sleep(HELD)
        return answer

    async def decided(body: Any, request: Any, username: str | None) -> tuple:
        waiting = [each.queue for each in queue.event_queue_per_concurrency_id.values()]
        events = list(chain(*waiting, *filter(None, queue.active_jobs)))
        most, share, who = limits().visitor_queue, limits().queue // 2, address(request.scope)
        of_session = sum(_weight(e) for e in events if e.session_hash == body.session_hash)
        of_address = sum(_weight(e) for e in events if who and address(e.request.scope) == who)
        if of_session >= most or of_address >= max(most, share):
            return False, BUSY.format(count=max(of_session, of_address)), "error"
        now = time.monotonic() // 60, who
        if who and body.session_hash not in owners:
            begun[now] += 1
            for old in [kept for kept in begun if kept[0] != now[0]]:
                del begun[old]
            if begun[now] > limits().sessions // 4:
                return False, NEW, "error"
        if who and '"path": "http' in json.dumps(body.data).lower():  # it knows no bounds
            return False, NO_FILE, "error"
        asked = queue.blocks.fns.get(body.fn_index)
        kind = asked and asked.concurrency_id
        alike = sum(_weight(event) for event in events if event.concurrency_id == kind)
        if alike >= limits().queue:
            return False, FULL, "queue_full"
        owner = body.session_hash is not None, who
        answer = await push(body, request, username)
        if kind in queue.event_queue_per_concurrency_id:
            take_turns(queue.event_queue_per_concurrency_id[kind].queue)
        owners.pop(body.session_hash, None)
        owners[body.session_hash] = owner
        busy = {event.session_hash for event in events}
        held = [x for x, other in owners.items() if other == owner and x not in busy]
        if owner != (True, b"") and len(held) > limits().sessions // 2:
            forget(queue, held[0])
            del owners[held[0]]
        while len(owners) > limits().sessions:
            del owners[next(iter(owners))]
        return answer

    queue.push = join


def take_turns(waiting: list[Event]) -> None:
    """The first request of every visitor before the second of any, so that nobody waits for all
    that one of them asked for."""
    turns: Counter[object] = Counter()

    def turn(event: Event) -> int:
        who = address(event.request.scope) or event.session_hash
        turns[who] += 1
        return turns[who]

    waiting.sort(key=turn)


def _weight(event: Event) -> int:
    """One, and one more for each megabyte that is kept of it."""
    return 1 + int(event.request.headers.get("content-length", 0)) // 10**6


def forget(queue: Queue, session: str) -> None:
    """What gradio keeps of a session for its next event."""
    kept = [queue.pending_messages_per_session, queue.pending_event_ids_session]
    if queue.server_app:
        states = queue.server_app.state_holder
        kept += [states.session_data, states.time_last_used]
    for values in kept:
        values.pop(session, None)


def address(scope: Scope) -> bytes:
    """What tells a visitor's address from others; empty where a proxy on our side hides it.

    The last public one: what stands before it in the header is the visitor's own word. Of IPv6 the
    network, which is what one household is given.
    """
    passed = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    peer = (scope.get("client") or ("",))[0]
    for word in (peer, *reversed(passed.decode("latin-1").split(","))):
        try:
            found = ipaddress.ip_address(word.strip())
        except ValueError:
            continue
        found = getattr(found, "ipv4_mapped", None) or found  # as some proxies write it
        if found.is_global:
            return found.packed[:8]
    return b""
