"""Credentials in text: found in a spec, struck out of log lines and of `run.json`.

Knows what the usual credentials look like, and nothing about where they stand. A long random
string is not taken for a secret by itself: an AWS secret key is one only where its name is beside it.
Every pattern reads a text in linear time, since redaction runs over whatever a log line holds.
"""

from __future__ import annotations

import re

_REDACTED = "[redacted]"
_KEYED = (
    r"(?i:aws[_-]?secret(?:[_-]?access)?[_-]?key|secret[_-]?access[_-]?key|(?:aws[_-]?)?session[_-]?token"
    r"|(?:hf|hugging_?face|github|access|auth)[_-]?token|api[_-]?key)"
)
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(r'(?P<secret>-----BEGIN [^"]*?(?:-----END [A-Z ]*-----|(?=")|\Z))')),
    (
        "a presigned URL",
        re.compile(
            r"""\?(?P<secret>(?:[^\s"'<>?]*&)?(?i:X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token"""
            r"""|AWSAccessKeyId|Signature|sig)=[^\s"'<>?]*)"""
        ),
    ),
    ("a URL with a password", re.compile(r"""(?<=://)(?P<secret>[^\s/@:"'<>]*:[^\s/"'<>]+)@""")),
    ("an AWS access key", re.compile(r"(?<![A-Za-z0-9])(?P<secret>(?:AKIA|ASIA)[A-Z0-9]{16})")),
    ("a Hugging Face token", re.compile(r"(?<![A-Za-z0-9])(?P<secret>(?:hf|api_org)_[A-Za-z0-9]{20,})")),
    (
        "a GitHub token",
        re.compile(
            r"(?<![A-Za-z0-9])(?P<secret>(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}))"
        ),
    ),
    (
        "an authorization header",
        re.compile(
            r"""(?i:authorization)["']?\s{0,4}[:=]\s{0,4}["']?"""
            r"""(?i:bearer|basic|token)\s{1,4}(?P<secret>[^\s"'\[]{8,})"""
        ),
    ),
    ("a secret key", re.compile(_KEYED + r"""["']?\s{0,4}[:=]\s{0,4}["']?(?P<secret>[^\s"',\[{}]{16,})""")),
)


def find_secret(text: str) -> str | None:
    """What kind of credential the text holds, in words ("an AWS access key"), or None.

    A value whose name matters is asked for together with it: `find_secret(f"{key}={value}")`.
    """
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), None)


def redact(text: str) -> str:
    """The text with each credential replaced by `[redacted]`; what stands around it stays."""
    for _, pattern in _PATTERNS:
        text = pattern.sub(_strike, text)
    return text


def _strike(match: re.Match[str]) -> str:
    """The match, its secret part struck out."""
    whole, start = match.group(), match.start()
    return whole[: match.start("secret") - start] + _REDACTED + whole[match.end("secret") - start :]
