"""seamd's unary calls, health, reflection, errors and life cycle, from a Python client."""
import pathlib
import signal
import socket
import subprocess
import sys
import threading

from service_fixture import (DEADLINE_S, Client, Seamd, grpc, refused, run_cases, wait_for)

CODE = grpc.StatusCode


def messages():
    from seam.v1 import service_pb2, types_pb2
    return service_pb2, types_pb2


def session_config(**codec):
    _, types = messages()
    config = types.SessionConfig(
        model="tiny", topology=types.TOPOLOGY_U_SHAPED,
        lora=types.LoraConfig(rank=4, alpha=8, seed=7,
                              targets=[types.PROJECTION_Q, types.PROJECTION_V]),
        optimizer=types.OptimizerConfig(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, clip_norm=1,
                                        schedule=types.SCHEDULE_CONSTANT),
        codec=types.CodecConfig(codec=types.CODEC_BF16, labelled_rows_only=True, seed=3),
        limits=types.Limits(rows_per_micro_max=64, sequences_per_micro_max=8,
                            micros_per_step_max=4))
    for name, value in codec.items():
        setattr(config.codec, name, value)
    return config


def test_info_and_models__a_fresh_server__describes_itself(binary, folder):
    service, _ = messages()
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        client = Client(ch)
        info = client.unary("GetServerInfo", service.GetServerInfoRequest(),
                            service.GetServerInfoResponse)
        assert info.capabilities.protocol_version == 1 and info.device and info.version
        assert info.memory_bytes_free == info.memory_bytes_total > 0
        models = client.unary("ListModels", service.ListModelsRequest(),
                              service.ListModelsResponse).models
        assert [m.id for m in models] == ["tiny"]
        assert (models[0].layers, models[0].hidden, models[0].vocab) == (2, 48, 96)
        assert (code := server.stop()) == 0, (code, server.log)


def test_sessions__created_listed_deleted__idempotent_by_request_id(binary, folder):
    service, _ = messages()
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        client = Client(ch)

        def create(request_id, config=None):
            return client.unary("CreateSession", service.CreateSessionRequest(
                request_id=request_id, config=config or session_config()),
                service.CreateSessionResponse)

        first = create("r1")
        assert len(first.session_secret) == 32 and len(first.session.sites) == 4
        assert first.session.config == session_config() and first.session.config_hash
        assert [s.paired_forward_site for s in first.session.sites] == [0, 1, 1, 0]
        again = create("r1")
        assert again.session.id == first.session.id
        assert again.session_secret == first.session_secret
        refused(CODE.ALREADY_EXISTS, create, "r1", session_config(seed=99), reason="EXISTS",
                field="request_id")
        second = create("r2")
        assert second.session.id != first.session.id
        page = client.unary("ListSessions", service.ListSessionsRequest(page_size=1),
                            service.ListSessionsResponse)
        assert [s.id for s in page.sessions] == [first.session.id] and page.next_page_token
        page = client.unary("ListSessions", service.ListSessionsRequest(
            page_size=1, page_token=page.next_page_token), service.ListSessionsResponse)
        assert [s.id for s in page.sessions] == [second.session.id] and not page.next_page_token

        def get(session_id, secret):
            return client.unary("GetSession", service.GetSessionRequest(
                session_id=session_id, session_secret=secret), service.GetSessionResponse)

        assert get(first.session.id, first.session_secret).session.id == first.session.id
        refused(CODE.PERMISSION_DENIED, get, first.session.id, b"x" * 32, reason="DENIED")
        refused(CODE.PERMISSION_DENIED, get, first.session.id, b"", reason="DENIED")
        refused(CODE.NOT_FOUND, get, "nonsense", first.session_secret, reason="NOT_FOUND")

        def delete(request_id, reply):
            return client.unary("DeleteSession", service.DeleteSessionRequest(
                request_id=request_id, session_id=reply.session.id,
                session_secret=reply.session_secret), service.DeleteSessionResponse)

        delete("d1", first)
        delete("d1", first)  # a repetition succeeds
        refused(CODE.NOT_FOUND, delete, "d2", first)
        delete("", second)
        info = client.unary("GetServerInfo", service.GetServerInfoRequest(),
                            service.GetServerInfoResponse)
        assert info.session_count == 0 and info.rows_max == 8192
        wait_for(lambda: client.unary("GetServerInfo", service.GetServerInfoRequest(),
                                      service.GetServerInfoResponse).memory_bytes_free ==
                 info.memory_bytes_total, what="free memory")


