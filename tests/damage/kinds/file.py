"""Damage to the bytes of the file, whatever they mean; and files that are no models at all."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.damage.draft import EITHER, REFUSED, Draft, damage


def flip(raw: bytes, d: Draft, count: int, start: int = 0, end: int | None = None) -> bytes:
    changed = bytearray(raw)
    for _ in range(count):
        changed[d.rng.randrange(start, end or len(changed))] ^= 1 << d.rng.randrange(8)
    return bytes(changed)


@damage(EITHER, count=24)
def one_flipped_bit(d: Draft) -> None:
    d.raw = flip(d.bytes(), d, 1)


@damage(EITHER, count=16)
def ten_flipped_bits(d: Draft) -> None:
    d.raw = flip(d.bytes(), d, 10)


@damage(EITHER, count=12)
def flipped_bits_in_the_first_bytes(d: Draft) -> None:
    d.raw = flip(d.bytes(), d, 2, 0, 64)


@damage(EITHER, count=10)
def flipped_bits_in_the_last_bytes(d: Draft) -> None:
    raw = d.bytes()
    d.raw = flip(raw, d, 2, len(raw) - 64)


@damage(EITHER, on="fashion")
def many_flipped_bits_in_a_large_file(d: Draft) -> None:
    d.raw = flip(d.bytes(), d, 50)


@damage(EITHER, count=12)
def truncated(d: Draft) -> None:
    """A protobuf message may end after any field: what is left can be a smaller sound model."""
    raw = d.bytes()
    d.raw = raw[: d.rng.randrange(1, len(raw))]


@damage(EITHER, count=4)
def the_last_byte_is_missing(d: Draft) -> None:
    d.raw = d.bytes()[:-1]


@damage(EITHER, count=6)
def a_block_of_zeros(d: Draft) -> None:
    raw = bytearray(d.bytes())
    start = d.rng.randrange(len(raw))
    raw[start : start + 64] = bytes(len(raw[start : start + 64]))
    d.raw = bytes(raw)


@damage(EITHER, count=6)
def a_block_is_missing(d: Draft) -> None:
    raw = d.bytes()
    start = d.rng.randrange(len(raw))
    d.raw = raw[:start] + raw[start + d.rng.randrange(1, 200) :]


@damage(EITHER, count=6)
def a_block_is_there_twice(d: Draft) -> None:
    raw = d.bytes()
    start = d.rng.randrange(len(raw))
    end = start + d.rng.randrange(1, 200)
    d.raw = raw[:end] + raw[start:]


@damage(EITHER)
def the_file_is_there_twice(d: Draft) -> None:
    """Protobuf merges: every node and initializer is there twice."""
    d.raw = d.bytes() + d.bytes()


@damage(EITHER)
def bytes_behind_the_end(d: Draft) -> None:
    d.raw = d.bytes() + bytes(d.rng.randrange(256) for _ in range(100))


@damage(EITHER)
def unknown_fields(d: Draft) -> None:
    """Field 1000 with a string: a newer version of the format might have one, and protobuf skips it."""
    d.raw = d.bytes() + b"\xc2\x3e\x05hello"


@damage(REFUSED, count=1)
def an_empty_file(d: Draft) -> None:
    d.raw = b""


@damage(REFUSED, count=2)
def random_bytes(d: Draft) -> None:
    d.raw = bytes(d.rng.randrange(256) for _ in range(1000))


@damage(REFUSED, count=1)
def zeros(d: Draft) -> None:
    d.raw = bytes(1000)


@damage(REFUSED, count=1)
def a_text_file(d: Draft) -> None:
    d.raw = b"name,score\nfirst,1\nsecond,2\n" * 20


@damage(REFUSED, count=1)
def an_html_page(d: Draft) -> None:
    d.raw = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>\n"


@damage(REFUSED, count=1)
def a_json_file(d: Draft) -> None:
    d.raw = json.dumps({"graph": {"node": []}}).encode()


@damage(REFUSED, count=1)
def a_pickle(d: Draft) -> None:
    d.raw = pickle.dumps({"state_dict": list(range(100))})


@damage(REFUSED, count=1)
def a_zip(d: Draft) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.onnx", d.bytes())
    d.raw = file.getvalue()


@damage(REFUSED, count=1)
def an_npz(d: Draft) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(4))
    d.raw = file.getvalue()


@damage(REFUSED, count=1)
def a_large_file_pointer(d: Draft) -> None:
    d.raw = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234567\n"


@damage(REFUSED, count=1)
def a_tensor(d: Draft) -> None:
    d.raw = numpy_helper.from_array(np.arange(100, dtype=np.float32), "t").SerializeToString()


@damage(REFUSED, count=2)
def only_the_graph(d: Draft) -> None:
    d.raw = d.graph.SerializeToString()


@damage(REFUSED, count=1)
def only_a_node(d: Draft) -> None:
    d.raw = helper.make_node("Relu", ["x"], ["y"]).SerializeToString()


@damage(REFUSED, count=1)
def only_a_value(d: Draft) -> None:
    d.raw = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3]).SerializeToString()


@damage(REFUSED, count=1)
def the_textual_form(d: Draft) -> None:
    d.raw = str(d.proto).encode()[:5000]
