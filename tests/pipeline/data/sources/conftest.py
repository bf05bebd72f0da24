"""Small data sets in the original file formats, and a local mirror that serves them."""

import functools
import gzip
import hashlib
import http.server
import io
import json
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest


class Mirror:
    """HTTP server of a folder; `requests` lists the requested paths."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, []
        requests = self.requests

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, *_):
                requests.append(self.path)

            def log_message(self, *_):
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, name: str, files: dict[str, bytes], inside: dict[str, bytes] | None = None):
        """Serve the files of a data set with their checksums, and the checksums of files `inside` them."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        table = folder / "checksums.json"
        known = json.loads(table.read_text()) if table.exists() else {}
        for file, content in (files | (inside or {})).items():
            known[file] = {
                "md5": hashlib.md5(content).hexdigest(),
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
            }
        table.write_text(json.dumps(known))


@pytest.fixture(scope="session")
def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per data set and split: uint8 NHWC images and int64 labels, all classes in every split."""
    made = {}
    for name, shape, classes, train in (
        ("cifar10", (32, 32, 3), 10, 100),
        ("cifar100", (32, 32, 3), 100, 200),
        ("mnist", (28, 28, 1), 10, 60),
        ("fashion_mnist", (28, 28, 1), 10, 60),
    ):
        for split, n in (("train", train), ("test", classes)):
            rng = np.random.default_rng(len(name) + n)
            inputs = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
            made[name, split] = inputs, rng.permutation(np.arange(n) % classes)
    return made


def class_names(label: str, classes: int) -> list[str]:
    """Class names in the CIFAR archives of the mirror."""
    return [f"{label}_{number}" for number in range(classes)]


@pytest.fixture
def mirror(tmp_path, images, monkeypatch) -> Mirror:
    """A mirror of all four data sets for both libraries, which `TANDEM_MIRROR` names."""
    (tmp_path / "mirror").mkdir()
    served = Mirror(tmp_path / "mirror")
    for name in ("mnist", "fashion_mnist"):
        served.put(name, idx_files(*images[name, "train"], *images[name, "test"]))
    for name in ("cifar10", "cifar100"):
        served.put(name, *cifar_pickles(name, images))
        served.put(name, cifar_binary(name, images))
    monkeypatch.setenv("TANDEM_MIRROR", served.url)
    yield served
    served.server.shutdown()
    served.server.server_close()


def idx_files(train_inputs, train_targets, test_inputs, test_targets) -> dict[str, bytes]:
    """MNIST's four gzipped files."""

    def idx(array):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        return gzip.compress(header + array.tobytes(), mtime=0)

    return {
        "train-images-idx3-ubyte.gz": idx(train_inputs[..., 0]),
        "train-labels-idx1-ubyte.gz": idx(train_targets.astype(np.uint8)),
        "t10k-images-idx3-ubyte.gz": idx(test_inputs[..., 0]),
        "t10k-labels-idx1-ubyte.gz": idx(test_targets.astype(np.uint8)),
    }


def rows(inputs: np.ndarray) -> np.ndarray:
    """CIFAR's rows of 3072 bytes: all red, then all green, then all blue."""
    return np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)).reshape(len(inputs), -1)


def cifar_pickles(name, images) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """CIFAR's archive for Python: {archive: bytes} and {file inside it: bytes}."""
    (inputs, targets), (test_inputs, test_targets) = images[name, "train"], images[name, "test"]
    if name == "cifar10":
        folder, archive, key = "cifar-10-batches-py", "cifar-10-python.tar.gz", b"labels"
        parts = zip(np.split(inputs, 5), np.split(targets, 5), strict=True)
        inside = {
            f"data_batch_{i}": python2_pickle({b"data": rows(x), key: y.tolist()})
            for i, (x, y) in enumerate(parts, 1)
        }
        test, meta, names = "test_batch", "batches.meta", b"label_names"
    else:
        folder, archive, key = "cifar-100-python", "cifar-100-python.tar.gz", b"fine_labels"
        inside = {"train": python2_pickle({b"data": rows(inputs), key: targets.tolist()})}
        test, meta, names = "test", "meta", b"fine_label_names"
    inside[test] = python2_pickle({b"data": rows(test_inputs), key: test_targets.tolist()})
    inside[meta] = python2_pickle(
        {names: [told.encode() for told in class_names(name, targets.max() + 1)]}
    )
    return {archive: tar_gz(folder, inside)}, inside


def cifar_binary(name, images) -> dict[str, bytes]:
    """CIFAR's binary archive: rows of label bytes (coarse and fine for CIFAR-100) and pixels; names."""

    def binary(inputs, targets):
        labels = targets[:, None] if name == "cifar10" else np.c_[targets // 5, targets]
        return np.c_[labels.astype(np.uint8), rows(inputs)].tobytes()

    train, test = images[name, "train"], images[name, "test"]
    if name == "cifar100":
        inside = {"train.bin": binary(*train), "test.bin": binary(*test)}
        inside["fine_label_names.txt"] = lines(class_names(name, 100))
        inside["coarse_label_names.txt"] = lines(class_names("coarse", 20))
        return {"cifar-100-binary.tar.gz": tar_gz("cifar-100-binary", inside)}
    parts = zip(np.split(train[0], 5), np.split(train[1], 5), strict=True)
    inside = {f"data_batch_{i}.bin": binary(x, y) for i, (x, y) in enumerate(parts, 1)}
    inside["test_batch.bin"] = binary(*test)
    inside["batches.meta.txt"] = lines(class_names(name, 10))
    return {"cifar-10-binary.tar.gz": tar_gz("cifar-10-batches-bin", inside)}


def lines(names: list[str]) -> bytes:
    """Names one per line and an empty line at the end, as in the originals."""
    return "".join(f"{name}\n" for name in [*names, ""]).encode()


def tar_gz(folder: str, files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def python2_pickle(value) -> bytes:
    """A pickle as Python 2 wrote CIFAR's: byte strings as string opcodes, `numpy.core` arrays.

    Python 3 cannot write one; torchvision reads the originals with `encoding="latin1"`, under
    which string opcodes become text, and a pickle made by Python 3 does not look the same.
    """

    def code(value) -> bytes:
        if isinstance(value, bytes):
            return b"T" + struct.pack("<i", len(value)) + value
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, list):
            return b"](" + b"".join(map(code, value)) + b"e"
        if isinstance(value, dict):
            return b"}(" + b"".join(code(k) + code(v) for k, v in value.items()) + b"u"
        dtype = b"cnumpy\ndtype\n" + code(b"u1") + code(0) + code(1) + b"\x87R"
        dtype += b"(" + code(3) + code(b"|") + b"NNN" + code(-1) + code(-1) + code(0) + b"tb"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        empty += code(0) + b"\x85" + code(b"b") + b"\x87R"
        shape = code(value.shape[0]) + code(value.shape[1]) + b"\x86"
        return empty + b"(" + code(1) + shape + dtype + b"\x89" + code(value.tobytes()) + b"tb"

    return b"\x80\x02" + code(value) + b"."
