"""A server that behaves like the Hub, and its store, with faults on demand.

As the Hub does: the list of files with blobs' ids and LFS hashes; small files from the endpoint
itself, with their git hash as ETag; large ones by a redirect to a store on another host, with
X-Linked-Etag, X-Linked-Size and X-Repo-Commit before it and an ETag of the store's own behind it;
ranges; 401 for a gated repository without a token; the token never shown to the store.
"""
import hashlib
import http.server
import json
import re
import ssl
import threading
import time

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_secret"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server.hub
        path = re.sub("^http://[^/]*", "", self.path)  # as a proxy gets it
        time.sleep(hub.delay_s)
        hub.requests.append((self.headers["Host"].split(":")[0], path, dict(self.headers)))
        faults = hub.faults.get(path.rsplit("/", 1)[-1], [])
        fault = faults.pop(0) if faults else None
        if isinstance(fault, tuple):
            return self.reply(fault[0], b"", **fault[1])
        if path.startswith("/store/"):
            if "Authorization" in self.headers:
                return self.reply(400, b"a token came to the store")
            return self.content(hub.files[path.removeprefix("/store/")], fault, '"store-7"')
        if hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, b"", X_Error_Code="GatedRepo")
        if "/old/name/" in path:  # renamed: a redirect without a host
            return self.reply(307, Location=path.replace("/old/name/", "/org/tiny/"))
        if path == "/api/models/org/tiny/revision/main?blobs=true":
            return self.content(json.dumps(hub.listing()).encode(), fault, '"of a list"')
        found = re.fullmatch(f"/org/tiny/resolve/{COMMIT}/(.*)", path)
        if not found or found[1] not in hub.files:
            return self.reply(404, b"", X_Error_Code="EntryNotFound")
        return self.resolve(found[1], fault)

    def resolve(self, name, fault):
        hub = self.server.hub
        data = hub.files[name]
        if name not in hub.large:
            return self.content(data, fault, f'"{git_sha1(data)}"')
        etag = "0" * 64 if fault == "etag" else hub.hash_of(name)
        self.reply(302, Location=f"{hub.store}/store/{name}", X_Linked_Etag=f'"{etag}"',
                   X_Linked_Size=str(len(data)), X_Repo_Commit=COMMIT, ETag='"not a hash"')

    def content(self, data, fault, etag):
        begin, end, code = 0, len(data), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and fault != "no-range":
            begin, code = int(asked[1]), 206
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            if begin >= len(data):
                return self.reply(416)
        self.send_response(code)
        if code == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        body = data[begin:end]
        if fault == "cut":
            body = body[:len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        self.server.hub.sent_bytes += len(body)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that gives up closes its connection


class Hub:
    """files: name -> bytes; faults[last part of a path]: one for each request, then none: (code,
    headers), "cut" (half of the answer), "no-range", "etag" (another file's)."""

    def __init__(self, files, certificate=None):
        self.files, self.gated, self.faults, self.requests = dict(files), False, {}, []
        self.large = {n for n in files if n.endswith((".safetensors", ".gguf"))}
        self.wrong_hash, self.sent_bytes, self.delay_s = set(), 0, 0
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.hub = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme, port = "https" if certificate else "http", self.server.server_port
        self.url, self.store = f"{scheme}://127.0.0.1:{port}", f"{scheme}://localhost:{port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def hash_of(self, name):
        data = self.files[name] + (b"?" if name in self.wrong_hash else b"")
        return sha256(data) if name in self.large else git_sha1(data)

    def listing(self):
        rows = []
        for name, data in self.files.items():
            row = {"rfilename": name, "size": len(data), "blobId": self.hash_of(name)}
            if name in self.large:
                row["blobId"] = git_sha1(b"the pointer")
                row["lfs"] = {"sha256": self.hash_of(name), "size": len(data), "pointerSize": 134}
            rows.append(row)
        return {"id": "org/tiny", "sha": COMMIT, "siblings": rows}

    def asked(self, part):
        return [(path, headers.get("Range")) for _, path, headers in self.requests if part in path]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