def test_create_session__bad_config__names_the_field(binary, folder):
    service, types = messages()
    amaq = types.AmaqConfig(bits_min=1, bits_max=16, bits_start=8, bits_target=4, alpha=1,
                            beta=0.02, bits_lr=1e-2, bits_loss=types.BITS_LOSS_L2,
                            clipping=types.CLIPPING_SOFT,
                            gate_signal=types.GATE_SIGNAL_SURROGATE, alloc_lag_steps=2)

    def changed(change):
        config = session_config()
        change(config)
        return config

    def amaq_with(**fields):
        def change(config):
            config.codec.codec = types.CODEC_AMAQ
            config.codec.amaq.CopyFrom(amaq)
            for name, value in fields.items():
                setattr(config.codec.amaq, name, value)
        return change

    def aqsgd_with(**fields):
        def change(config):
            config.codec.codec, config.codec.bits = types.CODEC_AQSGD, 4
            config.codec.aqsgd.cache_format = types.CACHE_FORMAT_QUANTIZED
            for name, value in fields.items():
                setattr(config.codec.aqsgd, name, value)
        return change

    def group_of(channels):
        def change(config):
            config.codec.codec, config.codec.bits = types.CODEC_GROUP, 4
            config.codec.group = channels
        return change

    def dictionary_of(rows):
        def change(config):
            config.codec.codec_fwd_in = types.CODEC_DICTIONARY
            config.codec.dictionary_rows_max = rows
        return change

    def prefix_of(tokens):
        def change(config):
            config.ClearField("lora")
            config.prefix.virtual_tokens = tokens
            config.prefix.seed = 1
        return change

    def full_beside_prefix(config):
        prefix_of(5)(config)
        config.full = True

    def all_layer(bits, steps):
        def change(config):
            config.all_layer_bits, config.all_layer_steps = bits, steps
        return change

    def prefix_gates(bits, steps, tokens=5):
        def change(config):
            if tokens:
                prefix_of(tokens)(config)
            config.prefix_bits, config.prefix_steps = bits, steps
        return change

    def full_in_fp8(config):
        config.ClearField("lora")
        config.full = True
        config.fp8 = True

    def sided(side, full):  # what both ends have, and what only the server has
        def change(config):
            prefix_of(5)(config)
            config.tail_layers, config.lora_side, config.full = 1, side, full
            if full:
                config.ClearField("prefix")
        return change

    def topology_of(topology, consent=types.CONSENT_UNSPECIFIED):
        def change(config):
            config.topology, config.consent = topology, consent
        return change

    def exact_without_gates(config):
        amaq_with(gate_signal=types.GATE_SIGNAL_EXACT)(config)
        config.codec.codec_fwd_in = types.CODEC_BF16

    def exact_of_no_gates(config):  # affine has none anywhere: what amaq says is not read
        amaq_with(gate_signal=types.GATE_SIGNAL_EXACT)(config)
        config.codec.codec, config.codec.bits = types.CODEC_AFFINE, 4

    bad, missing, full = CODE.INVALID_ARGUMENT, CODE.UNIMPLEMENTED, CODE.RESOURCE_EXHAUSTED
    cases = [
        (CODE.NOT_FOUND, "NOT_FOUND", "config.model", lambda c: setattr(c, "model", "gpt-9")),
        (bad, "ARG", "config.consent", topology_of(types.TOPOLOGY_VANILLA)),
        (bad, "ARG", "config.consent", topology_of(types.TOPOLOGY_ADAPTER_EXCHANGE, types.CONSENT_LABELS)),
        (bad, "ARG", "config.consent", topology_of(types.TOPOLOGY_U_SHAPED, 3)),
        (CODE.PERMISSION_DENIED, "DENIED", "config.topology",
         topology_of(types.TOPOLOGY_VANILLA, types.CONSENT_LABELS)),
        (CODE.PERMISSION_DENIED, "DENIED", "config.topology",
         topology_of(types.TOPOLOGY_ADAPTER_EXCHANGE, types.CONSENT_TEXT)),
        (bad, "ARG", "config.resend_parameters", lambda c: setattr(c, "resend_parameters", True)),
        (bad, "ARG", "config.topology", lambda c: setattr(c, "topology", 77)),
        (missing, "UNIMPLEMENTED", "config.fp8", lambda c: setattr(c, "fp8", True)),
        (bad, "ARG", "config.front_layers", lambda c: setattr(c, "front_layers", 2)),
        (bad, "ARG", "config.tail_layers", lambda c: setattr(c, "tail_layers", 3)),
        (bad, "ARG", "config.lora", lambda c: c.ClearField("lora")),
        (bad, "ARG", "config.prefix", lambda c: setattr(c.prefix, "virtual_tokens", 30)),
        (bad, "ARG", "config.full", lambda c: setattr(c, "full", True)),
        (bad, "ARG", "config.all_layer_bits", all_layer(8, 9)),
        (bad, "ARG", "config.all_layer_bits", all_layer(1, 9)),
        (bad, "ARG", "config.all_layer_bits", all_layer(float("nan"), 9)),
        (bad, "ARG", "config.all_layer_steps", all_layer(4, 0)),
        (bad, "ARG", "config.all_layer_steps", all_layer(0, 9)),
        (bad, "ARG", "config.prefix_bits", prefix_gates(8, 9)),
        (bad, "ARG", "config.prefix_bits", prefix_gates(float("nan"), 9)),
        (bad, "ARG", "config.prefix_bits", prefix_gates(4, 9, tokens=0)),
        (bad, "ARG", "config.prefix_steps", prefix_gates(4, 0)),
        (bad, "ARG", "config.prefix_steps", prefix_gates(0, 9)),
        (bad, "ARG", "config.full", full_beside_prefix),
        (bad, "ARG", "config.fp8", full_in_fp8),
        (bad, "ARG", "config.lora_side", sided(types.LORA_SIDE_BOTH, True)),
        (bad, "ARG", "config.lora_side", sided(types.LORA_SIDE_CLIENT, True)),
        (bad, "ARG", "config.lora_side", sided(types.LORA_SIDE_SERVER, False)),
        (bad, "ARG", "config.lora_side", sided(types.LORA_SIDE_CLIENT, False)),
        (bad, "ARG", "config.prefix.virtual_tokens", prefix_of(0)),
        (bad, "ARG", "config.prefix.virtual_tokens", prefix_of(257)),
        (bad, "ARG", "config.lora.rank", lambda c: setattr(c.lora, "rank", 0)),
        (bad, "ARG", "config.lora.rank", lambda c: setattr(c.lora, "rank", 257)),
        (bad, "ARG", "config.lora.alpha", lambda c: setattr(c.lora, "alpha", float("nan"))),
        (bad, "ARG", "config.lora.targets", lambda c: c.lora.ClearField("targets")),
        (bad, "ARG", "config.lora.dropout", lambda c: setattr(c.lora, "dropout", 0.96)),
        (bad, "ARG", "config.lora.dropout", lambda c: setattr(c.lora, "dropout", float("nan"))),
        (bad, "ARG", "config.optimizer", lambda c: c.ClearField("optimizer")),
        (bad, "ARG", "config.optimizer.lr", lambda c: setattr(c.optimizer, "lr", -1)),
        (bad, "ARG", "config.optimizer.beta2", lambda c: setattr(c.optimizer, "beta2", 1)),
        (bad, "ARG", "config.optimizer.schedule", lambda c: setattr(c.optimizer, "schedule", 0)),
        (bad, "ARG", "config.optimizer.total_steps",
         lambda c: setattr(c.optimizer, "schedule", types.SCHEDULE_LINEAR)),
        (bad, "ARG", "config.codec", lambda c: c.ClearField("codec")),
        (bad, "ARG", "config.codec.codec", lambda c: setattr(c.codec, "codec", 0)),
        (full, "LIMIT", "config.codec.aqsgd.cache_bytes_max",
         aqsgd_with(cache_bits=8, cache_bytes_max=2 ** 21)),
        (bad, "ARG", "config.codec.aqsgd.cache_bits", aqsgd_with(cache_bits=17)),
        (bad, "ARG", "config.codec.aqsgd.cache_format", aqsgd_with(cache_format=0)),
        (bad, "ARG", "config.codec.group", group_of(7)),
        (bad, "ARG", "config.codec.bits",
         lambda c: setattr(c.codec, "codec", types.CODEC_AFFINE)),
        (bad, "ARG", "config.codec.amaq", lambda c: setattr(c.codec, "codec", types.CODEC_AMAQ)),
        (bad, "ARG", "config.codec.amaq.bits_start", amaq_with(bits_start=20)),
        (bad, "ARG", "config.codec.amaq.alloc_lag_steps", amaq_with(alloc_lag_steps=1)),
        (bad, "ARG", "config.codec.amaq.gate_signal", amaq_with(gate_signal=9)),
        (bad, "ARG", "config.codec.codec",
         lambda c: setattr(c.codec, "codec", types.CODEC_DICTIONARY)),
        (bad, "ARG", "config.codec.codec_fwd_in",
         lambda c: setattr(c.codec, "codec_fwd_in", types.CODEC_AMAQ)),
        (bad, "ARG", "config.codec.codec_fwd_in", lambda c: setattr(c.codec, "codec_fwd_in", 77)),
        (bad, "ARG", "config.codec.dictionary_rows_max", dictionary_of(0)),
        (bad, "ARG", "config.codec.dictionary_rows_max", dictionary_of(2 ** 20 + 1)),
        (full, "LIMIT", "config.codec.dictionary_rows_max", dictionary_of(2 ** 20)),
        (bad, "ARG", "config.codec.entropy", lambda c: setattr(c.codec, "entropy", 3)),
        (bad, "ARG", "config.codec.entropy",  # nothing to code: the codec is f32
         lambda c: setattr(c.codec, "entropy", types.ENTROPY_CODER_RANS)),
        (bad, "ARG", "config.codec.amaq.allocator", amaq_with(allocator=3)),
        (bad, "ARG", "config.codec.amaq.granularity", amaq_with(granularity=3)),
        (bad, "ARG", "config.codec.amaq.allocator",
         amaq_with(granularity=types.GRANULARITY_TOKEN, allocator=types.ALLOCATOR_WATERFILL)),
        (bad, "ARG", "config.codec.codec",
         lambda c: setattr(c.codec, "codec", types.CODEC_AMAQ_TOKEN)),
        (bad, "ARG", "config.codec.amaq.gate_signal", exact_without_gates),
        (bad, "ARG", "config.limits", lambda c: c.ClearField("limits")),
        (bad, "ARG", "config.limits.rows_per_micro_max",
         lambda c: setattr(c.limits, "rows_per_micro_max", 1 << 21)),
        (bad, "ARG", "config.limits.micros_per_step_max",
         lambda c: setattr(c.limits, "micros_per_step_max", 0)),
        (bad, "ARG", "config.name", lambda c: setattr(c, "name", "n" * 101)),
    ]
    with (Seamd(binary, folder / "model", "--cache-bytes-max", "1M") as server,
          grpc.insecure_channel(server.address) as ch):
        client = Client(ch)

        def create(**fields):
            return client.unary("CreateSession", service.CreateSessionRequest(**fields),
                                service.CreateSessionResponse)

        for code, reason, field, change in cases:
            refused(code, create, config=changed(change), reason=reason, field=field, text=field)
        refused(bad, create, field="config", reason="ARG")
        refused(bad, create, config=session_config(), model_identity=5, field="model_identity",
                reason="ARG")
        refused(bad, create, config=session_config(), request_id="r" * 65, field="request_id",
                reason="ARG")
        assert create(config=changed(amaq_with())).session.id
        assert create(config=changed(exact_of_no_gates)).session.id
        # No protobuf of Python's makes such a name, and none reads it: one would hide all sessions.
        named = service.CreateSessionRequest(
            config=changed(lambda c: setattr(c, "name", "NAME"))).SerializeToString()
        raw = ch.unary_unary(f"/{client.service}/CreateSession")
        refused(bad, raw, named.replace(b"NAME", b"N\xff\xfeE"), reason="ARG", field="config.name")
        assert len(client.unary("ListSessions", service.ListSessionsRequest(),
                                service.ListSessionsResponse).sessions) == 2


