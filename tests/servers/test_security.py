"""The description of certificates, and that nobody takes it for encryption. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster, Nanny, Scheduler, Security, SpecCluster, Worker, config


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    folder = tmp_path_factory.mktemp("certificates")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=test", "-days", "1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return {"cert": str(cert), "key": str(key)}


def of(files: dict[str, str], **more: Any) -> Security:
    return Security(
        tls_ca_file=files["cert"], tls_scheduler_cert=files["cert"], tls_scheduler_key=files["key"], **more
    )


def test_nothing_is_asked_for_by_default_and_anything_given_asks_for_encryption() -> None:
    assert not Security().require_encryption
    assert Security(tls_ca_file="ca.pem").require_encryption
    assert not Security(tls_ca_file="ca.pem", require_encryption=False).require_encryption
    with config.set({"comm.require-encryption": True}):
        assert Security().require_encryption


def test_unknown_parameters_and_versions_are_refused() -> None:
    with pytest.raises(TypeError, match="tls_nonsense"):
        Security(tls_nonsense=1)
    with pytest.raises(ValueError, match="tls_min_version"):
        Security(tls_min_version=ssl.TLSVersion.TLSv1_1)
    with pytest.raises(ValueError, match="unknown role"):
        Security().get_tls_config_for_role("king")


def test_contexts_are_made_of_files_and_of_text(files: dict[str, str]) -> None:
    text = {name: Path(path).read_text() for name, path in files.items()}
    for source in (files, text):
        security = of(source, tls_max_version=ssl.TLSVersion.TLSv1_2, tls_ciphers="ECDHE+AESGCM")
        context = security.get_listen_args("scheduler")["ssl_context"]
        assert context.verify_mode == ssl.CERT_REQUIRED and not context.check_hostname
        assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2,) * 2
    assert security.get_connection_args("client") == {
        "ssl_context": None,
        "require_encryption": True,
        "extra_conn_args": {},
    }


def test_what_is_shown_holds_no_secret(files: dict[str, str]) -> None:
    text = {name: Path(path).read_text() for name, path in files.items()}
    for shown in (repr(of(text)), of(text)._repr_html_()):
        assert "PRIVATE KEY" not in shown and "Temporary (In-memory)" in shown
    assert f"Local ({files['key']})" in repr(of(files))


def test_temporary_certificates_need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install cryptography"):
            Security.temporary()
        return
    security = Security.temporary()
    assert security.require_encryption
    assert all(security.get_connection_args(role)["ssl_context"] for role in ("client", "scheduler", "worker"))


@pytest.mark.parametrize("security", [True, {"tls_ca_file": "ca.pem"}, Security(require_encryption=True)])
def test_whoever_is_asked_to_encrypt_refuses(security: Any) -> None:
    asked = {
        "Client": lambda: Client("tcp://127.0.0.1:1", security=security),
        "LocalCluster": lambda: LocalCluster(n_workers=0, security=security),
        "SpecCluster": lambda: SpecCluster(security=security),
        "Scheduler": lambda: Scheduler(security=security),
        "Worker": lambda: Worker("tcp://127.0.0.1:1", security=security),
        "Nanny": lambda: Nanny("tcp://127.0.0.1:1", security=security),
    }
    for name, make in asked.items():
        with pytest.raises(NotImplementedError, match=rf"{name}\(security=.*not encrypted"):
            make()


def test_what_asks_for_nothing_is_taken() -> None:
    async def main() -> None:
        for security in (None, False, Security(), {}):
            async with (
                Scheduler(protocol="inproc", security=security) as s,
                Worker(s.address, nthreads=1, security=security),
                Client(s.address, asynchronous=True, security=security) as c,
            ):
                assert await c.submit(abs, -1) == 1
        with pytest.raises(TypeError, match="security must be"):
            Scheduler(security="yes")

    asyncio.run(main())
