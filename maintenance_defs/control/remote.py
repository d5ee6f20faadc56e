"""Our own artefact files in an object store (S3, Azure, GCS) through obstore; never maintained objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from maintenance_defs.core.errors import ArtefactError, DeclarationError

VARIABLE = "MAINTENANCE_ARTEFACTS_URL"
SCHEMES = ("s3", "az", "gs")
OPTIONS = {"endpoint_url": "endpoint", "region": "region"}  # ours, and what obstore calls it
PART_BYTES = 8 << 20
FAILURES = (BaseError, FileNotFoundError)  # obstore raises the latter, itself, for a 404


class Remote:
    """Objects below s3://bucket[/prefix][?endpoint_url=…&region=…], az://account/container, gs://bucket.

    Credentials come from the provider's usual environment variables.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        if parts.scheme not in SCHEMES or not parts.netloc or parts.username or set(options) - set(OPTIONS):
            raise DeclarationError(
                [
                    f"{VARIABLE} must be a folder or one of {', '.join(f'{s}://…' for s in SCHEMES)} "
                    f"with no more than {', '.join(OPTIONS)} behind the '?', and no credentials in it."
                ]
            )
        self._base = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        plain = options.get("endpoint_url", "").startswith("http://")
        config: Any = {OPTIONS[name]: value for name, value in options.items()}  # its type is one per provider
        self._store = from_url(self._base, config=config, client_options={"allow_http": plain})

    def uri(self, relative: str) -> str:
        return f"{self._base}/{relative}"

    def relative(self, uri: str) -> str:
        """Raises ArtefactError for a URI that lies elsewhere."""
        if not uri.startswith(f"{self._base}/"):
            raise ArtefactError(
                f"artefact {uri} does not lie below {self._base}. It was not used. Point {VARIABLE} there again."
            )
        return uri.removeprefix(f"{self._base}/")

    def upload(self, folder: Path, relative: str, *, last: str) -> None:
        """Every file of `folder`; the file `last` after all others, since its presence says that they are there."""
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        for file in [*(f for f in files if f != last), last]:
            try:
                obstore.put(self._store, f"{relative}/{file}", folder / file, chunk_size=PART_BYTES)
            except FAILURES as error:
                raise ArtefactError(
                    f"{file} could not be written to {self.uri(relative)} ({type(error).__name__}). "
                    "The run left no artefact; run it again."
                ) from error

    def download(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                for chunk in obstore.get(self._store, key).stream(min_chunk_size=PART_BYTES):
                    file.write(chunk)
        except FAILURES as error:
            raise ArtefactError(
                f"{self.uri(key)} could not be read ({type(error).__name__}). Nothing was concluded from it."
            ) from error
        target.chmod(0o444)