def test_create_session__bits_that_no_codec_reads__any_number(binary, folder):
    """Codecs without widths of their own, at both pairs of sites or at one."""
    service, types = messages()

    def config(bits, **codec):
        made = session_config(bits=bits, **codec)
        if made.codec.codec == types.CODEC_AMAQ:
            made.codec.amaq.CopyFrom(types.AmaqConfig(
                bits_min=1, bits_max=16, bits_start=8, bits_target=4, alpha=1, beta=0.02,
                bits_lr=1e-2, bits_loss=types.BITS_LOSS_L2, clipping=types.CLIPPING_SOFT,
                gate_signal=types.GATE_SIGNAL_SURROGATE, alloc_lag_steps=2))
        return made

    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        for codec in (dict(codec=types.CODEC_F32), dict(codec=types.CODEC_BF16),
                      dict(codec=types.CODEC_AMAQ),
                      dict(codec=types.CODEC_AMAQ, codec_fwd_in=types.CODEC_BF16),
                      dict(codec=types.CODEC_AMAQ, codec_fwd_in=types.CODEC_DICTIONARY,
                           dictionary_rows_max=8)):
            made = [Client(ch).unary("CreateSession", service.CreateSessionRequest(
                config=config(bits, **codec)), service.CreateSessionResponse).session
                    for bits in (0, 77, 2 ** 32 - 1)]
            assert len({session.memory_bytes for session in made}) == 1, (codec, made)


