"""What the service tests share: generated messages, a tiny random model, a running seamd.

Needs only grpcio, grpcio-tools, protobuf, numpy and safetensors; skips (exit 77) without them.
"""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

try:
    import grpc
    import grpc_tools
    import numpy as np
    from grpc_tools import protoc
    from safetensors.numpy import save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SERVICE = "seam.v1.SeamService"
# What must come, comes within this time on a machine however busy: only what hangs waits so long.
DEADLINE_S = 180
LEASE_MS = "3600000"  # no session goes while a test works elsewhere, however long that takes


def seamd_path() -> str:
    """argv[1] or $SEAMD: the binary under test."""
    path = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else \
        os.environ.get("SEAMD", "")
    if not path or not pathlib.Path(path).exists():
        print(f"skipped: no seamd at {path!r}")
        sys.exit(77)
    return path


def generate_messages(folder: str) -> None:
    """Python classes of every .proto of the tree, importable afterwards."""
    protos = [str(p.relative_to(SOURCE / "proto")) for p in (SOURCE / "proto").rglob("*.proto")]
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    # grpc/ would shadow the grpc package: its messages are generated under another root.
    ours = [p for p in protos if not p.startswith("grpc/")]
    if protoc.main(["protoc", f"-I{SOURCE / 'proto'}", f"-I{well_known}", f"--python_out={folder}",
                    *ours]) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, folder)


