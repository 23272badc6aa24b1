"""Makes a certificate authority for tests, and certificates it signed for 127.0.0.1."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KEY_PASSWORD = b"hunter2"


def make_certificates(folder: Path, *, host: str = "127.0.0.1") -> Path:
    """Write `ca.pem`, and `cert.pem`, its `key.pem`, the same `locked.pem`, and `both.pem`."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = (
        _certificate("authority", "authority", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    cert = (
        _certificate("server", "authority", key)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "cert.pem").write_bytes(cert.public_bytes(pem))
    plain, locked = (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)
        for encryption in (
            serialization.NoEncryption(),
            serialization.BestAvailableEncryption(KEY_PASSWORD),
        )
    )
    (folder / "key.pem").write_bytes(plain)
    (folder / "locked.pem").write_bytes(locked)
    (folder / "both.pem").write_bytes(plain + cert.public_bytes(pem) + ca.public_bytes(pem))
    return folder


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )
