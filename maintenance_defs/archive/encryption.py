"""Keys: each file has one of its own, an organisation's key wraps those, the deployment's key wraps that.

A file is encrypted whole, footer and statistics included (G105), with AES-256-GCM. Destroying the organisation's
key makes every file of it unreadable, in every copy and backup of the objects (G100). The control database's own
backups hold the wrapped key for as long as they are kept. No message, log or file holds an open key (V13).
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any

import duckdb
import pyarrow.parquet.encryption as pe
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from maintenance_defs.archive.cache import forget
from maintenance_defs.archive.holding import Holding
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive, Encryption
from maintenance_defs.core.errors import Held, Refused

KEY_BYTES = 32
NONCE_BYTES = 12  # random: a key of ours wraps far fewer than 2^32 others
WRONG_MASTER = "the deployment's key is not the one that the organisation's key was wrapped with; set that one again"
WRONG_FILE = "the file's wrapped key in the catalogue is not the one that was written; restore the control database"
VERSION = "a1:"  # AES-256-GCM, nonce first, base64


class FileEncryption:
    """The open key of one file, for as long as it is written or read. Never printed, compared or pickled."""

    __slots__ = ("_key", "key_id", "wrapped")

    def __init__(self, key: bytes, key_id: str, wrapped: str) -> None:
        """key_id, wrapped: what the file's row in the catalogue holds (FileRow.key_id, .wrapped_key)."""
        self._key = key
        self.key_id = key_id
        self.wrapped = wrapped

    def __repr__(self) -> str:
        return f"FileEncryption(key_id={self.key_id!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an open key is not written anywhere")

    @property
    def properties(self) -> Any:
        """For ParquetWriter(encryption_properties=…)."""
        return pe.create_encryption_properties(self._key)

    def reading(self) -> Any:
        """For ParquetFile, read_schema, ParquetFragmentScanOptions (decryption_properties=…)."""
        return pe.create_decryption_properties(self._key)

    def known_to(self, con: duckdb.DuckDBPyConnection) -> str:
        """Give a DuckDB connection the key; what read_parquet needs after its other arguments."""
        name = f"key_{os.urandom(8).hex()}"
        try:
            con.execute(f"PRAGMA add_parquet_key('{name}', '{base64.b64encode(self._key).decode()}')")
        except duckdb.Error as error:  # its text would quote the statement
            raise Refused(
                "no_decryption", f"DuckDB did not take a file's key ({type(error).__name__}). Nothing was read."
            ) from None
        return f", encryption_config = {{footer_key: '{name}'}}"


def is_encrypted(archive: Archive) -> bool:
    return isinstance(archive.encryption, Encryption)


def encryption_for(home: Home, system: str, name: str, archive: Archive, organisation: str) -> FileEncryption:
    """A fresh key for one new file of an organisation, wrapped by the organisation's key, which is made when needed.

    Raises EnvironmentMissing or Refused("deployment_key") where the deployment's key is not set or not one.
    """
    master = _master(home, archive, f"{system}/{name}")
    owner = home.control.archive.organisation_key(system, name, organisation)
    whose = f"{system}/{name}/{organisation}"
    if owner is None:
        made = os.urandom(KEY_BYTES)
        owner = home.control.archive.add_key(system, name, organisation, _wrap(master, made, whose))
    outer = _unwrap(master, owner.wrapped or "", whose, WRONG_MASTER)
    key = os.urandom(KEY_BYTES)
    return FileEncryption(key, owner.id, _wrap(outer, key, owner.id))


