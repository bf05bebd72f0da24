"""A mirror of the raw files, for institutes that keep their own copies.

With `TANDEM_MIRROR=URL`, `dataset.download=true` downloads `URL/<data set>/<file>`, under the
library's own file names: `URL/cifar10/cifar-10-python.tar.gz` (torchvision),
`URL/cifar10/cifar-10-binary.tar.gz` (TFDS), `URL/mnist/train-images-idx3-ubyte.gz` (both).

The files must be the originals: the library checks its own checksums. A mirror of other files in
the same format lists their checksums in `URL/<data set>/checksums.json`:

    {"train-images-idx3-ubyte.gz": {"md5": "…", "sha256": "…", "size": 9912422}, …}

torchvision checks `md5` (of an archive and of each file in a CIFAR archive), TFDS `sha256` and
`size` (of an archive). A file that is not listed must be the original. The table is kept as
`<root>/checksums/<data set>.json`, so the files stay valid without the mirror. Set `TANDEM_MIRROR`
to a trusted server only: CIFAR's files for torchvision are pickles.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.atomic_files import write_text
from pipeline.errors import UserError

VARIABLE = "TANDEM_MIRROR"
TIMEOUT = 60  # seconds without data until a connection fails

Checksums = dict[str, dict[str, str | int]]


def mirror_url(name: str) -> str | None:
    """Folder URL of data set `name` on the mirror, with a final slash; None without a mirror."""
    url = os.environ.get(VARIABLE)
    return f"{url.rstrip('/')}/{name}/" if url else None


def fetch_checksums(name: str, root: Path) -> None:
    """Download the mirror's table of checksums to `root`, if there is a mirror and it has one."""
    folder = mirror_url(name)
    if folder is None:
        return
    url = f"{folder}checksums.json"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            text = response.read().decode()
    except (OSError, ValueError) as error:  # ValueError: not a URL
        if isinstance(error, urllib.error.HTTPError) and error.code == 404:
            return  # a mirror of the original files needs no table
        problem = f"the mirror does not answer: {error}"
        raise UserError(VARIABLE, url, problem=problem) from error

    parse_checksums(text, url)
    file = checksums_file(name, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)


def read_checksums(name: str, root: Path) -> Checksums:
    """Read the table kept under `root`; empty if there is none and the files are the originals."""
    file = checksums_file(name, root)
    return parse_checksums(file.read_text(), str(file)) if file.exists() else {}


def checksums_file(name: str, root: Path) -> Path:
    """Path of the table of checksums of a data set."""
    return root / "checksums" / f"{name}.json"


def parse_checksums(text: str, source: str) -> Checksums:
    """Parse a table of checksums; raise a UserError if it is invalid."""
    try:
        table = json.loads(text)
        if all(isinstance(entry, dict) for entry in table.values()):
            return table
        reason = "an entry is not an object"
    except (ValueError, AttributeError) as error:
        reason = str(error)
    raise UserError(source, reason, 'JSON like {"FILE": {"md5": "…", "sha256": "…", "size": 1234}}')
