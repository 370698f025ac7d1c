"""Hostile and broken external data. What lies outside of the model's folder is in ``../secret.bin`` (the oracle puts it there)."""

from __future__ import annotations

from onnx import TensorProto

from tests.damage.draft import EITHER, KEPT, REFUSED, Draft, damage

ON = "external"


def entry(tensor: TensorProto, key: str, value: str) -> None:
    kept = [e for e in tensor.external_data if e.key != key]
    del tensor.external_data[:]
    tensor.external_data.extend(kept)
    tensor.external_data.add(key=key, value=value)


def outside(d: Draft) -> TensorProto:
    """A tensor whose data lie in another file."""
    return d.one(t for t in d.graph.initializer if t.external_data)


def locate(d: Draft, location: str) -> None:
    entry(outside(d), "location", location)


@damage(REFUSED, on=ON, count=2)
def external_data_above(d: Draft) -> None:
    locate(d, "../secret.bin")


@damage(REFUSED, on=ON, count=2)
def external_data_above_by_a_detour(d: Draft) -> None:
    locate(d, "./inner/../../secret.bin")


@damage(REFUSED, on=ON, count=2)
def external_data_at_an_absolute_path(d: Draft) -> None:
    locate(d, "/etc/passwd")


@damage(REFUSED, on=ON, count=1)
def external_data_in_a_device(d: Draft) -> None:
    locate(d, "/dev/zero")


@damage(REFUSED, on=ON, count=2)
def external_data_behind_a_link(d: Draft) -> None:
    d.links["link.bin"] = "../secret.bin"
    locate(d, "link.bin")


@damage(REFUSED, on=ON, count=2)
def external_data_behind_a_linked_folder(d: Draft) -> None:
    d.links["folder"] = ".."
    locate(d, "folder/secret.bin")


@damage(REFUSED, on=ON, count=2)
def external_data_behind_a_hard_link(d: Draft) -> None:
    d.hard["hard.bin"] = "../secret.bin"
    locate(d, "hard.bin")


@damage(REFUSED, on=ON, count=1)
def external_data_behind_a_link_in_a_circle(d: Draft) -> None:
    d.links["circle.bin"] = "circle.bin"
    locate(d, "circle.bin")


@damage(REFUSED, on=ON, count=1)
def external_data_by_url(d: Draft) -> None:
    locate(d, "file:///etc/passwd")


@damage(REFUSED, on=ON, count=1)
def external_data_with_a_windows_path(d: Draft) -> None:
    locate(d, "..\\secret.bin")


@damage(REFUSED, on=ON, count=1)
def external_data_with_a_zero_byte(d: Draft) -> None:
    locate(d, "w.bin\0../secret.bin")


@damage(REFUSED, on=ON, count=1)
def external_data_in_a_folder(d: Draft) -> None:
    d.files["inner/w.bin"] = b"1234"
    locate(d, "inner")


@damage(REFUSED, on=ON, count=1)
def external_data_with_an_endless_name(d: Draft) -> None:
    locate(d, "w" * 10_000)


@damage(REFUSED, on=ON, count=1)
def external_data_without_a_location(d: Draft) -> None:
    tensor = outside(d)
    kept = [e for e in tensor.external_data if e.key != "location"]
    del tensor.external_data[:]
    tensor.external_data.extend(kept)


@damage(REFUSED, on=ON, count=1)
def external_data_without_anything(d: Draft) -> None:
    del outside(d).external_data[:]


@damage(REFUSED, on=ON, count=2)
def external_data_missing(d: Draft) -> None:
    d.files.clear()


@damage(REFUSED, on=ON, count=2)
def external_data_too_short(d: Draft) -> None:
    d.files["w.bin"] = d.files["w.bin"][:100]


@damage(REFUSED, on=ON, count=1)
def external_data_empty(d: Draft) -> None:
    d.files["w.bin"] = b""


@damage(REFUSED, on=ON, count=2)
def external_offset_behind_the_end(d: Draft) -> None:
    entry(outside(d), "offset", str(10**9))


@damage(REFUSED, on=ON, count=2)
def external_offset_negative(d: Draft) -> None:
    entry(outside(d), "offset", "-8")


@damage(REFUSED, on=ON, count=2)
def external_offset_that_is_no_number(d: Draft) -> None:
    entry(outside(d), "offset", d.rng.choice(["many", "", "1e3", "0x10", "１２"]))


@damage(REFUSED, on=ON, count=1)
def external_offset_that_overflows(d: Draft) -> None:
    entry(outside(d), "offset", str(2**64 - 4))


@damage(REFUSED, on=ON, count=2)
def external_length_too_small(d: Draft) -> None:
    entry(outside(d), "length", "4")


@damage(REFUSED, on=ON, count=1)
def external_length_negative(d: Draft) -> None:
    entry(outside(d), "length", "-4")


@damage(REFUSED, on=ON, count=1)
def external_length_of_terabytes(d: Draft) -> None:
    entry(outside(d), "length", str(2**45))


@damage(EITHER, on=ON, count=2)
def external_data_shared_by_two_tensors(d: Draft) -> None:
    for tensor in d.graph.initializer:
        if tensor.external_data:
            entry(tensor, "offset", "0")


@damage(EITHER, on=ON, count=1)
def external_data_and_raw_data(d: Draft) -> None:
    outside(d).raw_data = b"1234"


@damage(EITHER, on=ON, count=1)
def external_checksum_that_is_wrong(d: Draft) -> None:
    entry(outside(d), "checksum", "0" * 40)


@damage(EITHER, on=ON, count=1)
def external_data_in_the_model_itself(d: Draft) -> None:
    locate(d, "m.onnx")


@damage(EITHER, on="conv classifier attention", count=2)
def external_data_in_a_constant_node(d: Draft) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    d.add("Constant", [], ["leak"], first=True, value=tensor)
    d.returns("leak")


@damage(REFUSED, on="branches", count=2)
def external_data_in_a_subgraph(d: Draft) -> None:
    tensor = TensorProto(name="leak", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    graph = d.node("If").attribute[0].g
    graph.initializer.append(tensor)
    graph.node[0].input[0] = "leak"


@damage(KEPT, on=ON, count=2)
def external_data_with_holes(d: Draft) -> None:
    """Unused bytes in front of, between and behind the weights, and in another order."""
    raw, data = d.files["w.bin"], bytearray(b"\xee" * 64)
    for tensor in [t for t in d.graph.initializer if t.external_data][::-1]:
        info = {e.key: e.value for e in tensor.external_data}
        start, length = int(info["offset"]), int(info["length"])
        entry(tensor, "offset", str(len(data)))
        data += raw[start : start + length] + b"\xee" * 32
    d.files["w.bin"] = bytes(data)


@damage(KEPT, on=ON, count=1)
def external_data_in_a_folder_below(d: Draft) -> None:
    d.files = {"inner/w.bin": d.files["w.bin"]}
    for tensor in d.graph.initializer:
        if tensor.external_data:
            entry(tensor, "location", "inner/w.bin")


@damage(KEPT, on=ON, count=1)
def external_data_without_offset_and_length(d: Draft) -> None:
    raw = d.files.pop("w.bin")
    for index, tensor in enumerate(t for t in d.graph.initializer if t.external_data):
        info = {e.key: e.value for e in tensor.external_data}
        start, length = int(info["offset"]), int(info["length"])
        d.files[f"w{index}.bin"] = raw[start : start + length]
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=f"w{index}.bin")
