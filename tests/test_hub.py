"""The real huggingface_hub client against a small server on localhost that speaks the Hub's API."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from facerecon import FaceReconstructor
from facerecon.checkpoint import CONFIG_NAME, WEIGHTS_NAME, resolve
from facerecon.errors import CheckpointNotFound, HubUnreachable

REPO = "someone/faces"
COMMITS = {"main": "a" * 40, "v1": "b" * 40}


class Hub(ThreadingHTTPServer):
    """Files of one repository, and what clients asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.requests: list[str] = []
        self.cut_after: int | None = None
        self.broken = False


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        """Uploads: create a repository, ask how files travel, commit them."""
        self.server.requests.append(f"POST {self.path}")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            answer = json.dumps({"errors": [], "warnings": []}).encode()
            self.send(answer, {"Content-Type": "application/json"}, True)
            return None
        if self.headers.get("Authorization") != "Bearer hf_secret":
            return self.refuse(401, "")
        reply: dict[str, object] = {}
        if self.path == "/api/repos/create":
            reply = {"url": f"https://huggingface.co/{REPO}", "id": REPO}
        elif "/preupload/" in self.path:
            files = [entry["path"] for entry in json.loads(content)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            reply = {"files": [{"path": name, **modes} for name in files]}
        elif "/commit/" in self.path:
            for line in content.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            reply = {"commitUrl": f"https://huggingface.co/{REPO}/commit/1", "commitOid": "c" * 40}
        self.send(json.dumps(reply).encode(), {"Content-Type": "application/json"}, True)
        return None

    def answer(self, body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        if self.server.broken:
            return self.refuse(503, "")
        if not path.removeprefix("/api/models").startswith(f"/{REPO}"):
            return self.refuse(404, "RepoNotFound")
        if path.startswith("/api/models"):
            rest = path.removeprefix(f"/api/models/{REPO}").strip("/").split("/")
            revision = rest[1] if len(rest) > 1 else "main"
            if self.commit(revision) is None:
                return self.refuse(404, "RevisionNotFound")
            siblings = [{"rfilename": name} for name in self.server.files]
            info = {"id": REPO, "sha": self.commit(revision), "siblings": siblings}
            if rest[0] == "tree":
                info = [
                    {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                    for n, c in self.server.files.items()
                ]
            return self.send(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
        _, _, _, _, revision, name = path.split("/", 5)  # /someone/faces/resolve/REVISION/NAME
        commit = self.commit(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        if name not in self.server.files:
            return self.refuse(404, "EntryNotFound")
        content = self.server.files[name]
        etag = hashlib.sha256(content).hexdigest()
        if name == WEIGHTS_NAME and "cdn" not in self.path:
            # large files are answered by a redirect that carries the metadata
            self.send_response(302)
            self.send_header("Location", f"{self.path.split('?')[0]}?cdn=1")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self.send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, body)

    @staticmethod
    def commit(revision: str) -> str | None:
        return COMMITS.get(revision, revision if revision in COMMITS.values() else None)

    def refuse(self, code: int, reason: str) -> None:
        self.send_response(code)
        if reason:
            self.send_header("X-Error-Code", reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            cut = self.server.cut_after
            self.wfile.write(content if cut is None else content[:cut])
            if cut is not None and cut < len(content):
                self.wfile.flush()
                self.connection.close()


@pytest.fixture
def hub(
    reconstructor: FaceReconstructor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    reconstructor.save_pretrained(tmp_path / "made")
    files = {p.name: p.read_bytes() for p in (tmp_path / "made").iterdir()}
    server = Hub({**files, "README.md": b"# faces"})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetches_two_files_and_loads_them(hub: Hub, tmp_path: Path) -> None:
    loaded = FaceReconstructor.from_pretrained(REPO, cache_dir=tmp_path / "cache")
    assert loaded.checkpoint.network.config.name == "fast"
    fetched = [r for r in hub.requests if r.startswith("GET") and "resolve" in r]
    assert any(CONFIG_NAME in r for r in fetched)
    assert any(WEIGHTS_NAME in r for r in fetched)
    assert not any("README" in r for r in fetched)


def test_a_second_load_fetches_nothing_again(hub: Hub, tmp_path: Path) -> None:
    first = resolve(REPO, cache_dir=tmp_path)
    hub.requests.clear()
    assert resolve(REPO, cache_dir=tmp_path) == first
    assert not [r for r in hub.requests if r.startswith("GET") and "/resolve/" in r]


def test_revisions(hub: Hub, tmp_path: Path) -> None:
    assert COMMITS["v1"] in str(resolve(REPO, revision="v1", cache_dir=tmp_path))
    assert COMMITS["v1"] in str(resolve(REPO, revision=COMMITS["v1"], cache_dir=tmp_path))
    with pytest.raises(CheckpointNotFound, match="v9"):
        resolve(REPO, revision="v9", cache_dir=tmp_path)


def test_no_such_repository(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="nobody/nothing"):
        resolve("nobody/nothing", cache_dir=tmp_path)


def test_a_repository_without_weights(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"README.md": b"# empty"}
    with pytest.raises(CheckpointNotFound, match=r"config\.json"):
        FaceReconstructor.from_pretrained(REPO, cache_dir=tmp_path)


def test_a_cut_connection_is_an_error_and_leaves_nothing_usable(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # the client's retries wait
    hub.cut_after = 100
    with pytest.raises(HubUnreachable):
        resolve(REPO, cache_dir=tmp_path)
    hub.cut_after = None
    FaceReconstructor.from_pretrained(REPO, cache_dir=tmp_path)


def test_offline_uses_the_cache_or_says_so(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubUnreachable, match="not in the cache"):
        resolve(REPO, cache_dir=tmp_path, local_files_only=True)
    fetched = resolve(REPO, cache_dir=tmp_path)
    hub.requests.clear()
    assert resolve(REPO, cache_dir=tmp_path, local_files_only=True) == fetched
    assert not hub.requests


def test_an_unreachable_hub_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(HubUnreachable, match="someone/faces"):
        resolve(REPO, cache_dir=tmp_path)


def test_what_was_pushed_is_what_is_fetched(
    hub: Hub, reconstructor: FaceReconstructor, tmp_path: Path
) -> None:
    made = dict(hub.files)
    hub.files = {}
    address = reconstructor.push_to_hub(REPO, token="hf_secret")
    assert address.endswith("/commit/1")
    assert set(hub.files) >= {CONFIG_NAME, WEIGHTS_NAME, "README.md"}
    assert hub.files[WEIGHTS_NAME] == made[WEIGHTS_NAME]
    card = hub.files["README.md"].decode()
    assert "research use only" in card
    assert "library_name: facerecon" in card
    again = FaceReconstructor.from_pretrained(REPO, cache_dir=tmp_path)
    assert again.checkpoint.config() == reconstructor.checkpoint.config()


def test_a_refused_push_is_an_error(hub: Hub, reconstructor: FaceReconstructor) -> None:
    with pytest.raises(HubUnreachable, match="someone/faces"):
        reconstructor.push_to_hub(REPO, token="hf_wrong")
