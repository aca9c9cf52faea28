"""JSON Web Tokens for tests, made without the code under test: HMAC by Python, signatures by openssl(1)."""

import base64
import hashlib
import hmac
import json
import subprocess
import time


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def raw_signature(der):
    """r and s of 32 bytes each from an ECDSA signature in DER (RFC 7518 section 3.4)."""
    at, numbers = 2, []
    for _ in range(2):
        size = der[at + 1]
        numbers.append(int.from_bytes(der[at + 2 : at + 2 + size], "big").to_bytes(32, "big"))
        at += 2 + size
    return b"".join(numbers)


class Key:
    """A signing key: HMAC by its secret, else by a file of openssl's; `public` is what a verifier is given."""

    OPENSSL = {
        "RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "EdDSA": ["-algorithm", "ED25519"],
    }

    def __init__(self, algorithm, directory, name="key", secret=b"a secret of thirty-two bytes or more"):
        self.algorithm, self.secret, self.directory = algorithm, secret, directory
        self.public = directory / f"{name}.public"
        self.private = directory / f"{name}.private"
        if algorithm == "HS256":
            self.public.write_bytes(secret + b"\n")
            return
        self.openssl("genpkey", *self.OPENSSL[algorithm], "-out", self.private)
        self.openssl("pkey", "-in", self.private, "-pubout", "-out", self.public)

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def sign(self, data):
        if self.algorithm == "HS256":
            return hmac.new(self.secret, data, hashlib.sha256).digest()
        source, target = self.directory / "to-sign", self.directory / "signature"
        source.write_bytes(data)
        if self.algorithm == "EdDSA":
            self.openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in", source, "-out", target)
        else:
            self.openssl("dgst", "-sha256", "-sign", self.private, "-out", target, source)
        signature = target.read_bytes()
        return raw_signature(signature) if self.algorithm == "ES256" else signature

    def token(self, header=None, **claims):
        """A token that is good for an hour, but for what is said otherwise; a claim of None is left out."""
        head = {"alg": self.algorithm, "typ": "JWT", **(header or {})}
        body = {"exp": int(time.time()) + 3600, **claims}
        body = {name: value for name, value in body.items() if value is not None}
        signed = ".".join(encode(json.dumps(part).encode()) for part in (head, body))
        return signed + "." + encode(self.sign(signed.encode()))