def test_admission__memory_or_sessions_gone__resource_exhausted(binary, folder):
    service, _ = messages()
    with Seamd(binary, folder / "model", "--sessions-max", "2") as server, \
            grpc.insecure_channel(server.address) as ch:
        client = Client(ch)
        request = service.CreateSessionRequest(config=session_config())
        for _ in range(2):
            client.unary("CreateSession", request, service.CreateSessionResponse)
        refused(CODE.RESOURCE_EXHAUSTED, client.unary, "CreateSession", request,
                service.CreateSessionResponse, reason="LIMIT", text="sessions-max")
    with Seamd(binary, folder / "model", "--memory-budget", "1M") as server, \
            grpc.insecure_channel(server.address) as ch:
        refused(CODE.RESOURCE_EXHAUSTED, Client(ch).unary, "CreateSession", request,
                service.CreateSessionResponse, reason="LIMIT", text="1.0 MiB is free")
        refused(CODE.RESOURCE_EXHAUSTED, Client(ch).unary, "CreateSession", request,
                service.CreateSessionResponse, reason="LIMIT", text="session needs ")
    # What may wait on its stream is a session's too.
    for credit, needed in (("4M", None), ("1G", "session needs 1.0 GiB (")):
        with Seamd(binary, folder / "model", "--memory-budget", "64M", "--credit-bytes", credit) as server, \
                grpc.insecure_channel(server.address) as ch:
            if needed is None:
                Client(ch).unary("CreateSession", request, service.CreateSessionResponse)
            else:
                refused(CODE.RESOURCE_EXHAUSTED, Client(ch).unary, "CreateSession", request,
                        service.CreateSessionResponse, reason="LIMIT", text=needed)


