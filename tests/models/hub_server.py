"""A hub on 127.0.0.1 for the real `huggingface_hub` client: the repository someone/tiny of a folder's files,
and repositories
someone/error-STATUS-CODE that answer every request with that error.

usage: hub_server.py FOLDER      prints its port, serves until its stdin closes
"""

import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FOLDER = Path(sys.argv[1])


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        path = unquote(urlparse(self.path).path)
        parts = path.strip("/").split("/")
        if error := next((part for part in parts if part.startswith("error-")), None):
            _, status, code = error.split("-")
            return self.answer(int(status), code)
        names = [str(file.relative_to(FOLDER)) for file in sorted(FOLDER.rglob("*")) if file.is_file()]
        if parts[:2] == ["api", "models"]:
            if parts[2:4] != ["someone", "tiny"]:
                return self.answer(404, "RepoNotFound")
            if len(parts) > 5 and parts[5] not in ("main", COMMIT):
                return self.answer(404, "RevisionNotFound")
            if len(parts) > 4 and parts[4] == "tree":
                return self.json([self.entry(name) for name in names])
            siblings = [{"rfilename": name} for name in names]
            return self.json(
                {"id": "someone/tiny", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            )
        if parts[:3] != ["someone", "tiny", "resolve"]:
            return self.answer(404, "RepoNotFound")
        if parts[3] not in ("main", COMMIT):
            return self.answer(404, "RevisionNotFound")
        file = FOLDER / "/".join(parts[4:])
        return self.file(file) if file.is_file() else self.answer(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def entry(self, name):
        data = (FOLDER / name).read_bytes()
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def json(self, value):
        self.answer(200, body=json.dumps(value).encode(), kind="application/json")

    def file(self, path):
        data = path.read_bytes()
        tag = hashlib.sha1(data).hexdigest()
        self.answer(200, body=data, headers={"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    def answer(self, status, code="", body=b"", kind="application/octet-stream", headers=None):
        self.send_response(status)
        extra = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        extra |= {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in (extra | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
