"""A hub on this machine: replies to `datasets` and `huggingface_hub` like the real one, from repositories in memory.

It takes uploads too: small files with the commit, and `*.safetensors` before it, as large files. Earlier commits remain
available.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

# Repository -> path -> contents; a data set's name begins with `datasets/`, as in the hub's addresses.
Repositories = dict[str, dict[str, bytes]]


class HubServer:
    """Serves on 127.0.0.1 at a free port from `__enter__` to `__exit__`.

    Attributes:
      requests: the log of requests.
      earlier: repository -> its states before the present one, by commit.
      large: large files by the SHA-256 of their contents.
      interruptions: how many uploads of large files fail by a broken connection before they are stored.
      said_sizes: (repository, file) -> the size that is reported, if it is not the true one.
      token: the token that an upload must carry.
    """

    def __init__(self, repositories: Repositories):
        self.repositories = repositories
        self.requests: list[str] = []
        self.earlier: dict[str, dict[str, dict[str, bytes]]] = {}
        self.large: dict[str, bytes] = {}
        self.interruptions = 0
        self.said_sizes: dict[tuple[str, str], int] = {}
        self.token = "hf_of_the_tests"
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

    def commit(self, repository: str) -> str:
        """Returns the 40 hex digits of a repository's current commit."""
        return hashlib.sha1(f"{repository}{len(self.earlier.get(repository, ())) or ''}".encode()).hexdigest()

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Returns a revision's commit and its files; None if there is no such revision."""
        now = self.commit(repository)
        if revision in ("", "main", now):
            return now, self.repositories[repository]
        state = self.earlier.get(repository, {}).get(revision)
        return None if state is None else (revision, state)

    def add(self, repository: str, files: dict[str, bytes]) -> str:
        """Adds a commit; returns its 40 hex digits."""
        now, before = self.commit(repository), self.repositories[repository]
        self.earlier.setdefault(repository, {})[now] = before
        self.repositories[repository] = before | files
        return self.commit(repository)


_OF_UPLOADS = ("api/repos/create", "api/validate-yaml")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def do_HEAD(self) -> None:
        self._reply()

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def do_PUT(self) -> None:
        self._reply()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server_of.requests.append(f"{self.command} {path}")
        if self.command == "PUT" or path.endswith(".git/info/lfs/objects/batch") or path in _OF_UPLOADS:
            self._upload(path, body)
        elif path.startswith("api/"):
            self._api(path.removeprefix("api/").removeprefix("models/"), body)
        else:
            self._file(path)

    def _upload(self, path: str, body: bytes) -> None:
        hub = self.server_of
        if path == "api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.command == "PUT":
            if hub.interruptions:
                hub.interruptions -= 1
                self.close_connection = True
                return
            hub.large[path.removeprefix("large/")] = body
            self._json({})
        elif self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._send(401, b"Invalid credentials", {"X-Error-Message": "Invalid credentials"})
        elif path == "api/repos/create":
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}" if said.get("organization") else said["name"]
            hub.repositories.setdefault(name, {})
            self._json({"url": f"{hub.endpoint}/{name}", "name": name, "id": name})
        else:
            wanted = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._action(file) for file in wanted]})

    def _action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Returns what the client is to do with a large file: nothing, if it is here already."""
        if wanted["oid"] in self.server_of.large:
            return wanted
        return wanted | {"actions": {"upload": {"href": f"{self.server_of.endpoint}/large/{wanted['oid']}"}}}

    def _commit(self, repository: str, body: bytes) -> None:
        hub, files = self.server_of, {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.large[value["oid"]]
        commit = hub.add(repository, files)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{hub.endpoint}/{repository}/commit/{commit}"})

    def _find(self, path: str) -> tuple[str, list[str]] | None:
        for repository in self.server_of.repositories:
            if path == repository or path.startswith(f"{repository}/"):
                return repository, path.removeprefix(repository).strip("/").split("/", 2)
        self._refuse("RepoNotFound", "Repository not found")
        return None

    def _api(self, path: str, body: bytes) -> None:
        if (place := self._find(path)) is None:
            return
        repository, (action, revision, folder) = place[0], (place[1] + ["", "", ""])[:3]
        state = self.server_of.files(repository, revision)
        if state is None:
            self._refuse("RevisionNotFound", "Invalid rev id")
            return
        sha, files = state
        if action in ("", "revision"):
            said = self.server_of.said_sizes
            siblings = [
                {"rfilename": name, "size": said.get((repository, name), len(contents))}
                for name, contents in files.items()
            ]
            name = repository.removeprefix("datasets/")
            self._json({"id": name, "sha": sha, "private": False, "gated": False, "tags": [], "siblings": siblings})
        elif action == "tree":
            if entries := self._tree(files, f"{folder}/" if folder else "", "recursive=true" in self.path.lower()):
                self._json(entries)
            else:
                self._refuse("EntryNotFound", "Entry not found")
        elif action == "paths-info":
            wanted = json.loads(body)["paths"]
            self._json([self._entry(files, name) for name in wanted if name in files])
        elif action == "preupload":
            modes = {True: "lfs", False: "regular"}
            wanted = [file["path"] for file in json.loads(body)["files"]]
            told = [{"path": p, "uploadMode": modes[p.endswith(".safetensors")], "shouldIgnore": False} for p in wanted]
            self._json({"files": told})
        elif action == "commit":
            self._commit(repository, body)
        else:
            self._refuse("EntryNotFound", "Entry not found")

    def _file(self, path: str) -> None:
        if (place := self._find(path)) is None:
            return
        repository, parts = place
        state = self.server_of.files(repository, parts[1]) if parts[0] == "resolve" and len(parts) > 2 else None
        commit, files = state or (self.server_of.commit(repository), {})
        contents = files.get(parts[-1])
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
