"""Stores opened for acting behind the fault proxy, and the truth about them."""

from __future__ import annotations

from collections.abc import Callable

from maintenance_defs.core.declaration import Store
from maintenance_defs.stores.acting import ActingStore, Done, Seen, open_acting
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from tests.support.fault_proxy import Request
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client

KEYS = [f"in/{n:02}" for n in range(25)]
PROBED = Capabilities(True, True, True, None, True, True)
Edit = Callable[[bytes], bytes]


def opened(url: str, bucket: str, capabilities: Capabilities = PROBED) -> ActingStore:
    values = {"URL": f"s3://{bucket}?endpoint_url={url}", "AK": ACCESS_KEY, "SK": SECRET_KEY}
    declared = Store.model_validate(
        {
            "url_env": "URL",
            "scopes": [{"prefix": "in/"}],
            "credentials": {"access_key_env": "AK", "secret_key_env": "SK"},
        }
    )
    return open_acting("media", declared, lambda variable, _: values[variable], capabilities=capabilities)


def see(store: ActingStore, keys: list[str]) -> list[Seen]:
    seen = []
    for key, facts in store.look(keys, dense=True).items():
        assert isinstance(facts, ObjectFacts)
        seen.append(Seen(key, facts.size_bytes, facts.modified_at, facts.etag))
    return seen


def live(endpoint: str, bucket: str) -> set[str]:
    found = client(endpoint).list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"] for item in found if not item["Key"].startswith(".maintenance/")}


def is_versioned(endpoint: str, bucket: str) -> bool:
    return "Status" in client(endpoint).get_bucket_versioning(Bucket=bucket)


def assert_true(done: list[Done], there: set[str]) -> None:
    """No outcome says of an object what is not so."""
    for one in done:
        if one.outcome in ("deleted", "quarantined", "already_absent"):
            assert one.key not in there, one
        elif one.outcome in ("failed", "skipped_changed"):
            assert one.key in there, one
        else:
            assert one.outcome == "unknown", one
            assert one.detail


def bulk(request: Request) -> bool:
    return request.method == "POST" and "delete" in request.target


def single(request: Request) -> bool:
    return request.method == "DELETE"


def acts(request: Request) -> bool:
    return bulk(request) or single(request)


def local(folder: str) -> ActingStore:
    declared = Store.model_validate({"url_env": "URL", "scopes": [{"prefix": "in/"}]})
    return open_acting("media", declared, lambda variable, _: folder)
