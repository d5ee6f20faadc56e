"""The doors to objects: listing, HEAD, probing. One small interface, one contract suite.

Belongs here: protocols of stores and their quirks. Not here: what a key means.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from maintenance_defs.core.declaration import Store
from maintenance_defs.core.errors import EnvironmentMissing, StoreUnavailable
from maintenance_defs.stores.base import ObjectStore
from maintenance_defs.stores.local import LocalStore

OPTIONS = {"s3": {"endpoint_url", "region", "addressing_style"}, "az": {"endpoint"}, "gs": {"endpoint"}, "file": set()}
STYLES: tuple[Literal["path", "virtual", "auto"], ...] = ("path", "virtual", "auto")
FORMS = "s3://bucket?endpoint_url=…&region=…, az://account/container, gs://bucket, or a folder"


def open_store(name: str, declared: Store, value: Callable[[str, str], str]) -> ObjectStore:
    """The store that a declaration names.

    value: gives the value of an environment variable, told what it is needed for.
    Raises EnvironmentMissing (by `value`), and StoreUnavailable when the location makes no sense.
    No message repeats the location: it may hold a secret where none belongs.
    """
    location = value(declared.url_env, f"the location of store {name}")
    named = _bucket(name, declared, value)
    if "://" not in location:
        return LocalStore(Path(location), named or name)
    url, options = _split(location, declared.url_env)
    if url.scheme == "file":
        return LocalStore(Path(unquote(url.path)), named or name)
    key = secret = token = None
    if declared.credentials is not None:
        key = value(declared.credentials.access_key_env, f"the access key of store {name}")
        secret = value(declared.credentials.secret_key_env, f"the secret key of store {name}")
        if declared.credentials.session_token_env is not None:
            token = value(declared.credentials.session_token_env, f"the session token of store {name}")
    # Imported where needed: a deployment of folders should not pay for three cloud clients.
    if url.scheme == "s3":
        from maintenance_defs.stores.s3 import S3Access, S3Store

        style = next((style for style in STYLES if style == options.get("addressing_style")), None)
        access = S3Access(url.netloc, options.get("endpoint_url"), options.get("region"), style, key, secret, token)
        return S3Store(access, named or url.netloc)
    from maintenance_defs.stores.cloud import CloudStore, azure, google

    if url.scheme == "az":
        container = url.path.strip("/")
        return CloudStore(azure(url.netloc, container, options.get("endpoint"), secret), named or container)
    return CloudStore(google(url.netloc, options.get("endpoint"), secret), named or url.netloc)


def _bucket(name: str, declared: Store, value: Callable[[str, str], str]) -> str | None:
    """The name that URLs use: of the variable, else as declared, else (None) the location's own."""
    if declared.bucket_env is None:
        return declared.bucket
    try:
        return value(declared.bucket_env, f"the bucket of store {name}")
    except EnvironmentMissing:
        if declared.bucket is None:
            raise
        return declared.bucket


def _split(location: str, variable: str) -> tuple[SplitResult, dict[str, str]]:
    """A checked location and its options. Raises StoreUnavailable with what is wrong, not with the location."""

    def wrong(what: str) -> StoreUnavailable:
        return StoreUnavailable(f"{variable} does not say where a store is: {what}. Nothing was read. Write {FORMS}.")

    try:
        url = urlsplit(location)
        pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=True) if url.query else []
    except ValueError:
        raise wrong("it is no URL") from None
    if url.scheme not in OPTIONS:
        raise wrong("its scheme is not known")
    if "@" in url.netloc:
        raise wrong("credentials stand in it; they belong in the variables that `credentials` names")
    options = dict(pairs)
    if unknown := sorted(set(options) - OPTIONS[url.scheme]):
        raise wrong(f"it has an unknown option {unknown[0][:30]!r}")
    if len(options) != len(pairs) or url.fragment:
        raise wrong("an option stands twice in it, or it has a fragment")
    if url.scheme == "file":
        if url.netloc not in ("", "localhost"):
            raise wrong("a file URL names a host")
        return url, options
    if not url.netloc:
        raise wrong("it names no bucket")
    parts = [part for part in url.path.split("/") if part]
    if url.scheme == "az" and len(parts) != 1:
        raise wrong("it must name an account and a container")
    if url.scheme in ("s3", "gs") and parts:
        raise wrong("it has a prefix; name the whole bucket here and the prefix as a scope")
    if options.get("addressing_style", "auto") not in STYLES:
        raise wrong(f"addressing_style is none of {', '.join(STYLES)}")
    endpoint = options.get("endpoint_url") or options.get("endpoint")
    if endpoint is not None:
        parsed = urlsplit(endpoint)
        if parsed.scheme not in ("http", "https") or not parsed.netloc or "@" in parsed.netloc or parsed.query:
            raise wrong("its endpoint is not a plain http or https URL")
    return url, options
