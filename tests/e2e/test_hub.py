#!/usr/bin/env python3
"""Models from the Hub: `seam model pull` and `seamd --model ORG/NAME` against a local one.

Goals: each fault of the matrix ends as pull.h says (a whole file, or an error that names it and
nothing under the file's name); a client's share is the tensors asked for and costs their bytes; the
share trains and evaluates as the whole model does; proxies and CA bundles by the usual variables.

    test_hub.py SEAMD SEAM
"""
import concurrent.futures
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from cli_fixture import colour_rows, write_rows, write_text_model
from hub_fixture import COMMIT, TOKEN, Hub
from service_fixture import DEADLINE_S, Seamd, seamd_path
from safetensors.numpy import load, load_file, save_file

LAYERS, HIDDEN, VOCAB = 4, 48, 260


def model_files(folder, sharded):
    """The files of a repository: untied, one weight file or two with an index."""
    write_text_model(folder, layers=LAYERS, hidden=HIDDEN, tied=False)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    files["README.md"] = b"not fetched"
    files["onnx/model.json"] = b"[]"
    if sharded:
        tensors = load_file(str(folder / "model.safetensors"))
        del files["model.safetensors"]
        late = {n for n in tensors if n.startswith(("model.layers.2", "model.layers.3", "lm_head"))}
        names = {False: "model-00001-of-00002.safetensors", True: "model-00002-of-00002.safetensors"}
        for is_late, name in names.items():
            save_file({n: t for n, t in tensors.items() if (n in late) == is_late},
                      str(folder / name))
            files[name] = (folder / name).read_bytes()
        weight_map = {n: names[n in late] for n in tensors}
        files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


class Case(unittest.TestCase):
    sharded = False

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.files = model_files(self.root / "source", self.sharded)
        self.hub = Hub(self.files)
        self.addCleanup(self.hub.close)
        self.home = self.root / "hf/hub/models--org--tiny"

    def environment(self, **more):
        env = {"PATH": os.environ["PATH"], "HF_ENDPOINT": self.hub.url, "HOME": str(self.root),
               "HF_HOME": str(self.root / "hf"), **more}
        env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        return env

    def pull(self, *args, repo="org/tiny", **more):
        done = subprocess.run([SEAM, "model", "pull", repo, "--json", *map(str, args)],
                              env=self.environment(**more), capture_output=True, text=True,
                              timeout=DEADLINE_S)
        if done.returncode == 0:
            return json.loads(done.stdout)
        found = re.search('"status": "(.*)"', done.stdout)
        return found[1] if found else "USAGE", done.stderr

    def assert_whole(self, result):
        self.assertIsInstance(result, dict, result)
        for name, data in self.files.items():
            path = pathlib.Path(result["path"]) / name
            self.assertEqual(path.exists(), name not in ("README.md", "onnx/model.json"), name)
            if path.exists():
                self.assertEqual(path.read_bytes(), data, name)

    def assert_failed(self, result, status, *words):
        self.assertIsInstance(result, tuple, result)
        self.assertEqual(result[0], status, result)
        for word in words:
            self.assertIn(word, result[1])
        if self.home.exists():  # nothing stands under a blob's name that is not that blob
            for blob in (self.home / "blobs").glob("*"):
                self.assertTrue(blob.suffix == ".incomplete" or
                                blob.name in map(self.hub.hash_of, self.files), blob)

    def blob(self, name):
        return self.home / "blobs" / self.hub.hash_of(name)


