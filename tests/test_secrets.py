import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.secrets import find_secret, redact

SECRETS = {
    "AKIA" + "ABCDEFGH01234567": "an AWS access key",
    "ASIA" + "ABCDEFGH01234567": "an AWS access key",
    "hf_" + "abcdefghijKLMNOPQRST0123456789abcd": "a Hugging Face token",
    "ghp_" + "a" * 36: "a GitHub token",
    "github_pat_" + "a1_" * 10: "a GitHub token",
    "aws_secret_access_key=" + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "a secret key",
    '"SecretAccessKey": "' + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" + '"': "a secret key",
    "https://me:s3cr@t@host/data.parquet": "a URL with a password",
    "https://b.s3.amazonaws.com/k?partNumber=1&X-Amz-Signature=0f0f": "a presigned URL",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=abc&x=y": "a presigned URL",
    "https://d.cloudfront.net/k?Expires=1&Signature=abc~": "a presigned URL",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----": "a private key",
    "-----BEGIN PRIVATE KEY-----\nMIIE": "a private key",
    "Authorization: Bearer abcdefgh12345678": "an authorization header",
}
HARMLESS = [
    "s3://reviews/2026-11-22/*.parquet",
    "hf-internal-testing/tiny-random-bert",
    "distilbert/distilbert-base-cased@6ea81172465e8b0ad3fddeed32b986cdcdcffcf0",
    "https://user@host:8080/path?split=train&name=x",
    "https://host:8080/some@thing",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "{title}\n{body}",
    "mask_token=[MASK]",
    "aws_secret_access_key is not needed",
    "AKIA",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_named_by_its_kind(text):
    assert find_secret(text) == SECRETS[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_specs_hold_is_no_secret(text):
    assert find_secret(text) is None
    assert redact(text) == text


@pytest.mark.parametrize("text", SECRETS)
def test_redaction_keeps_what_stands_around(text):
    redacted = redact(f"before {text} after")

    assert redacted.startswith("before ")
    assert redacted.endswith(" after") or text.endswith("MIIE")  # a key without an end may go on
    assert "[redacted]" in redacted
    assert find_secret(redacted) is None


def test_only_the_secret_part_of_a_url_is_struck_out():
    assert redact("https://me:pw@host/a?b=1") == "https://[redacted]@host/a?b=1"
    assert (
        redact("GET https://host/a?X-Amz-Date=1&X-Amz-Signature=2 403") == "GET https://host/a?[redacted] 403"
    )


def test_json_stays_json():
    text = '{"key": "-----BEGIN PRIVATE KEY-----\\nMIIE", "api_key": "abcdefghijklmnop", "n": 1}'

    assert redact(text) == '{"key": "[redacted]", "api_key": "[redacted]", "n": 1}'


@given(st.text(max_size=40), st.sampled_from(sorted(SECRETS)), st.text(max_size=40))
def test_no_secret_survives_redaction_between_any_words(before, text, after):
    assert find_secret(redact(f"{before} {text} {after}")) is None


@pytest.mark.parametrize(
    "piece", ["?", "?a&", "://", "://a:", "hf_", "-----BEGIN ", "api_key=", "a", "token "]
)
def test_redaction_takes_linear_time(piece):
    began = time.perf_counter()
    redact(piece * 100_000)

    assert time.perf_counter() - began < 5