def test_bad_calls__unknown_malformed_compressed_large__answered_at_once(binary, folder):
    service, _ = messages()
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        client = Client(ch)
        raw = ch.unary_unary("/seam.v1.SeamService/NoSuchMethod")
        refused(CODE.UNIMPLEMENTED, raw, b"", text="NoSuchMethod",
                reason="UNIMPLEMENTED")
        refused(CODE.UNIMPLEMENTED, ch.stream_stream("/no.Service/Call"), iter([b""]))
        raw = ch.unary_unary("/seam.v1.SeamService/CreateSession")
        refused(CODE.INVALID_ARGUMENT, raw, b"\xff\xff\xff", text="malformed",
                reason="FORMAT")
        refused(CODE.RESOURCE_EXHAUSTED, raw, b"\0" * (2 << 20))
        refused(CODE.UNIMPLEMENTED, client.unary, "GetServerInfo", service.GetServerInfoRequest(),
                service.GetServerInfoResponse, compression=grpc.Compression.Gzip)
        client.unary("GetServerInfo", service.GetServerInfoRequest(),
                     service.GetServerInfoResponse)  # still fine


def health_messages(folder):
    """grpc.health.v1 under a name that does not shadow the grpc package."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    pool = descriptor_pool.Default()
    from grpc_tools import protoc
    out = folder / "rpc.bin"
    source = pathlib.Path(__file__).resolve().parents[2] / "proto"
    assert protoc.main(["protoc", f"-I{source}", f"--descriptor_set_out={out}",
                        "grpc/health/v1/health.proto",
                        "grpc/reflection/v1/reflection.proto",
                        "grpc/reflection/v1alpha/reflection.proto"]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    for file in files.file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_health__check_and_watch__follow_the_drain(binary, folder):
    get = health_messages(folder)
    request = get("grpc.health.v1.HealthCheckRequest")
    response = get("grpc.health.v1.HealthCheckResponse")
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        health = Client(ch, "grpc.health.v1.Health")
        for name in ("", "seam.v1.SeamService"):
            assert health.unary("Check", request(service=name), response).status == 1
        refused(CODE.NOT_FOUND, health.unary, "Check", request(service="other"), response,
                field="service", reason="NOT_FOUND")
        unknown = health.server_stream("Watch", request(service="other"), response)
        assert next(unknown).status == 3
        unknown.cancel()
        watch = health.server_stream("Watch", request(), response)
        assert next(watch).status == 1
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == 2
        assert server.process.wait(DEADLINE_S) == 0
        refused(CODE.UNAVAILABLE, lambda: watch)


def test_reflection__both_versions__describe_the_service(binary, folder):
    from google.protobuf import descriptor_pb2
    get = health_messages_once(folder)
    with Seamd(binary, folder / "model", "--drain-timeout", "3600000") as server, \
            grpc.insecure_channel(server.address) as ch:
        for version in ("v1", "v1alpha"):
            request = get(f"grpc.reflection.{version}.ServerReflectionRequest")
            response = get(f"grpc.reflection.{version}.ServerReflectionResponse")
            client = Client(ch, f"grpc.reflection.{version}.ServerReflection")
            answers = list(client.stream("ServerReflectionInfo", iter([
                request(list_services="*"),
                request(file_containing_symbol="seam.v1.SeamService.Train"),
                request(file_by_filename="seam/v1/types.proto"),
                request(file_containing_symbol="no.Such")]), response))
            assert len(answers) == 4
            names = {s.name for s in answers[0].list_services_response.service}
            assert {"seam.v1.SeamService", "grpc.health.v1.Health"} <= names
            files = [descriptor_pb2.FileDescriptorProto.FromString(b).name
                     for b in answers[1].file_descriptor_response.file_descriptor_proto]
            assert files == ["seam/v1/service.proto", "seam/v1/stream.proto",
                             "seam/v1/types.proto"], files
            assert len(answers[2].file_descriptor_response.file_descriptor_proto) == 1
            assert answers[3].error_response.error_code == 5

        hold = threading.Event()

        def one_then_silence():
            yield request(list_services="*")
            hold.wait(DEADLINE_S)

        stream = client.stream("ServerReflectionInfo", one_then_silence(), response)
        assert next(stream).list_services_response.service
        assert (code := server.stop()) == 0, (code, server.log)  # an idle stream holds nothing up
        hold.set()


_CACHE = []


def health_messages_once(folder):
    if not _CACHE:
        _CACHE.append(health_messages(folder))
    return _CACHE[0]


def make_certificates(folder):
    """A CA, a server certificate for localhost and a client certificate, by openssl."""
    tls = folder / "tls"
    tls.mkdir(exist_ok=True)

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=tls, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj",
                f"/CN={name}")
    (tls / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-days", "2", "-extfile", "san", "-out", f"{name}.pem")
    return tls


def test_tls__server_and_mutual__only_the_right_certificates(binary, folder):
    service, _ = messages()
    tls = make_certificates(folder)

    def info(server, certificate=None):
        name = certificate
        credentials = grpc.ssl_channel_credentials(
            (tls / "ca.pem").read_bytes(),
            *(((tls / f"{name}.key").read_bytes(), (tls / f"{name}.pem").read_bytes())
              if name else ()))
        with grpc.secure_channel(server.address, credentials) as ch:
            return Client(ch).unary("GetServerInfo", service.GetServerInfoRequest(),
                                    service.GetServerInfoResponse)

    flags = ["--tls-cert", str(tls / "server.pem"), "--tls-key", str(tls / "server.key")]
    with Seamd(binary, folder / "model", *flags) as server:
        assert info(server).version
        with grpc.insecure_channel(server.address) as ch:
            refused(CODE.UNAVAILABLE, Client(ch).unary, "GetServerInfo",
                    service.GetServerInfoRequest(), service.GetServerInfoResponse)
        assert (code := server.stop()) == 0, (code, server.log)
    with Seamd(binary, folder / "model", *flags, "--tls-client-ca", str(tls / "ca.pem")) as server:
        assert info(server, "client").version
        refused(CODE.UNAVAILABLE, info, server)
        refused(CODE.UNAVAILABLE, info, server, "stranger")


def test_tokens__with_a_token_file__only_known_keys(binary, folder):
    import hashlib
    service, _ = messages()
    tokens = folder / "tokens"
    tokens.write_text("# keys\n" + hashlib.sha256(b"secret-key").hexdigest() + "\n")
    with Seamd(binary, folder / "model", "--token-file", str(tokens)) as server, \
            grpc.insecure_channel(server.address) as ch:
        args = ("GetServerInfo", service.GetServerInfoRequest(), service.GetServerInfoResponse)
        refused(CODE.UNAUTHENTICATED, Client(ch).unary, *args, reason="UNAUTHENTICATED")
        refused(CODE.UNAUTHENTICATED, Client(ch).unary, *args,
                metadata=[("authorization", "Bearer wrong")])
        assert Client(ch).unary(*args, metadata=[("authorization", "Bearer secret-key")]).version


def test_flags__what_cannot_work__exits_with_the_name(binary, folder):
    model = str(folder / "model")
    tls = make_certificates(folder)

    def output(*args, env=None):
        done = subprocess.run([binary, *args], capture_output=True, text=True, timeout=DEADLINE_S,
                              env=env)
        assert done.returncode != 0
        return done.stderr

    assert "tls-cert" in output("--model", model, "--listen", "0.0.0.0:0")
    assert "tls-cert" in output("--model", model, "--listen", "0.0.0.0:0", "--insecure")
    assert "at least one" in output("--listen", "127.0.0.1:0")
    assert "--rows-max" in output("--model", model, "--rows-max", "none")
    assert "--frobnicate" in output("--frobnicate")
    assert "tls-key" in output("--model", model, "--tls-cert", str(tls / "server.pem"))
    assert "/no/such" in output("--model", "/no/such", "--listen", "127.0.0.1:0")
    assert "tls-cert" in output("--model", model, "--listen", "127.0.0.1:0", "--tls-cert",
                                "/no/cert", "--tls-key", str(tls / "server.key"))
    stranger, junk = tls / "stranger.key", tls / "junk.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    for cert, key, ca, text in (
            (junk, tls / "server.key", None, f"tls-cert: {junk} is no PEM certificate"),
            (tls / "server.pem", junk, None, f"tls-key: {junk} is no PEM private key"),
            (tls / "server.pem", stranger, None, f"tls-key: {stranger} is not the key of tls-cert"),
            (tls / "server.pem", tls / "server.key", junk, f"tls-client-ca: {junk} is no PEM")):
        said = output("--model", model, "--listen", "127.0.0.1:0", "--tls-cert", str(cert),
                      "--tls-key", str(key), *(["--tls-client-ca", str(ca)] if ca else []))
        assert text in said, said
    # What is opened later is found before a model is looked for.
    plain = folder / "plain-file"
    plain.write_text("")
    for option, path in (("cache-dir", plain), ("cache-dir", folder / "nodir"), ("state-dir", plain),
                         ("ready-file", folder / "nodir" / "ready"), ("ready-file", folder),
                         ("trace", folder / "nodir" / "trace"), ("token-file", folder / "nofile"),
                         ("token-file", folder), ("token-file", plain),
                         ("tls-cert", folder / "nofile")):
        key = ["--tls-key", str(tls / "server.key")] if option == "tls-cert" else []
        said = output("--model", "/no/such", "--listen", "127.0.0.1:0", *key, f"--{option}", str(path))
        assert f"seamd: {option}: " in said and str(path) in said and "/no/such" not in said, said
    assert "SEAM_SESSIONS_MAX" in output("--model", model, env={"SEAM_SESSIONS_MAX": "x"})
    config = folder / "seamd.conf"
    config.write_text("listen = 127.0.0.1:0\nbogus = 1\n")
    assert "seamd.conf:2" in output("--config", str(config))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "cannot bind" in output("--model", model, "--listen", f"127.0.0.1:{port}")


def test_config__flag_over_variable_over_file(binary, folder):
    service, _ = messages()
    config = folder / "good.conf"
    config.write_text("# a file\nsessions-max = 1\nmemory-budget = 64M\n")
    import os
    os.environ["SEAM_MEMORY_BUDGET"] = "128M"
    try:
        ready = folder / "ready"
        with Seamd(binary, folder / "model", "--config", str(config), "--sessions-max=2",
                   "--ready-file", str(ready)) as server, \
                grpc.insecure_channel(server.address) as ch:
            client = Client(ch)
            assert ready.read_text() == server.address
            info = client.unary("GetServerInfo", service.GetServerInfoRequest(),
                                service.GetServerInfoResponse)
            assert info.memory_bytes_total == 128 << 20
            for _ in range(2):
                client.unary("CreateSession", service.CreateSessionRequest(
                    config=session_config()), service.CreateSessionResponse)
            assert server.stop() == 0 and not ready.exists()
    finally:
        del os.environ["SEAM_MEMORY_BUDGET"]


def test_lease__an_unused_session__expires(binary, folder):
    service, _ = messages()
    with Seamd(binary, folder / "model", "--lease-timeout", "300") as server, \
            grpc.insecure_channel(server.address) as ch:
        client = Client(ch)
        client.unary("CreateSession", service.CreateSessionRequest(config=session_config()),
                     service.CreateSessionResponse)
        wait_for(lambda: client.unary("GetServerInfo", service.GetServerInfoRequest(),
                                      service.GetServerInfoResponse).session_count == 0,
                 what="end of the lease")


def test_silent_calls__no_message__end_at_the_deadline(binary, folder):
    with Seamd(binary, folder / "model", "--handshake-timeout", "300") as server, \
            grpc.insecure_channel(server.address) as ch:
        never = threading.Event()

        def nothing():
            never.wait(DEADLINE_S)
            yield from ()

        call = ch.stream_stream("/seam.v1.SeamService/Train")(nothing(), timeout=DEADLINE_S)
        refused(CODE.DEADLINE_EXCEEDED, lambda: call, reason="DEADLINE", text="no message")
        never.set()


def test_many_clients__at_once__all_served(binary, folder):
    service, _ = messages()
    failures = []
    with Seamd(binary, folder / "model") as server:
        def work():
            try:
                with grpc.insecure_channel(server.address, options=[
                        ("grpc.use_local_subchannel_pool", 1)]) as ch:
                    for _ in range(50):
                        Client(ch).unary("GetServerInfo", service.GetServerInfoRequest(),
                                         service.GetServerInfoResponse)
            except grpc.RpcError as error:
                failures.append(error)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert (code := server.stop()) == 0, (code, server.log)


if __name__ == "__main__":
    sys.exit(run_cases(globals()))