class Faults(Case):
    def test_whole_repository__by_redirects__bytes_counted__then_from_the_cache(self):
        result = self.pull(repo="org/tiny@main")
        self.assert_whole(result)
        wanted = sum(len(d) for n, d in self.files.items() if n.endswith((".json", ".safetensors"))
                     and "/" not in n)
        self.assertEqual(result["fetched_bytes"], wanted)
        self.assertEqual(result["weights_bytes"], len(self.files["model.safetensors"]))
        self.assertEqual((self.home / "refs/main").read_text(), COMMIT)
        again = self.pull()
        self.assert_whole(again)
        self.assertEqual(again["fetched_bytes"], 0)
        self.assertEqual(len(self.hub.asked("/store/")), 1)

    def test_variants_beside_the_weights__not_fetched(self):
        for name in ("model.fp16.safetensors", "consolidated.safetensors"):
            self.files[name] = self.hub.files[name] = b"another type"
        result = self.pull()
        self.assertEqual(result["weights_bytes"], len(self.files["model.safetensors"]))
        self.assertEqual([p.name for p in pathlib.Path(result["path"]).glob("*.safetensors")],
                         ["model.safetensors"])

    def test_index_beside_a_single_file__the_file_is_the_model(self):
        tensors = load(self.files["model.safetensors"])
        self.files["model.safetensors.index.json"] = self.hub.files["model.safetensors.index.json"] = \
            json.dumps({"weight_map": {name: "model.safetensors" for name in tensors}}).encode()
        self.assert_whole(self.pull())

    def index(self, names):
        """An index in which `names` have the tensors, one after another."""
        tensors = sorted(load(self.weights))
        return json.dumps({"weight_map": {tensor: names[i % len(names)] for i, tensor in
                                          enumerate(tensors)}}).encode()

    def shard(self, names):
        """The model in files of these names, with an index."""
        self.weights = self.files.pop("model.safetensors")
        tensors = load(self.weights)
        for i, name in enumerate(names):
            path = self.root / "shard"
            save_file({n: t for k, (n, t) in enumerate(sorted(tensors.items()))
                       if k % len(names) == i}, str(path))
            self.files[name] = path.read_bytes()
        self.files["model.safetensors.index.json"] = self.index(names)
        self.hub.files = dict(self.files)
        self.hub.large = {n for n in self.files if n.endswith(".safetensors")}

    def test_shards_of_other_names__as_the_index_says(self):
        self.shard(["tiny-part1.safetensors", "tiny-part2.safetensors", "embed.safetensors"])
        self.hub.files["model-fp16-1-of-2.safetensors"] = b"a variant"
        self.hub.large.add("model-fp16-1-of-2.safetensors")
        result = self.pull()
        self.assert_whole(result)
        self.assertFalse((pathlib.Path(result["path"]) / "model-fp16-1-of-2.safetensors").exists())
        self.assertEqual(result["weights_bytes"], sum(
            len(d) for n, d in self.files.items() if n.endswith(".safetensors")))
        again = self.pull(HF_HUB_OFFLINE="1")
        self.assertEqual((again["path"], again["fetched_bytes"]), (result["path"], 0))
        share = self.pull("--client", "--front", 1)
        self.assertIsInstance(share, dict, share)
        whole, part = load(self.weights), load_file(share["path"] + "/share.safetensors")
        self.assertEqual(set(part), {n for n in whole if not n.startswith("model.layers.")
                                     or n.startswith("model.layers.0.")})
        self.assertTrue(all(part[n].tobytes() == whole[n].tobytes() for n in part))
        with Seamd(seamd_path(), pathlib.Path(result["path"])):
            pass  # it serves them

    def test_index_that_leads_elsewhere__refused_before_a_weight(self):
        homes = []
        good = ["tiny-part1.safetensors", "tiny-part2.safetensors"]
        self.shard(good)
        self.hub.files["sub/a.safetensors"] = self.hub.files[good[0]]
        for bad, status, words in (
                ("../evil.safetensors", "FORMAT", "../evil.safetensors"),
                ("/etc/evil.safetensors", "FORMAT", "evil.safetensors"),
                ("sub/a.safetensors", "FORMAT", "sub/a.safetensors"),
                ("a..safetensors", "FORMAT", "a..safetensors"),
                ("config.json", "FORMAT", "config.json"),
                (".safetensors", "FORMAT", ".safetensors"),
                ("a?b.safetensors", "FORMAT", "a?b"),
                ("away.safetensors", "NOT_FOUND", "away.safetensors")):
            for args in ((), ("--client",)):
                self.hub.requests.clear()
                self.hub.files["model.safetensors.index.json"] = self.index([good[0], bad])
                home = str(self.root / f"home-{len(homes)}")  # a commit's files do not change
                homes.append(home)
                result = self.pull(*args, HF_HOME=home)
                self.assertEqual(result[0], status, (bad, result))
                self.assertIn("model.safetensors.index.json", result[1])
                self.assertIn(words, result[1])
                self.assertEqual(self.hub.asked("/store/"), [])
        for text, words in ((b"{", "model.safetensors.index.json"), (b"[]", "no weight_map"),
                            (b'{"weight_map": {}}', "no weight_map"),
                            (b'{"weight_map": {"a": 7}}', "is no safetensors file")):
            self.hub.files["model.safetensors.index.json"] = text
            result = self.pull(HF_HOME=str(self.root / f"text-{len(text)}"))
            self.assertEqual(result[0], "FORMAT", (text, result))
            self.assertIn(words, result[1])

    def test_no_usable_weights__named(self):
        weights = self.hub.files.pop("model.safetensors")
        cases = (({}, "no safetensors at its top"),
                 ({"pytorch_model.bin": b"x"}, "it has pytorch_model.bin"),
                 ({"tiny-Q4_K_M.gguf": b"x"}, "tiny-Q4_K_M.gguf, which ORG/NAME:FILE fetches"),
                 ({"original/model.safetensors": weights}, "it has original/model.safetensors"),
                 ({"a.safetensors": weights, "b.safetensors": weights}, "2 safetensors"))
        for more, words in cases:
            self.hub.files.update(more)
            self.assert_failed(self.pull(), "NOT_FOUND", "org/tiny", words)
            for name in more:
                del self.hub.files[name]
        self.hub.files["other.safetensors"] = self.files["other.safetensors"] = weights
        del self.files["model.safetensors"]  # a single one may have any name
        self.assert_whole(self.pull())

    def test_gated__401_until_the_token__which_the_store_never_sees(self):
        self.hub.gated = True
        self.assert_failed(self.pull(), "UNAUTHENTICATED", "401", "HF_TOKEN")
        self.assert_whole(self.pull(HF_TOKEN=TOKEN))
        hosts = {host for host, path, headers in self.hub.requests if "Authorization" in headers}
        self.assertEqual(hosts, {"127.0.0.1"})

    def test_unknown__404(self):
        self.assert_failed(self.pull(repo="org/none"), "NOT_FOUND", "404", "org/none")
        self.assert_failed(self.pull(repo="org/tiny@v9"), "NOT_FOUND", "404", "v9")
        self.assert_failed(self.pull(repo="org/tiny:none.gguf"), "NOT_FOUND", "none.gguf")

    def test_renamed_repository__by_redirects_without_a_host(self):
        self.assert_whole(self.pull(repo="old/name"))
        self.assertTrue((self.root / "hf/hub/models--old--name/refs/main").exists())

    def test_file_gone_after_the_list__404_names_it(self):
        self.hub.faults["tokenizer.json"] = [(404, {})]
        self.assert_failed(self.pull(), "NOT_FOUND", "404", "tokenizer.json")

    def test_429__waits_as_long_as_it_says(self):
        self.hub.faults["main?blobs=true"] = [(429, {"Retry-After": "2"})]
        self.hub.faults["config.json"] = [(429, {"Retry-After": "1"}), (503, {})]
        begin = time.monotonic()
        self.assert_whole(self.pull())
        self.assertGreater(time.monotonic() - begin, 3.0)

    def test_429__too_long__says_when(self):
        self.hub.faults["config.json"] = [(429, {"Retry-After": "3600"})]
        self.assert_failed(self.pull(), "UNAVAILABLE", "429", "3600 s")

    def test_cut_in_mid_file__goes_on_where_it_stopped(self):
        self.hub.faults["model.safetensors"] = [None, "cut", None, "cut"]  # the redirect, the store
        result = self.pull()
        self.assert_whole(result)
        size = len(self.files["model.safetensors"])
        ranges = [r for _, r in self.hub.asked("/store/")]
        self.assertEqual(ranges[:2], [None, f"bytes={size // 2}-"])
        self.assertEqual(len(ranges), 3)
        self.assertEqual(self.hub.sent_bytes - len(json.dumps(self.hub.listing())),
                         result["fetched_bytes"])

    def test_partial_file_of_an_earlier_call__goes_on(self):
        part = self.blob("model.safetensors").with_suffix(".incomplete")
        part.parent.mkdir(parents=True)
        part.write_bytes(self.files["model.safetensors"][:1000])
        self.assert_whole(self.pull())
        self.assertEqual([r for _, r in self.hub.asked("/store/")], ["bytes=1000-"])

    def test_resume_at_a_server_without_ranges__begins_again(self):
        part = self.blob("model.safetensors").with_suffix(".incomplete")
        part.parent.mkdir(parents=True)
        part.write_bytes(b"x" * 1000)
        self.hub.faults["model.safetensors"] = [None, "no-range"]
        self.assert_whole(self.pull())

    def test_wrong_hash__refused_and_gone(self):
        for name in ("model.safetensors", "config.json"):
            self.hub.wrong_hash = {name}
            self.hub.faults[name] = []
            result = self.pull()
            self.assert_failed(result, "CHECKSUM", name)
            self.assertFalse(self.blob(name).exists())
            self.assertFalse(self.blob(name).with_suffix(".incomplete").exists() and
                             name == "model.safetensors")

    def test_other_etag_than_the_list__refused_before_a_byte(self):
        self.hub.faults["model.safetensors"] = ["etag"]
        self.assert_failed(self.pull(), "CHECKSUM", "etag", "model.safetensors")
        self.assertEqual(self.hub.asked("/store/"), [])

    def test_two_at_once__the_second_waits_and_fetches_nothing(self):
        self.hub.delay_s = 0.3  # before each answer: both are on their way
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = [f.result() for f in [pool.submit(self.pull) for _ in range(2)]]
        for result in results:
            self.assert_whole(result)
        self.assertEqual(min(r["fetched_bytes"] for r in results), 0)
        self.assertEqual(len(self.hub.asked("/store/")), 1)

    def test_no_server__says_where(self):
        self.assert_failed(self.pull(HF_ENDPOINT="http://127.0.0.1:9"), "UNAVAILABLE",
                           "http://127.0.0.1:9")

    def test_bad_references__usage(self):
        for repo in ("tiny", "org/tiny@", "org/tiny@../x", "org/tiny:../x", "org/tiny:a@b"):
            code, _ = self.pull(repo=repo)
            self.assertEqual(code, "USAGE", repo)
        code, text = self.pull("--revision", "v1", repo="org/tiny@v2")
        self.assertIn("twice", text)
        code, text = self.pull("--front", "1")
        self.assertIn("--client", text)