def write_model(folder: pathlib.Path, *, hidden=48, layers=2, heads=6, kv_heads=2, head_dim=8,
                intermediate=80, vocab=96, context=256, tied=True, seed=1) -> None:
    """A random Llama in Hugging Face layout."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
        "vocab_size": vocab, "max_position_embeddings": context, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": tied, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))

    def matrix(rows, cols):
        return (rng.standard_normal((rows, cols)) / np.sqrt(cols)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(vocab, hidden),
               "model.norm.weight": np.ones(hidden, np.float32)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors |= {
            at + "input_layernorm.weight": 1 + 0.1 * matrix(1, hidden)[0],
            at + "post_attention_layernorm.weight": 1 + 0.1 * matrix(1, hidden)[0],
            at + "self_attn.q_proj.weight": matrix(heads * head_dim, hidden),
            at + "self_attn.k_proj.weight": matrix(kv_heads * head_dim, hidden),
            at + "self_attn.v_proj.weight": matrix(kv_heads * head_dim, hidden),
            at + "self_attn.o_proj.weight": matrix(hidden, heads * head_dim),
            at + "mlp.gate_proj.weight": matrix(intermediate, hidden),
            at + "mlp.up_proj.weight": matrix(intermediate, hidden),
            at + "mlp.down_proj.weight": matrix(hidden, intermediate),
        }
    if not tied:
        tensors["lm_head.weight"] = matrix(vocab, hidden)
    save_file(tensors, str(folder / "model.safetensors"))


class Seamd:
    """A running server; `log` is its stderr so far."""

    def __init__(self, binary: str, model: pathlib.Path, *args: str, listen="127.0.0.1:0",
                 environment=()):
        self.log_file = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [binary, "--listen", listen, "--model", f"tiny={model}", "--threads", "1",
             "--dtype", "f32", "--drain-timeout", "1000", "--lease-timeout", LEASE_MS, *args],
            stdout=subprocess.PIPE, stderr=self.log_file, text=True,
            env=os.environ | dict(environment))
        line = self.process.stdout.readline()
        if not line.startswith("seamd: listening on "):
            raise RuntimeError(f"seamd did not start: {line!r} {self.log}")
        self.address = line.split()[-1]

    @property
    def log(self) -> str:
        self.log_file.seek(0)
        return self.log_file.read()

    def stop(self, timeout=DEADLINE_S) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        """Every server that the test left running ends in order: here sanitizers show leaks."""
        try:
            killed = self.process.poll() == -signal.SIGKILL
            code = self.stop()
            if error is None and not killed:
                assert code == 0, f"seamd ended with {code}: {self.log}"
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()


class HeldDevice:
    """A seamd_slow whose device stands at the first forward within `with`; `environment` makes one."""

    def __init__(self, folder: pathlib.Path):
        self.hold, self.held = folder / "hold", folder / "hold.held"
        self.environment = {"SLOW_HOLD": str(self.hold)}

    def wait(self):
        """Until a forward is there: what a client sent is not at the device yet."""
        wait_for(self.held.exists, what="forward")

    def let_go(self):
        self.hold.unlink(missing_ok=True)

    def __enter__(self):
        self.held.unlink(missing_ok=True)
        self.hold.touch()
        return self

    def __exit__(self, *_):
        self.let_go()


class Client:
    """Untyped stubs: call("CreateSession", request, ResponseClass)."""

    def __init__(self, channel, service=SERVICE):
        self.channel, self.service = channel, service

    def unary(self, method, request, response_class, timeout=DEADLINE_S, **kwargs):
        call = self.channel.unary_unary(f"/{self.service}/{method}",
                                        request_serializer=lambda m: m.SerializeToString(),
                                        response_deserializer=response_class.FromString)
        return call(request, timeout=timeout, **kwargs)

    def stream(self, method, requests, response_class, timeout=DEADLINE_S, **kwargs):
        call = self.channel.stream_stream(
            f"/{self.service}/{method}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=response_class.FromString)
        return call(requests, timeout=timeout, **kwargs)

    def server_stream(self, method, request, response_class, timeout=DEADLINE_S):
        call = self.channel.unary_stream(f"/{self.service}/{method}",
                                         request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=response_class.FromString)
        return call(request, timeout=timeout)

    def client_stream(self, method, requests, response_class, timeout=DEADLINE_S):
        call = self.channel.stream_unary(f"/{self.service}/{method}",
                                         request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=response_class.FromString)
        return call(requests, timeout=timeout)


def refused(code, call, *args, text="", reason="", field="", **kwargs):
    """The call must fail with this code; text, ErrorInfo.reason and BadRequest field are checked."""
    from google.rpc import error_details_pb2, status_pb2
    try:
        result = call(*args, **kwargs)
        if not hasattr(result, "SerializeToString"):
            list(result)
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} {error.details()}, expected {code}"
        assert text in error.details(), f"{text!r} not in {error.details()!r}"
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
        if reason or field:
            status = status_pb2.Status.FromString(details)
            assert status.code == code.value[0] and status.message == error.details()
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info) and info.domain == "seam.dev"
            assert info.reason == reason, f"reason {info.reason}, expected {reason}"
            fields = []
            for detail in status.details[1:]:
                request = error_details_pb2.BadRequest()
                if detail.Unpack(request):
                    fields += [violation.field for violation in request.field_violations]
            assert not field or fields == [field], f"fields {fields}, expected {field}"
        return error
    raise AssertionError(f"the call succeeded, expected {code}")


def wait_for(condition, seconds=DEADLINE_S, what="condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"no {what} within {seconds} s")


@contextlib.contextmanager
def workspace():
    """A temporary folder with the generated messages and a model in <folder>/model."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        generated = folder / "generated"
        generated.mkdir()
        generate_messages(str(generated))
        write_model(folder / "model")
        yield folder


def run_cases(module: dict) -> int:
    """Run every test_* of the module with one workspace; prints what failed."""
    import traceback
    binary = seamd_path()
    only = os.environ.get("SEAM_TEST_ONLY", "")
    failed = 0
    with workspace() as folder:
        for name, case in list(module.items()):
            if not name.startswith("test_") or only not in name:
                continue
            begin = time.monotonic()
            try:
                case(binary, folder)
                print(f"ok   {name} ({time.monotonic() - begin:.1f} s)", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                traceback.print_exc()
                print(f"FAIL {name}", flush=True)
    return 1 if failed else 0
