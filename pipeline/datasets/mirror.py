"""A mirror of the raw files, for institutes that keep their own copies.

`TANDEM_MIRROR=URL` makes `dataset.download=true` fetch `URL/<data set>/<file>`, with the file
names that the library itself uses: `URL/cifar10/cifar-10-python.tar.gz` (torchvision),
`URL/cifar10/cifar-10-binary.tar.gz` (TFDS), `URL/mnist/train-images-idx3-ubyte.gz` (both).

A mirror holds the original files, and the library's own checksums decide whether it does. One
that holds other files of the same format says so in `URL/<data set>/checksums.json`:

    {"train-images-idx3-ubyte.gz": {"md5": "…", "sha256": "…", "size": 9912422}, …}

torchvision asks for the `md5` (of an archive and of each file of a CIFAR archive), TFDS for
`sha256` and `size` (of an archive). A file that is not listed has to be the original. The table is
kept as `<root>/checksums/<data set>.json`, so that the files are still recognised later, without
the mirror. Whoever sets `TANDEM_MIRROR` trusts it: CIFAR's files for torchvision are pickles.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.errors import UserError

VARIABLE = "TANDEM_MIRROR"
SECONDS = 60  # without an answer, then the mirror counts as unreachable

Checksums = dict[str, dict[str, str | int]]


def address(name: str) -> str | None:
    """Where the mirror keeps the files of data set `name`, with a slash at the end; or None."""
    url = os.environ.get(VARIABLE)
    return f"{url.rstrip('/')}/{name}/" if url else None


def fetch_checksums(name: str, root: Path) -> None:
    """Bring the mirror's table of checksums under `root`; without a mirror or a table, nothing.

    Raises:
        UserError: the mirror does not answer, or its table is not one.
    """
    if address(name) is None:
        return
    url = address(name) + "checksums.json"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return  # a mirror of the original files needs no table
        raise unreachable(url, error) from error
    except (OSError, ValueError) as error:  # ValueError: not a URL
        raise unreachable(url, error) from error

    parse(text, url)
    file = checksums_file(name, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".part-{os.getpid()}")
    part.write_text(text)
    part.rename(file)


def checksums(name: str, root: Path) -> Checksums:
    """The table kept under `root`; empty where there is none and the files are the originals.

    Raises:
        UserError: the file is damaged.
    """
    file = checksums_file(name, root)
    return parse(file.read_text(), str(file)) if file.exists() else {}


def checksums_file(name: str, root: Path) -> Path:
    """Where the table of a data set is kept."""
    return root / "checksums" / f"{name}.json"


def parse(text: str, source: str) -> Checksums:
    """A table of checksums from JSON.

    Raises:
        UserError: it is not one.
    """
    try:
        table = json.loads(text)
        if all(isinstance(entry, dict) for entry in table.values()):
            return table
        reason = "an entry is not an object"
    except (ValueError, AttributeError) as error:
        reason = str(error)
    raise UserError(source, reason, 'JSON like {"FILE": {"md5": "…", "sha256": "…", "size": 1234}}')


def unreachable(url: str, error: Exception) -> UserError:
    """The message for a mirror that does not answer."""
    return UserError(VARIABLE, url, "the address of a mirror that answers", f"{error}.")