class Ways(Case):
    def test_proxy__by_http_proxy__not_for_no_proxy(self):
        proxy = Hub(self.files)
        self.addCleanup(proxy.close)
        self.assert_whole(self.pull(HF_ENDPOINT="http://hub.invalid", http_proxy=proxy.url))
        self.assertEqual({h for h, _, _ in proxy.requests}, {"hub.invalid", "localhost"})
        self.assert_failed(self.pull(HF_ENDPOINT="http://hub.invalid", http_proxy=proxy.url,
                                     no_proxy="hub.invalid", HF_HOME=str(self.root / "new")),
                           "UNAVAILABLE", "hub.invalid")

    def test_tls__only_with_a_bundle_that_knows_the_server(self):
        pem = self.root / "hub.pem"
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", "/CN=hub", "-addext",
             "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(self.root / "key.pem"),
             "-out", str(self.root / "cert.pem")], capture_output=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        pem.write_bytes((self.root / "key.pem").read_bytes() + (self.root / "cert.pem").read_bytes())
        self.hub.close()
        self.hub = Hub(self.files, certificate=str(pem))
        self.assert_failed(self.pull(), "UNAVAILABLE", "certificate")
        for variable in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            self.assert_whole(self.pull(HF_HOME=str(self.root / variable),
                                        **{variable: str(self.root / "cert.pem")}))


