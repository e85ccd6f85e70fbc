"""What an output video says of itself: that it is synthetic and from which stream, and content credentials.

The sentence in the metadata is always there. It is for honest hands: anyone can take it out. With a certificate of the
user's (the extra `provenance`), an .mp4, .mov or .m4v also gets signed C2PA content credentials, which cannot be
changed unseen, and can be taken out whole. docs/responsible-use.md says more.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien._version import __version__
from mien.errors import InputError, MienError
from mien.format.stream import Stream
from mien.media.video import SYNTHETIC
from mien.runtime.files import atomic_path

CERTIFICATE_VARIABLE, KEY_VARIABLE = "MIEN_C2PA_CERT", "MIEN_C2PA_KEY"
SIGNABLE = {".mp4": "video/mp4", ".mov": "video/quicktime", ".m4v": "video/mp4"}
# IPTC's digital source types: all of it made by a trained model, or put together with a recording.
_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_COMPOSED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True)
class Origin:
    """Where a video comes from: the `stream` that is rendered, whose motion it is if another's (`driver`), and whether
    parts of a recording are seen in it too (`composed`: pasted into a clip, or beside it)."""

    stream: Stream
    driver: Stream | None = None
    composed: bool = False

    def sentence(self) -> str:
        """Say it for the metadata: "Synthetic: ... Stream <SHA-256 of the .mien file>."."""
        driven = f", driven by {file_hash(self.driver)}" if self.driver is not None else ""
        return f"{SYNTHETIC} Stream {file_hash(self.stream)}{driven}."


def file_hash(stream: Stream) -> str:
    """Return the SHA-256 of the stream's .mien file, 64 hexadecimal digits, as `sha256sum` prints it."""
    return hashlib.sha256(stream.to_bytes()).hexdigest()


@dataclass(frozen=True)
class Signer:
    """The user's certificate chain and private key as PEM, and the algorithm that the key is for."""

    certificates: bytes
    key: bytes
    algorithm: str


def named_by_environment(certificate: Path | None, key: Path | None) -> bool:
    """Whether the environment names both files: then they are for outputs that can be signed, and not asked for."""
    return all(
        path is None or str(path) == os.environ.get(name)
        for path, name in ((certificate, CERTIFICATE_VARIABLE), (key, KEY_VARIABLE))
    )


def load_signer(certificate: Path | None, key: Path | None, output: Path) -> Signer | None:
    """Load the signer of `output`; None where neither file is given.

    Args:
        certificate: a path; PEM, the signer's certificate first, then those that vouch for it.
        key: PEM, not encrypted: EC (P-256, P-384, P-521), Ed25519 or RSA.

    Raises:
        InputError: only one is given, a file cannot be used, they do not belong together, the output's kind cannot be
            signed, or the extra `provenance` is not installed.
    """
    if certificate is None and key is None:
        return None
    if output.suffix.lower() not in SIGNABLE and named_by_environment(certificate, key):
        return None
    if certificate is None or key is None:
        raise InputError("content credentials need both a certificate and its key (--c2pa-cert and --c2pa-key).")
    if output.suffix.lower() not in SIGNABLE:
        raise InputError(f"content credentials can be put into {', '.join(SIGNABLE)}, not into {output}.")
    try:
        import c2pa  # noqa: F401
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise InputError("content credentials need the extra: pip install 'mien[provenance]'.") from error
    chain, secret = _read(certificate), _read(key)
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError) as error:
        raise InputError(f"{certificate} is not a certificate in PEM.") from error
    try:
        private = serialization.load_pem_private_key(secret, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{key} is not a private key in PEM, or it is encrypted.") from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if first.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        raise InputError(f"the key {key} does not belong to the certificate {certificate}.")
    return Signer(chain, secret, _algorithm(private, key))


@contextmanager
def signed_output(output: Path, signer: Signer | None, origin: Origin) -> Iterator[Path]:
    """Yield the path to write a video to, which is `output` itself where there is no signer.

    Else it is signed when the block ends well, and appears at `output` whole or not at all. Raises MienError where it
    cannot be signed.
    """
    if signer is None:
        yield output
        return
    with atomic_path(output) as signed:
        plain = signed.with_name(signed.stem + ".plain" + signed.suffix)
        try:
            yield plain
            _sign(plain, signed, output.name, signer, origin)
        finally:
            plain.unlink(missing_ok=True)


def manifest(title: str, kind: str, origin: Origin) -> dict[str, Any]:
    """Make the C2PA manifest: who made the video, that a trained model did, and from which stream and pack."""
    tool = {"name": "mien", "version": __version__}
    facts = {"sha256": file_hash(origin.stream), "pack": origin.stream.pack_name, "pack_sha256": origin.stream.pack}
    if origin.driver is not None:
        facts["driver_sha256"] = file_hash(origin.driver)
    created = {
        "action": "c2pa.created",
        "softwareAgent": tool,
        "digitalSourceType": _COMPOSED if origin.composed else _MADE,
        "description": SYNTHETIC,
    }
    return {
        "claim_generator_info": [tool],
        "title": title,
        "format": kind,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": "mien.stream", "data": facts},
        ],
    }


def _sign(plain: Path, signed: Path, title: str, signer: Signer, origin: Origin) -> None:
    import c2pa

    kind = SIGNABLE[signed.suffix.lower()]
    try:
        # No time stamp authority: nothing is asked of the network.
        info = c2pa.C2paSignerInfo(signer.algorithm, signer.certificates, signer.key, None)
        with (
            c2pa.Signer.from_info(info) as with_key,
            c2pa.Builder(json.dumps(manifest(title, kind, origin))) as builder,
            plain.open("rb") as source,
            signed.open("w+b") as target,
        ):
            builder.sign(with_key, kind, source, target)
    except c2pa.C2paError as error:
        raise MienError(f"{title} could not be signed: {' '.join(str(error).split())}.") from error


def _algorithm(key: Any, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    named: str | None = None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        named = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(key.curve.name)
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        named = "ed25519"
    elif isinstance(key, rsa.RSAPrivateKey):
        named = "ps256"
    if named is None:
        raise InputError(f"the key {path} is of a kind that content credentials do not know.")
    return named


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
