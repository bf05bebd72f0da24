"""Content security of pages that are one file: inline scripts and styles, allowed by their hashes."""

from base64 import b64encode
from hashlib import sha256


def hashes(*texts: str) -> str:
    """Return inline scripts or styles as sources of a Content-Security-Policy."""
    digests = (b64encode(sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
