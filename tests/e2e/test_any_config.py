#!/usr/bin/env python3
"""No SessionConfig ends the server: each field at its extremes, one at a time, in configs of every kind.

    test_any_config.py SEAMD
"""
import sys

from service_fixture import Client, Seamd, grpc, run_cases, wait_for
from test_service_unary import session_config

REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNIMPLEMENTED}


def configs(types):
    """Of each topology, each trained part, each family of codecs."""
    f32 = session_config(codec=types.CODEC_F32)
    amaq = session_config(codec=types.CODEC_AMAQ, codec_fwd_in=types.CODEC_DICTIONARY,
                          dictionary_rows_max=8)
    amaq.codec.amaq.CopyFrom(types.AmaqConfig(
        bits_min=1, bits_max=16, bits_start=8, bits_target=4, alpha=1, beta=0.02, bits_lr=1e-2,
        bits_loss=types.BITS_LOSS_L2, clipping=types.CLIPPING_SOFT,
        gate_signal=types.GATE_SIGNAL_SURROGATE, alloc_lag_steps=2))
    amaq.full = True
    amaq.ClearField("lora")
    aqsgd = session_config(codec=types.CODEC_AQSGD, bits=4)
    aqsgd.codec.aqsgd.CopyFrom(types.AqsgdConfig(
        cache_bytes_max=1 << 15, cache_format=types.CACHE_FORMAT_QUANTIZED, cache_bits=8))
    aqsgd.ClearField("lora")
    aqsgd.prefix.virtual_tokens = 5
    vanilla = session_config(codec=types.CODEC_AFFINE, bits=4, entropy=types.ENTROPY_CODER_RANS)
    vanilla.topology, vanilla.consent = types.TOPOLOGY_VANILLA, types.CONSENT_LABELS
    exchange = session_config()
    exchange.topology, exchange.consent = types.TOPOLOGY_ADAPTER_EXCHANGE, types.CONSENT_TEXT
    return f32, amaq, aqsgd, vanilla, exchange


def extremes(field, whole):
    """Values of a field that is not a message."""
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return 0, 1, 77, whole
    if field.cpp_type == field.CPPTYPE_FLOAT:
        return 0, -1, 17, 1e38, float("nan")
    if field.cpp_type == field.CPPTYPE_ENUM:
        return -1, 0, 1, 2, 3, 77
    return (False, True) if field.cpp_type == field.CPPTYPE_BOOL else ("", "x" * 101)


def changed(config):
    """(name, config) with one field changed or one message absent."""
    def walk(message, path):
        for field in message.DESCRIPTOR.fields:
            name = path + (field.name,)
            if field.message_type:
                yield name, None
                yield from walk(getattr(message, field.name), name)
            else:
                whole = 2 ** (64 if field.cpp_type == field.CPPTYPE_UINT64 else 32) - 1
                yield from ((name, value) for value in extremes(field, whole))

    for path, value in walk(type(config)(), ()):
        made = type(config)()
        made.CopyFrom(config)
        at = made
        for name in path[:-1]:
            at = getattr(at, name)
        if value is None:
            at.ClearField(path[-1])
        elif path[-1] == "targets":
            at.targets[:] = [value] * 2
        else:
            setattr(at, path[-1], value)
        yield f"{'.'.join(path)} = {value}", made


def test_create_session__each_field_at_its_extremes__made_or_refused(binary, folder):
    from seam.v1 import service_pb2 as service, types_pb2 as types
    counts = {True: 0, False: 0}
    with Seamd(binary, folder / "model", "--allow-text", "--allow-labels") as server, \
            grpc.insecure_channel(server.address) as channel:
        client = Client(channel)
        for base in configs(types):
            for name, config in changed(base):
                try:
                    made = client.unary("CreateSession", service.CreateSessionRequest(
                        config=config), service.CreateSessionResponse)
                except grpc.RpcError as error:
                    assert error.code() in REFUSALS, (name, error, config, server.log[-2000:])
                    counts[False] += 1
                    continue
                client.unary("DeleteSession", service.DeleteSessionRequest(
                    session_id=made.session.id, session_secret=made.session_secret),
                    service.DeleteSessionResponse)
                counts[True] += 1

        def is_free():
            info = client.unary("GetServerInfo", service.GetServerInfoRequest(),
                                service.GetServerInfoResponse)
            return info.session_count == 0 and info.memory_bytes_free == info.memory_bytes_total

        wait_for(is_free, what="free memory")
        assert min(counts.values()) > 100, counts


if __name__ == "__main__":
    sys.exit(run_cases(globals()))
