"""What the servers and clients of a cluster need to know about TLS.

The transport does not encrypt yet: `Security` holds and checks the files and builds ssl contexts, and whoever is given
one that asks for encryption refuses it. May import: `fastdist.config`.
"""

from __future__ import annotations

import datetime
import html
import os
import ssl
import tempfile
from collections.abc import Mapping
from typing import Any

from fastdist import config

_VERSIONS = (None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_ROLES = ("client", "scheduler", "worker")
_FIELDS = (
    "tls_ca_file",
    "tls_ciphers",
    "tls_min_version",
    "tls_max_version",
    *(f"tls_{role}_{part}" for role in _ROLES for part in ("key", "cert")),
)


class Security:
    """Certificates and keys of a cluster.

    Parameters
    ----------
    require_encryption : bool, optional
        Whether connections without TLS are refused; by default the setting `comm.require-encryption`, or whether
        anything else was given.
    tls_ca_file : str
        The authority that signed all certificates: a file in PEM format, or such text itself.
    tls_ciphers : str
        Allowed ciphers, as OpenSSL writes them.
    tls_min_version, tls_max_version : ssl.TLSVersion
        TLS 1.2 (the default minimum) or 1.3.
    tls_client_cert, tls_client_key, tls_scheduler_cert, ..., tls_worker_key : str
        Certificate and key for each role: files in PEM format, or such text itself.
    extra_conn_args : dict
        Handed to whoever asks for the connection arguments.

    Raises
    ------
    TypeError
        If a parameter is unknown.
    ValueError
        If a version of TLS is not 1.2 or 1.3.

    Examples
    --------
    >>> Security(tls_ca_file="ca.pem").require_encryption
    True
    """

    def __init__(self, require_encryption: bool | None = None, **kwargs: Any) -> None:
        unknown = set(kwargs) - {*_FIELDS, "extra_conn_args"}
        if unknown:
            raise TypeError(f"Unknown parameters: {sorted(unknown)!r}")
        self.extra_conn_args: dict[str, Any] = dict(kwargs.pop("extra_conn_args", None) or {})
        if require_encryption is None:
            require_encryption = bool(config.get("comm.require-encryption")) or bool(kwargs)
        self.require_encryption = require_encryption
        for name in ("tls_min_version", "tls_max_version"):
            if kwargs.get(name) not in _VERSIONS:
                raise ValueError(f"{name}={kwargs[name]!r} is not supported, expected one of {list(_VERSIONS)}")
        self.tls_ca_file: str | None = kwargs.get("tls_ca_file")
        self.tls_ciphers: str | None = kwargs.get("tls_ciphers")
        self.tls_min_version: Any = kwargs.get("tls_min_version") or ssl.TLSVersion.TLSv1_2
        self.tls_max_version: Any = kwargs.get("tls_max_version")
        self.tls_client_key: str | None = kwargs.get("tls_client_key")
        self.tls_client_cert: str | None = kwargs.get("tls_client_cert")
        self.tls_scheduler_key: str | None = kwargs.get("tls_scheduler_key")
        self.tls_scheduler_cert: str | None = kwargs.get("tls_scheduler_cert")
        self.tls_worker_key: str | None = kwargs.get("tls_worker_key")
        self.tls_worker_cert: str | None = kwargs.get("tls_worker_cert")

    @classmethod
    def temporary(cls, **kwargs: Any) -> Security:
        """Fresh certificates for one cluster, in memory only.

        Raises
        ------
        ImportError
            If the package cryptography is not installed.
        """
        certificate, key = _self_signed()
        parts = {f"tls_{role}_cert": certificate for role in _ROLES}
        parts.update({f"tls_{role}_key": key for role in _ROLES})
        return cls(**{"require_encryption": True, "tls_ca_file": certificate, **parts, **kwargs})

    def get_tls_config_for_role(self, role: str) -> dict[str, Any]:
        """Authority, ciphers, certificate and key of a role: "client", "scheduler" or "worker".

        Raises
        ------
        ValueError
            If there is no such role.
        """
        if role not in _ROLES:
            raise ValueError(f"unknown role {role!r}; the roles are {', '.join(_ROLES)}")
        return {
            "ca_file": self.tls_ca_file,
            "ciphers": self.tls_ciphers,
            "cert": getattr(self, f"tls_{role}_cert"),
            "key": getattr(self, f"tls_{role}_key"),
        }

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """What a role needs to connect: an ssl context (None without certificates), and what was given extra."""
        context = self._context(role, ssl.Purpose.SERVER_AUTH)
        extra = {"require_encryption": self.require_encryption, "extra_conn_args": self.extra_conn_args}
        return {"ssl_context": context, **extra}

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """What a role needs to listen: an ssl context, or None without certificates."""
        context = self._context(role, ssl.Purpose.CLIENT_AUTH)
        return {"ssl_context": context, "require_encryption": self.require_encryption}

    def _context(self, role: str, purpose: ssl.Purpose) -> ssl.SSLContext | None:
        tls = self.get_tls_config_for_role(role)
        authority, certificate, key = tls["ca_file"], tls["cert"], tls["key"]
        if not authority or not certificate:
            return None
        given = {"cadata": authority} if "\n" in authority else {"cafile": authority}
        context = ssl.create_default_context(purpose, **given)
        context.minimum_version = self.tls_min_version
        if self.tls_max_version is not None:
            context.maximum_version = self.tls_max_version
        # Both sides show a certificate of the cluster's own authority; hosts are named by address, not by name.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if tls["ciphers"]:
            context.set_ciphers(tls["ciphers"])
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(
                _as_file(certificate, folder, "cert.pem"), key and _as_file(key, folder, "key.pem")
            )
        return context

    def _described(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"require_encryption": self.require_encryption}
        for name in _FIELDS:
            value = getattr(self, name)
            if isinstance(value, str) and name != "tls_ciphers":
                value = "Temporary (In-memory)" if "\n" in value else f"Local ({os.path.abspath(value)})"
            if value is not None:
                shown[name] = value
        return dict(sorted(shown.items()))

    def __repr__(self) -> str:
        return f"Security({', '.join(f'{name}={value}' for name, value in self._described().items())})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
            for name, value in self._described().items()
        )
        return f"<table><caption>Security</caption>{rows}</table>"


def check_security(security: Any, who: str) -> None:
    """Refuse what asks for encryption, which the transport does not have yet.

    Parameters
    ----------
    security : Security, dict, bool or None
        What a user gave; a dict holds the arguments of Security, True means temporary certificates.
    who : str
        For the error.

    Raises
    ------
    NotImplementedError
        If it asks for TLS.
    TypeError
        If it is something else.
    """
    if security is None or security is False:
        return
    if security is True:
        raise NotImplementedError(f"{who}(security=True) is not built yet: connections are not encrypted")
    if isinstance(security, Mapping):
        security = Security(**security)
    if not isinstance(security, Security):
        raise TypeError(f"security must be a Security, a dict of its arguments, or a bool, not {security!r}")
    if security.require_encryption or security.tls_ca_file:
        raise NotImplementedError(f"{who}(security={security!r}) is not built yet: connections are not encrypted")


def _as_file(text: str, folder: str, name: str) -> str:
    """The path of a file with this text; a text of one line is the path itself."""
    if "\n" not in text:
        return text
    path = os.path.join(folder, name)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def _self_signed() -> tuple[str, str]:
    """A certificate that is its own authority, and its key, as PEM text."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise ImportError(
            "Security.temporary needs the package cryptography; install it with: pip install cryptography"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fastdist-internal")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("fastdist-internal")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