class Share(Case):
    def check_share(self, result, front, tail):
        whole = {}
        for name, data in self.files.items():
            if name.endswith(".safetensors"):
                whole |= load_file(str(self.root / "source" / name))
        blocks = [*range(front), *range(LAYERS - tail, LAYERS)]
        wanted = {n for n in whole if not n.startswith("model.layers.")
                  or int(n.split(".")[2]) in blocks}
        share = load_file(result["path"] + "/share.safetensors")
        self.assertEqual(set(share), wanted)
        for name, tensor in share.items():
            self.assertEqual(tensor.tobytes(), whole[name].tobytes(), name)
        data = (pathlib.Path(result["path"]) / "share.safetensors").read_bytes()
        header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
        self.assertEqual(header["__metadata__"]["seam.share_of"], "org/tiny")
        return sum(t.nbytes for t in share.values())

    def headers_bytes(self):
        return sum(8 + struct.unpack("<Q", d[:8])[0] for n, d in self.files.items()
                   if n.endswith(".safetensors"))

    def small_bytes(self):
        return sum(len(d) for n, d in self.files.items() if n.endswith(".json") and "/" not in n)

    def test_share__its_tensors_and_their_bytes_only__then_nothing(self):
        for front, tail in ((0, 0), (1, 1), (0, 2)):
            result = self.pull("--client", "--front", front, "--tail", tail)
            self.assertIsInstance(result, dict, result)
            payload = self.check_share(result, front, tail)
            small = self.small_bytes() if (front, tail) == (0, 0) else 0
            self.assertEqual(result["fetched_bytes"], payload + self.headers_bytes() + small)
            self.assertLess(result["fetched_bytes"] - small, result["weights_bytes"])
            again = self.pull("--client", "--front", front, "--tail", tail)
            self.assertEqual((again["path"], again["fetched_bytes"]), (result["path"], 0))
        self.assertEqual(list((self.home / "snapshots").glob("*/*.safetensors")), [])
        blobs = {p.name for p in (self.home / "blobs").iterdir()}
        self.assertFalse(blobs & {self.hub.hash_of(n) for n in self.files if "safetensors" in n
                                  and not n.endswith(".json")})

    def test_share__damaged_on_disk__fetched_again(self):
        result = self.pull("--client")
        path = pathlib.Path(result["path"]) / "share.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        again = self.pull("--client")
        self.assertGreater(again["fetched_bytes"], 0)
        self.check_share(again, 0, 0)

    def test_share__cut__goes_on(self):
        name = max((n for n in self.files if n.endswith(".safetensors")))
        self.hub.faults[name] = [None] * 5 + ["cut"]  # two reads of the header, a redirect each
        result = self.pull("--client")
        self.assertIsInstance(result, dict, result)
        payload = self.check_share(result, 0, 0)
        self.assertEqual(result["fetched_bytes"],
                         payload + self.headers_bytes() + self.small_bytes())

    def test_share__server_without_ranges_or_with_another_file__refused(self):
        name = max((n for n in self.files if n.endswith(".safetensors")))
        self.hub.faults[name] = [None, "no-range"]
        self.assert_failed(self.pull("--client"), "UNAVAILABLE", name, "part")
        self.hub.faults[name] = ["etag"]
        self.assert_failed(self.pull("--client"), "CHECKSUM", name, "etag")

    def test_share__bad_files__named(self):
        self.assert_failed(self.pull("--client", "--front", 3, "--tail", 2), "ARG", "3 and 2 blocks")
        name = max((n for n in self.files if n.endswith(".safetensors")))
        for data in (b"", b"short", struct.pack("<Q", 1 << 40) + b"{}" + bytes(64),
                     struct.pack("<Q", 2) + b"[]" + bytes(64),
                     struct.pack("<Q", 96) + json.dumps({"lm_head.weight": {
                         "dtype": "F32", "shape": [1], "data_offsets": [0, 4 << 20]}}).encode()
                     .ljust(96)):
            self.hub.files[name] = data
            self.assert_failed(self.pull("--client"), "FORMAT", name)


class ShardedShare(Share):
    sharded = True


class Offline(Case):
    sharded = True
    NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}

    def test_hub_away__the_cache_serves_what_is_whole(self):
        self.assert_failed(self.pull(**self.NOWHERE), "UNAVAILABLE", "127.0.0.1:9")
        kinds = ((), ("--client",), ("--file", "onnx/model.json"))
        for args in kinds:
            fetched = self.pull(*args)
            self.assertFalse(fetched["cached"])
            for way in (self.NOWHERE, {"HF_HUB_OFFLINE": "1"}):
                asked = len(self.hub.requests)
                kept = self.pull(*args, **way)
                self.assertEqual((kept["path"], kept["cached"], kept["fetched_bytes"]),
                                 (fetched["path"], True, 0), args)
                self.assertEqual(len(self.hub.requests), asked)
        self.assertEqual(self.pull(repo=f"org/tiny@{COMMIT}", **self.NOWHERE)["cached"], True)
        self.assert_failed(self.pull("--client", "--tail", 1, **self.NOWHERE), "UNAVAILABLE")

    def test_hub_away__half_a_model_is_none(self):
        self.hub.faults["model-00002-of-00002.safetensors"] = [(404, {})]
        self.assert_failed(self.pull(), "NOT_FOUND", "model-00002")
        (self.home / "refs").mkdir(exist_ok=True)  # as other programs write it, before the files
        (self.home / "refs/main").write_text(COMMIT)
        self.assert_failed(self.pull(HF_HUB_OFFLINE="true"), "NOT_FOUND", "HF_HUB_OFFLINE")
        self.assert_failed(self.pull(**self.NOWHERE), "UNAVAILABLE", "127.0.0.1:9")
        self.pull()
        share = pathlib.Path(self.pull("--client")["path"]) / "share.safetensors"
        share.write_bytes(share.read_bytes()[:-1] + b"!")
        self.assert_failed(self.pull("--client", HF_HUB_OFFLINE="on"), "NOT_FOUND")


