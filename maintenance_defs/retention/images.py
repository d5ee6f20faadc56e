"""Row images: the rows as they were, kept beside the ledger until what was done is final (I11).

They hold the application's data, so they stand in files of their own, named by digest: the ledger and its
readers see neither personal data nor signed links.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ArtefactError
from maintenance_defs.databases.acting import RowImage

FILE = "images.parquet"
IMAGES = pa.schema([pa.field("digest", pa.string(), nullable=False), pa.field("image", pa.string(), nullable=False)])


def keep_images(
    system: System, plan: PlanRow, home: Home, images: Mapping[tuple[str, str], RowImage], when: str
) -> dict[tuple[str, str], tuple[str, str]]:
    """Write them to one immutable file; (table, row id) -> (its URI, digest of the image)."""
    texts = {place: json.dumps(image.as_json(), sort_keys=True) for place, image in images.items()}
    digests = {place: hashlib.sha256(text.encode()).hexdigest() for place, text in texts.items()}
    with home.artefacts.stage(
        system.name, "row_images", plan.policy, f"{plan.id}-{when}-{uuid.uuid4().hex[:12]}", as_of=plan.as_of
    ) as staged:
        columns = [pa.array(digests.values(), pa.string()), pa.array(texts.values(), pa.string())]
        pq.write_table(pa.Table.from_arrays(columns, schema=IMAGES), staged.path / FILE, compression="zstd")
        uri, _, _ = staged.commit()
    return {place: (uri, digest) for place, digest in digests.items()}


def read_image(home: Home, uri: str, digest: str) -> RowImage:
    """Raises ArtefactError unless the very image is there."""
    table = pq.read_table(home.artefacts.local(uri) / FILE, filters=[("digest", "=", digest)])
    for text in table.column("image").to_pylist():
        if hashlib.sha256(text.encode()).hexdigest() == digest:
            return RowImage.from_json(json.loads(text))
    raise ArtefactError(f"the row image {digest[:12]} is not in {uri}, or was changed. Nothing was restored from it.")
