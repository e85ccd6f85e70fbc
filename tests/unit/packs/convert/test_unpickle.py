"""Checkpoints of others are read without being run: good ones of every kind load, bad ones are refused, none acts."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mien.errors import PackError
from mien.packs.convert.pickle_names import LazyTensor, Record
from mien.packs.convert.torchfile import load_checkpoint, tensors

MAGIC = 0x1950A86A20F9469CFC6C


class Reduced:
    """Pickles as whatever `__reduce__` is told: how an attacker writes a call into a file."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.parts = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def call(module: str, name: str, *arguments: str) -> bytes:
    """A protocol-2 pickle that calls `module.name` with texts."""
    texts = b"".join(b"X" + struct.pack("<I", len(a)) + a.encode() for a in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + texts + b"tR."


def counted(content: bytes) -> bytes:
    """Bytes as a pickle holds them after BINBYTES: their number first."""
    return struct.pack("<I", len(content)) + content


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return collections.OrderedDict(
        weight=torch.randn(4, 3, 2, generator=generator),
        half=torch.randn(5, generator=generator).half(),
        turned=torch.randn(4, 6, generator=generator).t(),
        part=torch.arange(20)[5:9],
        number=torch.tensor(3),
        empty=torch.zeros(0, 3),
        truth=torch.tensor([True, False]),
    )


def assert_same(read: Any, expected: dict[str, torch.Tensor]) -> None:
    assert list(read) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(read[name].load(), tensor), name


# --- What must load ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_load(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save(
        {
            "state": state(),
            "opts": argparse.Namespace(lr=0.1, name="x"),
            "step": 3,
            "list": [1, (2.5, None), {"a": True}],
        },
        path,
        _use_new_zipfile_serialization=zipped,
    )
    read = load_checkpoint(path)
    assert_same(read["state"], state())
    assert read["opts"].kind == "Namespace" and read["opts"].state == {"lr": 0.1, "name": "x"}
    assert read["step"] == 3 and read["list"] == [1, (2.5, None), {"a": True}]


def test_parameters_load(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"weight": torch.nn.Parameter(torch.ones(2, 3))}, path)
    assert torch.equal(load_checkpoint(path)["weight"].load(), torch.ones(2, 3))