class Server(Case):
    def test_seamd__repository_or_file__serves_it__client_by_its_share(self):
        share = self.pull("--client")["path"]
        rows = write_rows(self.root / "rows.jsonl", colour_rows(12))
        results = []
        environment = self.environment()
        saved = dict(os.environ)
        os.environ.update(environment)
        try:
            with Seamd(SEAMD, "org/tiny@main") as server:
                for model in (share, self.root / "source"):
                    done = subprocess.run(
                        [SEAM, "eval", "--server", server.address, "--model", str(model), "--data",
                         str(rows), "--codec", "f32", "--f32", "--exact-match", "off", "--json"],
                        env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    results.append(json.loads(done.stdout)["loss"])
                self.assertIn("model_fetched", server.log)
        finally:
            os.environ.clear()
            os.environ.update(saved)
        self.assertEqual(results[0], results[1])
        self.assertEqual((self.home / "refs/main").read_text(), COMMIT)

    def test_seamd__unknown_repository__does_not_start(self):
        done = subprocess.run([SEAMD, "--listen", "127.0.0.1:0", "--model", "org/none"],
                              env=self.environment(), capture_output=True, text=True, timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn("org/none", done.stderr)
        self.assertIn("404", done.stderr)


if __name__ == "__main__":
    SEAMD, SEAM = seamd_path(), sys.argv[2]
    unittest.main(argv=sys.argv[:1], verbosity=1)