def decryption_for(home: Home, archive: Archive, file: FileRow) -> FileEncryption | None:
    """The key of a file, None for one that is not encrypted.

    Raises Refused("shredded") once the organisation's key is destroyed, Refused("deployment_key") for a wrong one.
    """
    if file.key_id is None or file.wrapped_key is None:
        return None
    owner = home.control.archive.key(file.key_id)
    if owner is None or owner.wrapped is None:
        when = f" on {owner.destroyed_at:%Y-%m-%d} by {owner.destroyed_by}" if owner and owner.destroyed_at else ""
        raise Refused(
            "shredded",
            f"the key of archive file {file.id} ({file.system}/{file.archive}) was destroyed{when}: nobody can read it "
            f"any more. There is no way back.",
        )
    whose = f"{owner.system}/{owner.archive}/{owner.organisation}"
    master = _master(home, archive, f"{file.system}/{file.archive}")
    outer = _unwrap(master, owner.wrapped, whose, WRONG_MASTER)
    return FileEncryption(_unwrap(outer, file.wrapped_key, owner.id, WRONG_FILE), owner.id, file.wrapped_key)


def shred(home: Home, system: str, name: str, archive: Archive, organisation: str, actor: str, reason: str) -> int:
    """Destroy an organisation's keys: its files can never be read again. How many keys there were; 0 when repeated.

    Refused("not_encrypted") where files have no keys of their own; Held while any hold could cover the organisation's
    rows: what is held must stay readable. Objects and rows of the catalogue stay until they expire.
    """
    if not is_encrypted(archive):
        raise Refused(
            "not_encrypted",
            f"archive {system}/{name} has no keys of its own (encryption: {{key_env: …}}), so nothing can be shredded. "
            f"Nothing was done; its files can only expire.",
        )
    holding = Holding(home, system, name, archive)
    if hold := holding.on_table() or next(
        filter(None, map(holding.on_file, _files_of(home, system, name, organisation))), None
    ):
        raise Held(
            f"{hold.words()} may cover rows of {organisation!r} in {system}/{name}. No key was destroyed. Release it "
            f"first, or wait until it ends.",
            {0: hold.id},
        )
    destroyed = len(home.control.archive.destroy_keys(system, name, organisation, actor, reason))
    forget(home, [file.sha256 for file in _files_of(home, system, name, organisation)])
    return destroyed


def _files_of(home: Home, system: str, name: str, organisation: str) -> list[FileRow]:
    """Those whose objects may still be there, whether or not readers see them."""
    known = home.control.archive.files(system, name, states=("live", "stored", "superseded", "expired"))
    files = [file for file in known if file.object_gone_at is None]
    groups = home.control.archive.groups([file.id for file in files])
    mine = {group.file_id for group in groups if group.organisation == organisation}
    return [file for file in files if file.id in mine]


def _master(home: Home, archive: Archive, words: str) -> bytes:
    said = archive.encryption
    if not isinstance(said, Encryption):
        raise Refused(
            "deployment_key",
            f"archive {words} holds encrypted files, and its declaration no longer names the deployment's key. Nothing "
            f"was read or written; declare encryption: {{key_env: …}} again.",
        )
    try:
        key = base64.b64decode(home.value(said.key_env, f"the key above those of archive {words}"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise Refused(
            "deployment_key",
            f"{said.key_env} does not hold {KEY_BYTES} bytes in base64. Nothing was read or written; make a key with "
            f"`openssl rand -base64 {KEY_BYTES}`, and keep it: without it nothing of archive {words} can be read.",
        )
    return key


def _wrap(outer: bytes, key: bytes, bound_to: str) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return VERSION + base64.b64encode(nonce + AESGCM(outer).encrypt(nonce, key, bound_to.encode())).decode()


def _unwrap(outer: bytes, wrapped: str, bound_to: str, wrong: str) -> bytes:
    """bound_to: what the key belongs to; under another name it does not open."""
    try:
        sealed = base64.b64decode(wrapped.removeprefix(VERSION), validate=True)  # another version's ':' is refused
        return AESGCM(outer).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to.encode())
    except (ValueError, InvalidTag):  # binascii.Error is a ValueError
        raise Refused("deployment_key", f"a key does not open: {wrong}. Nothing was read or written.") from None
