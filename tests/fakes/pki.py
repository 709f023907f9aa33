"""Certificates for tests: a small authority made with the openssl command line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = replaced by -subj
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[plain_ca]
basicConstraints = CA:true
[server]
basicConstraints = critical, CA:false
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, IP:10.0.2.100, DNS:kubernetes
[client]
basicConstraints = critical, CA:false
extendedKeyUsage = clientAuth
"""


@dataclass(frozen=True, slots=True)
class PKI:
    """A folder with an authority, a server pair and a kubelet's client pair."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def server(self) -> tuple[Path, Path]:
        return self.pair("server")

    @property
    def client(self) -> tuple[Path, Path]:
        return self.pair("client")

    def pair(self, name: str) -> tuple[Path, Path]:
        """Where the certificate and the key of this name are."""
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def issue(self, name: str, subject: str, *, section: str = "client", days: int = 3650) -> None:
        """Make a key and a certificate for the subject, signed by this authority."""
        certificate, key = self.pair(name)
        request = self.folder / f"{name}.csr"
        config = self.folder / "pki.cnf"
        _openssl("req", "-new", *_KEY, "-keyout", key, "-subj", subject, "-config", config,
                 "-out", request)  # fmt: skip
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key",
                 "-CAcreateserial", "-days", str(days), "-extfile", config,
                 "-extensions", section, "-out", certificate)  # fmt: skip
        request.unlink()
        key.chmod(0o600)

    def issue_node(self, node: str, *, name: str = "client", days: int = 3650) -> None:
        """Make a kubelet's client pair for this node."""
        self.issue(name, f"/O=system:nodes/CN=system:node:{node}", days=days)


def make(folder: Path, node: str = "node-a") -> PKI:
    """Make the whole folder: ca, server and client, each as .crt and .key."""
    pki = authority(folder, "trialboot test authority")
    pki.issue("server", "/CN=kubernetes", section="server")
    pki.issue_node(node)
    return pki


def authority(folder: Path, name: str, *, identified: bool = True) -> PKI:
    """Make a folder that holds an authority and nothing else yet.

    One that is not `identified` has no key identifier and no key usage, as those of EKS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pki.cnf"
    config.write_text(_CONFIG)
    key = folder / "ca.key"
    section = "ca" if identified else "plain_ca"
    _openssl("req", "-x509", *_KEY, "-keyout", key, "-subj", f"/CN={name}", "-days", "3650",
             "-config", config, "-extensions", section, "-out", folder / "ca.crt")  # fmt: skip
    key.chmod(0o600)
    return PKI(folder)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *map(str, words)],  # noqa: S607
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]}: {done.stderr.strip()}")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
