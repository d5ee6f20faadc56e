"""What URLs in a database call the stores of a system."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import Store, System
from maintenance_defs.core.resolve import StoreNames


def store_names(system: System, home: Home) -> tuple[StoreNames, ...]:
    """Buckets and hosts of every store, also of those that cannot be reached now.

    The endpoint of a store is one of its hosts: 'http://minio:9000/bucket/key' names its objects.
    """
    return tuple(_names(name, declared, home) for name, declared in system.stores.items())


def _names(name: str, declared: Store, home: Home) -> StoreNames:
    location = home.environment.get(declared.url_env, "")
    url = urlsplit(location)
    options = parse_qs(url.query)
    own = url.path.strip("/") if url.scheme == "az" else url.netloc if url.scheme in ("s3", "gs") else ""
    said = [declared.bucket or "", home.environment.get(declared.bucket_env or "", "")]
    buckets = tuple(dict.fromkeys(bucket for bucket in (*said, own) if bucket))  # a plain folder has none
    hosts = list(declared.hosts)
    for endpoint in (*options.get("endpoint_url", ()), *options.get("endpoint", ())):
        at = urlsplit(endpoint)
        if at.scheme in ("http", "https") and own:
            base = at.path.strip("/")
            below = f"{base}/" if base else ""
            hosts += [
                f"{at.scheme}://{at.netloc}/{below}{own}/",
                f"{at.scheme}://{own}.{at.netloc}/{below}",
            ]
    return StoreNames(name, buckets, tuple(hosts))
