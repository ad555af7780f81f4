"""A hub on this machine: answers `datasets` and `huggingface_hub` as the real one does, from repositories in memory."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

# Repository -> path -> contents; a data set's name begins with `datasets/`, as in the hub's addresses.
Repositories = dict[str, dict[str, bytes]]


class HubServer:
    """Serves on 127.0.0.1 at a free port from `__enter__` to `__exit__`; `requests` is the log of what was asked."""

    def __init__(self, repositories: Repositories):
        self.repositories = repositories
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @staticmethod
    def commit(repository: str) -> str:
        """The 40 hex digits that stand for a repository's only commit."""
        return hashlib.sha1(repository.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server_of.requests.append(f"{self.command} {path}")
        if path.startswith("api/"):
            self._api(path.removeprefix("api/").removeprefix("models/"), body)
        else:
            self._file(path)

    def _find(self, path: str) -> tuple[str, list[str]] | None:
        for repository in self.server_of.repositories:
            if path == repository or path.startswith(f"{repository}/"):
                return repository, path.removeprefix(repository).strip("/").split("/", 2)
        self._refuse("RepoNotFound", "Repository not found")
        return None

    def _api(self, path: str, body: bytes) -> None:
        if (found := self._find(path)) is None:
            return
        repository, (action, _revision, folder) = found[0], (found[1] + ["", "", ""])[:3]
        files = self.server_of.repositories[repository]
        if action in ("", "revision"):
            siblings = [{"rfilename": name} for name in files]
            name, sha = repository.removeprefix("datasets/"), HubServer.commit(repository)
            self._json({"id": name, "sha": sha, "private": False, "gated": False, "tags": [], "siblings": siblings})
        elif action == "tree":
            if entries := self._tree(files, f"{folder}/" if folder else "", "recursive=true" in self.path.lower()):
                self._json(entries)
            else:
                self._refuse("EntryNotFound", "Entry not found")
        elif action == "paths-info":
            wanted = json.loads(body)["paths"]
            self._json([self._entry(files, name) for name in wanted if name in files])
        else:
            self._refuse("EntryNotFound", "Entry not found")

    def _file(self, path: str) -> None:
        if (found := self._find(path)) is None:
            return
        repository, parts = found
        contents = self.server_of.repositories[repository].get(parts[2]) if parts[0] == "resolve" else None
        commit = HubServer.commit(repository)
        if contents is None:
            self._refuse("EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        etag = hashlib.sha1(contents).hexdigest()
        self._send(200, contents, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    @classmethod
    def _tree(cls, files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
        inside = [name for name in files if name.startswith(folder)]
        below = {
            folder + name.removeprefix(folder).split("/")[0] for name in inside if "/" in name.removeprefix(folder)
        }
        folders = [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(below)]
        direct = [name for name in inside if "/" not in name.removeprefix(folder)]
        return folders + [cls._entry(files, name) for name in (inside if recursive else direct)]

    @staticmethod
    def _entry(files: dict[str, bytes], name: str) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(files[name]), "oid": hashlib.sha1(files[name]).hexdigest()}

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(404, message.encode(), {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _send(self, status: int, contents: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(contents))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(contents)
