"""What output videos say of themselves: the sentence in the metadata, and signed content credentials."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import pytest

from factories.clips import pictures
from factories.streams import make_stream
from mien.apps.cli.common import write_frames
from mien.apps.provenance import SIGNABLE, load_signer
from mien.apps.verification import Credentials, verify
from mien.errors import InputError
from mien.format.stream import Stream
from mien.media.video import read_video


@pytest.fixture(scope="module")
def stream() -> Stream:
    return dataclasses.replace(make_stream(5), fps=Fraction(25))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for signing documents, and its key, from an authority that nobody knows."""
    pytest.importorskip("c2pa", reason="needs the extra `provenance`")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mien's tests"),
                          x509.NameAttribute(NameOID.COMMON_NAME, text)])  # fmt: skip

    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def issued(subject: str, public: ec.EllipticCurvePublicKey, is_authority: bool) -> x509.Certificate:
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                               "encipher_only", "decipher_only"), False)  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(subject)).issuer_name(named("authority")).public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority,
                                         crl_sign=is_authority, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )  # fmt: skip
        if not is_authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        return builder.sign(authority, hashes.SHA256())

    chain = [issued("signer", own.public_key(), False), issued("authority", authority.public_key(), True)]
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / "key.pem").write_bytes(own.private_bytes(*pem, serialization.NoEncryption()))
    (folder / "other.pem").write_bytes(authority.private_bytes(*pem, serialization.NoEncryption()))
    (folder / "locked.pem").write_bytes(own.private_bytes(*pem, serialization.BestAvailableEncryption(b"secret")))
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_video_says_that_it_is_synthetic_and_from_which_stream(
    tmp_path: Path, stream: Stream, suffix: str
) -> None:
    stream.save(tmp_path / "a.mien")
    video = tmp_path / f"a{suffix}"
    write_frames(stream, video, pictures(5), driver=make_stream(6))
    with av.open(str(video)) as container:
        said = {name.lower(): text for name, text in container.metadata.items()}["comment"]
    assert said.startswith("Synthetic: rendered by mien") and "not a recording" in said
    assert hashlib.sha256((tmp_path / "a.mien").read_bytes()).hexdigest() in said
    assert hashlib.sha256(make_stream(6).to_bytes()).hexdigest() in said


@pytest.mark.parametrize("suffix", SIGNABLE)
def test_content_credentials_are_signed_and_tell_tampering(
    tmp_path: Path, stream: Stream, certificate: tuple[Path, Path], suffix: str
) -> None:
    import c2pa

    video = tmp_path / f"signed{suffix}"
    signer = load_signer(*certificate, video)
    write_frames(stream, video, pictures(5), left=iter(pictures(5)), signer=signer, recorded=True)
    assert os.listdir(tmp_path) == [video.name] and read_video(video).frame_count == 5
    with c2pa.Reader(video) as reader:
        store = json.loads(reader.json())
    active = store["manifests"][store["active_manifest"]]
    facts = {a["label"]: a["data"] for a in active["assertions"]}
    action = facts["c2pa.actions.v2"]["actions"][0]
    assert action["action"] == "c2pa.created" and action["digitalSourceType"].endswith(
        "/compositeWithTrainedAlgorithmicMedia"
    )
    assert facts["mien.stream"]["sha256"] == hashlib.sha256(stream.to_bytes()).hexdigest()
    assert active["signature_info"]["issuer"] == "mien's tests"
    read = verify(video)
    assert read.c2pa == Credentials("Valid", "mien's tests", synthetic=True) and read.synthetic and read.c2pa_read
    # The authority is unknown, as it should be for a made-up one; nothing else is wrong.
    assert {status["code"] for status in store.get("validation_status", [])} <= {"signingCredential.untrusted"}

    data = bytearray(video.read_bytes())
    data[data.rindex(b"mdat") + 40] ^= 1
    video.write_bytes(data)
    with c2pa.Reader(video) as reader:
        codes = {status["code"] for status in json.loads(reader.json())["validation_status"]}
    assert any("mismatch" in code for code in codes), codes
    tampered = verify(video).c2pa
    assert tampered is not None and tampered.state == "Invalid"


def test_bad_credentials_are_a_sentence(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    video = tmp_path / "a.mp4"
    (tmp_path / "text.pem").write_text("not a certificate")
    assert load_signer(None, None, video) is None
    for given, says in (
        ((cert, None, video), "both"),
        ((cert, key, tmp_path / "a.mkv"), "not into"),
        ((tmp_path / "no.pem", key, video), "cannot be read"),
        ((tmp_path / "text.pem", key, video), "not a certificate"),
        ((cert, tmp_path / "text.pem", video), "not a private key"),
        ((cert, key.with_name("locked.pem"), video), "encrypted"),
        ((cert, key.with_name("other.pem"), video), "does not belong"),
    ):
        with pytest.raises(InputError, match=says):
            load_signer(*given)


def test_a_signing_that_fails_leaves_nothing(tmp_path: Path, stream: Stream, certificate: tuple[Path, Path]) -> None:
    from mien.errors import MienError

    video = tmp_path / "a.mp4"
    signer = dataclasses.replace(load_signer(*certificate, video), key=b"no key")
    with pytest.raises(MienError, match="could not be signed: ") as caught:
        write_frames(stream, video, pictures(5), signer=signer)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []
