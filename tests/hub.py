"""A stand-in of the Hugging Face hub on this machine, for downloads and uploads."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

COMMIT = "1" * 40
REVISION = "abc1234"
# What names the one commit at the hub.
REVISIONS = (COMMIT, REVISION, "main")
REPOSITORY = "someone/tiny-video"


class Hub:
    """As much of the Hugging Face hub as downloads and uploads ask for.

    ``files`` are those of the one repository; uploads go to ``uploaded``, with what was asked for at
    the creation of their repository in ``created``.
    """

    def __init__(self, files: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.files = dict(files)
        self.created: dict[str, Any] = {}
        self.uploaded: dict[str, bytes] = {}
        self._stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_after: int | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def do_POST(self):
                asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.reply(200, json.dumps(hub.posted(self.path, asked)).encode(), {}, True)

            def do_PUT(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hub._stored[self.path.rsplit("/", 1)[-1]] = content
                self.reply(200, b"", {}, True)

            def answer(self, body: bool) -> None:
                path = self.path.split("?")[0]
                if path.startswith("/api/models/"):
                    self.listing(path)
                    return
                name = path.rsplit("/", 1)[-1]
                content = hub.files.get(name)
                if not any(f"/{each}/" in path for each in REVISIONS):
                    self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                    return
                if content is None:
                    self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                if body:
                    hub.asked.append(name)
                headers = {
                    "X-Repo-Commit": COMMIT,
                    "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "Accept-Ranges": "bytes",
                }
                status, begin = 200, 0
                if asked := self.headers.get("Range"):
                    begin = int(asked.removeprefix("bytes=").split("-")[0])
                    headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
                    status = 206
                cut = hub.cut_after is not None and len(content) > hub.cut_after
                self.reply(status, content[begin:], headers, body, hub.cut_after if cut else None)

            def listing(self, path: str) -> None:
                if path.endswith(f"/tree/{COMMIT}"):
                    tree = [
                        {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                        for name, content in hub.files.items()
                    ]
                    self.reply(200, json.dumps(tree).encode(), {}, True)
                    return
                if not path.endswith(tuple(f"/revision/{each}" for each in REVISIONS)):
                    self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, True)
                    return
                listed = {
                    "id": REPOSITORY,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in hub.files],
                }
                self.reply(200, json.dumps(listed).encode(), {"X-Repo-Commit": COMMIT}, True)

            def reply(self, status, content, headers, body, cut_after=None) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body and cut_after is None:
                    self.wfile.write(content)
                elif body:
                    # A connection that breaks off at the same byte each time.
                    begin = len(hub.files["model-2.safetensors"]) - len(content)
                    self.wfile.write(content[: max(0, cut_after - begin)])
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def posted(self, path: str, asked: bytes) -> dict[str, Any]:
        """Answer what an upload posts: a repository, where each file goes, and a commit."""
        if path.endswith("/repos/create"):
            self.created = json.loads(asked)
            return {"url": f"{self.address}/datasets/{REPOSITORY}", "name": REPOSITORY}
        if "/preupload/" in path:
            names = [each["path"] for each in json.loads(asked)["files"]]
            modes = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {"path": n, "uploadMode": modes[n.endswith(".mp4")], "shouldIgnore": False}
                    for n in names
                ]
            }
        if path.endswith("/objects/batch"):
            objects = json.loads(asked)["objects"]
            to = {
                each["oid"]: {"upload": {"href": f"{self.address}/lfs/{each['oid']}"}}
                for each in objects
            }
            return {"transfer": "basic", "objects": [{**o, "actions": to[o["oid"]]} for o in objects]}
        if "/commit/" in path:
            for line in map(json.loads, asked.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.uploaded[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.uploaded[value["path"]] = self._stored[value["oid"]]
            return {
                "commitUrl": f"{self.address}/datasets/{REPOSITORY}/commit/{COMMIT}",
                "commitOid": COMMIT,
            }
        return {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


def environment(address: str, model_dir: Path) -> dict[str, str]:
    """Return what leads huggingface_hub to a hub, in a new process: it reads its address on import."""
    return {
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(model_dir / "home"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }
