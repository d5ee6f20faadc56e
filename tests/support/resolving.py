"""Three stores, spellings of their objects, and what rows resolve to."""

from typing import Any

import duckdb
import pyarrow as pa

from maintenance_defs.core.declaration import Reference
from maintenance_defs.core.resolve import UNREAD, StoreNames, resolve, rows_schema

STORES = (
    StoreNames("videos", ("videos",)),
    StoreNames(
        "images",
        ("images",),
        ("https://pub-0a1b.r2.dev/", "https://cdn.example.org/base/", "http://minio.local:9000/images/"),
    ),
    StoreNames("archive", ("Archive.Old",)),
)
OBJECT_URL = "https://abcdefgh.supabase.co/storage/v1/object"
LINE = ("store", "key", "kind", "value", "reason")


def declared(form: dict[str, Any], store: str | list[str] = "images") -> Reference:
    return Reference.model_validate({"table": "t", "id": "id", "store": store, "object": form, "protects_only": True})


def lines(con: duckdb.DuckDBPyConnection, reference: Reference, *rows: Any) -> list[dict[str, Any]]:
    """What rows of the reference's columns resolve to; a row is a value or a tuple of them. Without `unread`."""
    listed = [
        {"row_id": str(n), **{f"v{i}": v for i, v in enumerate(row if isinstance(row, tuple) else (row,))}}
        for n, row in enumerate(rows)
    ]
    given_rows = pa.Table.from_pylist(listed, schema=rows_schema(reference))
    found: list[dict[str, Any]] = resolve(con, reference, STORES, given_rows).to_arrow_table().to_pylist()
    return [line for line in found if line["reason"] != UNREAD]


def exact(con: duckdb.DuckDBPyConnection, reference: Reference, *rows: Any) -> set[tuple[str, str]]:
    return {(line["store"], line["key"]) for line in lines(con, reference, *rows) if line["kind"] == "exact"}


BOTH = ["videos", "images"]
URLS = {
    # S1-9, C03
    f"{OBJECT_URL}/sign/videos/a/b.mp4?token=t": ("videos", "a/b.mp4"),
    f"{OBJECT_URL}/public/images/a%20b.png": ("images", "a b.png"),
    f"{OBJECT_URL}/authenticated/videos/x.mp4": ("videos", "x.mp4"),
    f"{OBJECT_URL}/videos/x.mp4": ("videos", "x.mp4"),
    f"{OBJECT_URL}/public/images/x.png?download=": ("images", "x.png"),
    f"{OBJECT_URL}/upload/sign/images/x.png?token=t": ("images", "x.png"),
    "https://abc.supabase.co/storage/v1/render/image/public/images/x.png?width=300": ("images", "x.png"),
    "https://abc.supabase.co/storage/v1/render/image/sign/images/x.png?token=t&width=3": ("images", "x.png"),
    "https://abc.supabase.co/storage/v1/s3/videos/x.mp4": ("videos", "x.mp4"),
    "https://files.example.com/storage/v1/object/public/images/x.png": ("images", "x.png"),
    "/storage/v1/object/public/images/x.png": ("images", "x.png"),
    # C02
    "https://s3.amazonaws.com/images/a/b.png": ("images", "a/b.png"),
    "https://s3.amazonaws.com:443/images/a/b.png": ("images", "a/b.png"),
    "HTTPS://S3.EU-West-1.amazonaws.com/images/A.png": ("images", "A.png"),
    "https://s3-eu-west-1.amazonaws.com/images/a.png": ("images", "a.png"),
    "https://s3.dualstack.eu-west-1.amazonaws.com/images/a.png": ("images", "a.png"),
    "https://images.s3.amazonaws.com/a/b.png": ("images", "a/b.png"),
    "https://images.s3.eu-west-1.amazonaws.com/a.png?X-Amz-Signature=f00&X-Amz-Credential=x": ("images", "a.png"),
    "https://images.s3-us-west-2.amazonaws.com/a.png": ("images", "a.png"),
    "https://images.s3.dualstack.us-west-2.amazonaws.com/a.png": ("images", "a.png"),
    "https://images.s3-accelerate.amazonaws.com/a.png": ("images", "a.png"),
    "https://images.s3.cn-north-1.amazonaws.com.cn/a.png": ("images", "a.png"),
    "https://images.s3.amazonaws.com//a.png": ("images", "/a.png"),
    "https://user:secret@images.s3.amazonaws.com/a.png": ("images", "a.png"),
    "https://acct.r2.cloudflarestorage.com/images/a.png": ("images", "a.png"),
    "https://acct.eu.r2.cloudflarestorage.com/images/a.png": ("images", "a.png"),
    "https://images.acct.r2.cloudflarestorage.com/a.png": ("images", "a.png"),
    "https://images.acct.eu.r2.cloudflarestorage.com/a.png": ("images", "a.png"),
    "http://minio.local:9000/images/a.png": ("images", "a.png"),
    "s3://images/a/b.png": ("images", "a/b.png"),
    "S3://images/a/b.png": ("images", "a/b.png"),
    "s3a://images/a/b.png": ("images", "a/b.png"),
    # C04
    "https://pub-0a1b.r2.dev/a/b.png": ("images", "a/b.png"),
    "https://cdn.example.org/base/a%2Fb.png?v=3#top": ("images", "a/b.png"),
    "//cdn.example.org/base/a.png": ("images", "a.png"),
    "https://CDN.example.org:443/base/a.png": ("images", "a.png"),
    # C05
    "gs://images/a.png": ("images", "a.png"),
    "https://storage.googleapis.com/images/a/b.png": ("images", "a/b.png"),
    "https://images.storage.googleapis.com/a/b.png": ("images", "a/b.png"),
    "https://storage.cloud.google.com/images/a.png": ("images", "a.png"),
    "https://storage.googleapis.com/storage/v1/b/images/o/a%2Fb.png?alt=media": ("images", "a/b.png"),
    "https://firebasestorage.googleapis.com/v0/b/images/o/a%2Fb.png?alt=media&token=t": ("images", "a/b.png"),
    "https://acct.blob.core.windows.net/images/a/b.png?sv=2024&sig=s3cr3t": ("images", "a/b.png"),
    "az://acct/images/a/b.png": ("images", "a/b.png"),
    "az://images/a/b.png": ("images", "a/b.png"),
    "abfss://images@acct.dfs.core.windows.net/a/b.png": ("images", "a/b.png"),
    # C07 and what people forget to encode
    "https://pub-0a1b.r2.dev/a b.png": ("images", "a b.png"),
    "https://pub-0a1b.r2.dev/caf%C3%A9.png": ("images", "café.png"),
    "https://pub-0a1b.r2.dev/a%2520b.png": ("images", "a%20b.png"),
    "https://pub-0a1b.r2.dev/a+b.png": ("images", "a+b.png"),
    "https://pub-0a1b.r2.dev/100%.png": ("images", "100%.png"),
    "https://pub-0a1b.r2.dev/%FF.png": ("images", "%FF.png"),
    "https://pub-0a1b.r2.dev/a%23b%3Fc.png": ("images", "a#b?c.png"),
}


SECRETS = [
    f"{OBJECT_URL}/sign/videos/a.mp4?token=SECRET",
    f"{OBJECT_URL}/sign/other/a.mp4?token=SECRET.png",
    "https://elsewhere.example/a.png?sig=SECRET&x=1",
    "https://u:SECRET@elsewhere.example/a.png",
    "https://u:SECRET@images.s3.amazonaws.com/a.png",
    "not-a-url?token=SECRET",
    "user:SECRET@host/path",
    "images/a.png?X-Amz-Signature=SECRET",
    "data:text/plain,SECRET",
    "see https://pub-0a1b.r2.dev/a.png?token=SECRET, and https://else.example/b?token=SECRET.",
]
