"""A small server that speaks the Hub's protocol, for the real client of the Hub to talk to.

Large files (safetensors, parquet) are redirected to a store under their sha256, as the Hub does;
there ranges are served, and faults can be injected.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def point_at(monkeypatch, endpoint: str, cache: Path) -> None:
    """What HF_ENDPOINT, HF_HUB_CACHE and no HF_HUB_OFFLINE do when the client is imported."""
    address = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@dataclass
class HubServer:
    """repositories: files by repository; a dataset's name begins with datasets/. tokens: user by
    token. private: repositories that need one. cuts: at how many bytes the next downloads from the
    store break off. log: "METHOD path" of every request.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    status: int = 0  # answer everything with this, if not 0

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        # Another host, as at the Hub: its client takes a redirect to the same one for a renaming.
        self.store = f"http://localhost:{self.server.server_port}/store/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def stored(self, sha256: str) -> bytes | None:
        everything = [c for files in self.repositories.values() for c in files.values()]
        for content in [*everything, *self.uploads.values()]:
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", length: int = -1, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if length < 0 else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def user(self) -> str:
        return self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def handle_request(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.log.append(f"{self.command} {path}")
        body = self.body()
        if hub.status:
            return self.answer(hub.status)
        if path == "/":
            return self.answer(200)
        if found := re.fullmatch(r"/store/([0-9a-f]{64})", path):
            return self.store(found[1], body)
        if found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*found.groups())
        if found := re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)/tree/[^/]+", path):
            return self.tree(found[1])
        if path == "/api/whoami-v2":
            return self.json({"name": self.user, "type": "user"}) if self.user else self.answer(401)
        if not self.user:
            return self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        written = r"(?:/api/models)?/([^/]+)/[^/]+(?:/preupload/.+|/commit/.+|\.git/info/lfs/.+)"
        if (found := re.fullmatch(written, path)) and found[1] != self.user:
            return self.answer(403, X_Error_Message="You may not write here")
        if re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", path):
            files = json.loads(body)["files"]
            for file in files:
                large = file["path"].endswith(".safetensors")
                file |= {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            return self.json({"files": files})
        if re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": hub.store + one["oid"], "header": {}}}
            return self.json({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", path):
            return self.commit(found[1], body)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            if found[1] not in hub.repositories:
                return self.answer(404, X_Error_Code="RepoNotFound")
            siblings = [{"rfilename": name} for name in hub.repositories[found[1]]]
            known = {"sha": COMMIT, "private": found[1] in hub.private}
            return self.json({"id": found[1], "siblings": siblings} | known)
        self.answer(404)

    def resolve(self, name: str, revision: str, file: str) -> None:
        files = self.hub.repositories.get(name)
        if files is None or (name in self.hub.private and not self.user):
            return self.answer(401 if not self.user else 404, X_Error_Code="RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if file not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        content = files[file]
        sha = hashlib.sha256(content).hexdigest()
        if not file.endswith((".safetensors", ".parquet")):
            return self.answer(200, content, X_Repo_Commit=COMMIT, ETag=f'"{sha[:40]}"')
        self.answer(
            302,
            X_Repo_Commit=COMMIT,
            X_Linked_Etag=f'"{sha}"',
            X_Linked_Size=str(len(content)),
            Location=self.hub.store + sha,
        )

    def tree(self, name: str) -> None:
        if name not in self.hub.repositories:
            return self.answer(404, X_Error_Code="RepoNotFound")
        files = self.hub.repositories[name].items()
        self.json([{"type": "file", "path": path, "size": len(content), "oid": COMMIT}
                   for path, content in files])  # fmt: skip

    def store(self, sha: str, body: bytes) -> None:
        if self.command == "PUT":
            self.hub.uploads[sha] = body
            return self.answer(200)
        content = self.hub.stored(sha)
        if content is None:
            return self.answer(404)
        asked = self.headers.get("Range", "")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if asked:
            self.hub.ranges.append(asked)
        rest, headers = content[start:], {}
        if asked:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.hub.cuts:
            cut = self.hub.cuts.pop(0)
            self.answer(206 if asked else 200, rest[:cut], length=len(rest), **headers)
            self.close_connection = True
            return
        self.answer(206 if asked else 200, rest, **headers)

    def create(self, asked: dict) -> None:
        owner = asked.get("organization") or self.user
        name = f"{owner}/{asked['name']}"
        if owner != self.user:
            return self.answer(403, X_Error_Message="You do not own this namespace")
        known = name in self.hub.repositories
        if asked.get("visibility") == "private":
            self.hub.private.add(name)
        self.hub.repositories.setdefault(name, {})
        self.json({"url": f"{self.hub.endpoint}/{name}", "name": name}, 409 if known else 200)

    def commit(self, name: str, body: bytes) -> None:
        files = self.hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        address = f"{self.hub.endpoint}/{name}/commit/{COMMIT}"
        self.json({"success": True, "commitOid": COMMIT, "commitUrl": address})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request