def test_shared_storage_loads(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": whole, "row": whole[1]}, path)
    read = load_checkpoint(path)
    assert read["whole"].storage is read["row"].storage
    assert torch.equal(read["row"].load(), whole[1])


def old_tar(path: Path) -> torch.Tensor:
    """A file as torch wrote it before 0.1.10: storages, tensors and a pickle in a tar."""
    values = torch.arange(6.0).reshape(2, 3)

    def dump(value: Any) -> bytes:
        return pickle.dumps(value, 2)

    storage_type = b"ctorch\nFloatStorage\n"
    storages = dump(1) + b"\x80\x02(K\x01X\x03\x00\x00\x00cpu" + storage_type + b"t."
    storages += struct.pack("<q", 6) + values.numpy().tobytes() + dump([])
    tensor = dump(1) + b"\x80\x02(K\x07K\x01" + b"ctorch\nFloatTensor\nt."
    tensor += struct.pack("<ii", 2, 0) + struct.pack("<qq", 2, 3) + struct.pack("<qq", 3, 1) + struct.pack("<q", 0)
    body = b"\x80\x02}X\x06\x00\x00\x00weightX\x01\x00\x00\x007Qs."
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("sys_info", dump({})), ("pickle", body), ("tensors", tensor), ("storages", storages)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return values


def test_oldest_torch_files_load(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    values = old_tar(path)
    assert torch.equal(torch.load(path, weights_only=False)["weight"], values)  # the fixture is what torch means
    assert torch.equal(load_checkpoint(path)["weight"].load(), values)


def nvidia_like(state: dict[str, Any], source: str = "raise SystemExit") -> Reduced:
    """A module as NVIDIA's persistence pickles it, with source code that must not run."""
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Generator", "state": state}
    return Reduced(FakePersistence, meta)


class FakePersistence:
    """Stands for torch_utils.persistence._reconstruct_persistent_obj, by name only."""

    def __init__(self, *_: Any) -> None:
        raise AssertionError("must never be called")


def nvidia_pickle(value: Any, protocol: int = 3) -> bytes:
    FakePersistence.__module__ = "torch_utils.persistence"
    FakePersistence.__qualname__ = FakePersistence.__name__ = "_reconstruct_persistent_obj"
    module = type(os)("torch_utils.persistence")
    module._reconstruct_persistent_obj = FakePersistence  # type: ignore[attr-defined]
    import sys

    sys.modules["torch_utils"], sys.modules["torch_utils.persistence"] = type(os)("torch_utils"), module
    try:
        return pickle.dumps(value, protocol)
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]


def test_nvidia_modules_load_and_their_source_does_not_run(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    weight, buffer = torch.randn(300, 2), torch.ones(2)
    child = nvidia_like({"_parameters": {"weight": torch.nn.Parameter(weight)}, "_buffers": {}, "_modules": {}})
    parent = nvidia_like(
        {
            "_parameters": collections.OrderedDict(bias=None),
            "_buffers": {"filter": buffer},
            "_modules": collections.OrderedDict(b4=child),
            "gain": np.float64(0.25),
            "_non_persistent_buffers_set": set(),
        },
        f"open({str(flag)!r}, 'w')",
    )
    path = tmp_path / "net.pkl"
    path.write_bytes(nvidia_pickle({"G_ema": parent, "D": None}))
    network = load_checkpoint(path)["G_ema"]
    assert isinstance(network, Record) and network.kind == "Generator"
    read = tensors(network)
    assert sorted(read) == ["b4.weight", "filter"]
    assert torch.equal(read["b4.weight"].load(), weight) and torch.equal(read["filter"].load(), buffer)
    assert network.state["gain"] == 0.25
    assert not flag.exists()


def test_large_arrays_of_an_old_protocol_load(tmp_path: Path) -> None:
    """Their bytes are a text that is encoded first, so that they are given to two calls."""
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(np.full(5000, 0.5), 2))
    assert load_checkpoint(path).value.sum() == 2500


def test_numpy_arrays_load(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": np.arange(6.0).reshape(2, 3), "n": np.int32(7)}, 3))
    read = load_checkpoint(path)
    assert np.array_equal(read["a"].value, np.arange(6.0).reshape(2, 3)) and read["n"] == 7


# --- What must be refused ----------------------------------------------------------------------------------------


def zip_of(body: bytes, root: str = "archive", storages: dict[str, bytes] | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        archive.writestr(f"{root}/data.pkl", body)
        archive.writestr(f"{root}/byteorder", "little")
        for name, data in (storages or {}).items():
            archive.writestr(f"{root}/data/{name}", data)
    return buffer.getvalue()


def legacy_of(body: bytes) -> bytes:
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps(info, 2) + body + pickle.dumps([], 2)


def tensor_pickle(numel: int, offset: int, size: int, stride: int, kind: str = "FloatStorage") -> bytes:
    """A zip checkpoint's pickle with one tensor whose numbers may lie."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("
        + b"X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + pickle.dumps(numel, 2)[2:-1] + b"tQ"
        + pickle.dumps(offset, 2)[2:-1]
        + b"(" + pickle.dumps(size, 2)[2:-1] + b"t(" + pickle.dumps(stride, 2)[2:-1] + b"t\x89}tR."
    )  # fmt: skip


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def malicious(flag: Path) -> dict[str, bytes]:
    """Files that try to act: each would create `flag` (or worse) if `pickle.load` read it."""
    touch = f"touch {flag}"
    python = f"open({str(flag)!r}, 'w').close()"
    return {
        "os.system": pickle.dumps(Reduced(os.system, touch), 2),
        "os.system, protocol 0": pickle.dumps(Reduced(os.system, touch), 0),
        "os.system, protocol 4": pickle.dumps(Reduced(os.system, touch), 4),
        "builtins.exec": pickle.dumps(Reduced(exec, python), 2),
        "builtins.eval": pickle.dumps({"a": [1, Reduced(eval, python)]}, 2),
        "__builtin__.eval": call("__builtin__", "eval", python),
        "builtins.open": call("builtins", "open", str(flag), "w"),
        "builtins.getattr": call("builtins", "getattr", "x", "y"),
        "builtins.__import__": call("builtins", "__import__", "os"),
        "subprocess.Popen": call("subprocess", "Popen", touch),
        "pathlib method": call("pathlib", "Path.touch", str(flag)),
        "a dotted name behind a known class": call("torch.nn.modules.conv", "os.system", touch),
        "torch.load": call("torch", "load", str(flag)),
        "torch.hub": call("torch.hub", "load", "a/b"),
        "torch._utils helper": call("torch._utils", "_import_dotted_name", "os.system"),
        "numpy's runner": call("numpy.testing._private.utils", "runstring", python, "{}"),
        "operator.attrgetter": call("operator", "attrgetter", "system"),
        "functools.partial": call("functools", "partial", "x"),
        "codecs decode": call("_codecs", "decode", "x", "zlib"),
        "INST opcode": b"\x80\x02(X\x01\x00\x00\x00aios\nsystem\n.",
        "OBJ opcode": b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00ao.",
        "extension registry": b"\x80\x02\x82\x01.",
        "build on a name": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
        "call of a called thing": b"\x80\x02ccollections\nOrderedDict\n)R)R.",
        "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "in a zip": zip_of(pickle.dumps(Reduced(os.system, touch), 2)),
        "in torch.save's zip": saved({"state_dict": Reduced(os.system, touch)}),
        "in torch.save's legacy file": saved(Reduced(os.system, touch), _use_new_zipfile_serialization=False),
        "in a legacy header": pickle.dumps(MAGIC, 2) + pickle.dumps(Reduced(os.system, touch), 2),
        "in a storage within a pickle": b"\x80\x03ctorch.storage\n_load_from_bytes\nB"
        + counted(legacy_of(pickle.dumps(Reduced(os.system, touch), 2)))
        + b"\x85R.",
        "object array of numpy": pickle.dumps(np.array([Reduced(os.system, touch)], dtype=object), 3),
    }


def broken(good: bytes) -> dict[str, bytes]:
    """Files that are damaged, or that lie about what they hold."""
    deep = b"\x80\x02}" + b"(" * 200_000 + b"t" * 200_000 + b"K\x01s."
    return {
        "empty": b"",
        "text": b"these are not weights",
        "web page": b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>",
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "first half": good[: len(good) // 2],
        "all but one byte": good[:-1],
        "zip without a pickle": zip_of(b"")[:0] + _plain_zip({"readme.txt": b"hello"}),
        "TorchScript": _plain_zip({"m/data.pkl": b"\x80\x02}.", "m/constants.pkl": b"\x80\x02}."}),
        "compressed": zip_of(b"\x80\x02}." * 50, compression=zipfile.ZIP_DEFLATED),
        "compressed byte order": _plain_zip({"m/data.pkl": b"\x80\x02}."}, {"m/byteorder": b"little"}),
        "a list copied again and again": b"\x80\x02("
        + b"c__builtin__\nlist\nq\x00"
        + b"(]q\x01("
        + b"N" * 200
        + b"eh\x01"
        + b"h\x00h\x01\x85R" * 200
        + b"ll.",
        "bytes copied again and again": b"\x80\x02("
        + b"c_codecs\nencode\nq\x00"
        + b"X"
        + counted(b"a" * 2000)
        + b"q\x01"
        + b"h\x00h\x01\x85R" * 200
        + b"l.",
        "big-endian": _plain_zip({"m/data.pkl": b"\x80\x02}.", "m/byteorder": b"big"}),
        "storage missing": zip_of(tensor_pickle(4, 0, 4, 1)),
        "storage too short": zip_of(tensor_pickle(4, 0, 4, 1), storages={"0": b"\0" * 12}),
        "tensor beyond its storage": zip_of(tensor_pickle(4, 0, 5, 1), storages={"0": b"\0" * 16}),
        "offset beyond its storage": zip_of(tensor_pickle(4, 2, 4, 1), storages={"0": b"\0" * 16}),
        "stride beyond its storage": zip_of(tensor_pickle(4, 0, 2, 9), storages={"0": b"\0" * 16}),
        "negative size": zip_of(tensor_pickle(4, 0, -4, 1), storages={"0": b"\0" * 16}),
        "negative stride": zip_of(tensor_pickle(4, 3, 4, -1), storages={"0": b"\0" * 16}),
        "negative storage": zip_of(tensor_pickle(-4, 0, 0, 1), storages={"0": b""}),
        "storage of no known type": zip_of(tensor_pickle(4, 0, 4, 1, "OddStorage"), storages={"0": b"\0" * 16}),
        "legacy without storages": legacy_of(tensor_pickle(4, 0, 4, 1)),
        "a key that nests without end": deep,
        "mark missing": b"\x80\x02t.",
        "stack empty": b"\x80\x02.",
        "values left over": b"\x80\x02K\x01K\x02.",
        "memo missing": b"\x80\x02h\x05.",
        "no end": b"\x80\x02}",
        "a length of 2 GiB": b"\x80\x03B\xff\xff\xff\x7fabc",
        "a length of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        "protocol 9": b"\x80\x09}.",
        "items of a list": b"\x80\x02]K\x01K\x02s.",
        "append to a mapping": b"\x80\x02}K\x01a.",
    }


def _plain_zip(entries: dict[str, bytes], compressed: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        for name, data in (compressed or {}).items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def refuse(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(PackError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith(".") and "\n" not in message
    return message


@pytest.mark.parametrize("name", malicious(Path("flag")))
def test_malicious_files_are_refused_and_have_no_effect(tmp_path: Path, name: str) -> None:
    flag = tmp_path / "flag"
    refuse(tmp_path / "evil.pt", malicious(flag)[name])
    assert not flag.exists()


@pytest.mark.parametrize("name", broken(saved(state())))
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "broken.pt", broken(saved(state()))[name])


def test_the_samples_are_dangerous(tmp_path: Path) -> None:
    """The test above means something: Python's own unpickler runs such a file."""
    flag = tmp_path / "flag"
    pickle.loads(malicious(flag)["os.system"])
    assert flag.exists()


def test_terabytes_from_sixteen_bytes_are_refused(tmp_path: Path) -> None:
    data = zip_of(tensor_pickle(4, 0, 2**40, 0), storages={"0": b"\0" * 16})
    assert "larger than its storage" in refuse(tmp_path / "a.pt", data)


def test_empty_tensors_are_none_of_a_network(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(saved({"weight": torch.ones(2), "empty": torch.zeros(10**9, 0)}))
    assert set(tensors(load_checkpoint(path))) == {"weight"}


def test_a_tensorflow_pickle_is_told_apart(tmp_path: Path) -> None:
    assert "TensorFlow" in refuse(tmp_path / "tf.pkl", call("dnnlib.tflib.network", "Network"))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.pt")


def test_damage_anywhere_never_escapes_as_another_error(tmp_path: Path) -> None:
    """Every byte of small files turned over: the file loads, perhaps to other numbers, or is refused."""
    path = tmp_path / "a.pt"
    for zipped in (True, False):
        good = saved({"w": torch.ones(3), "n": 1}, _use_new_zipfile_serialization=zipped)
        for position in range(0, len(good), 1 if len(good) < 600 else 3):
            path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
            try:
                tree = load_checkpoint(path)
            except PackError:
                continue
            for value in tree.values() if isinstance(tree, dict) else ():
                if isinstance(value, LazyTensor):
                    value.load()
