-- Runs on PostgreSQL and on SQLite.
CREATE TABLE jobs (
  id         UUID PRIMARY KEY,
  page_slug  TEXT NOT NULL,
  status     TEXT NOT NULL,
  attempts   INTEGER NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE assets (
  id          UUID PRIMARY KEY,
  job_id      UUID REFERENCES jobs(id),
  page_slug   TEXT NOT NULL,
  locale      TEXT NOT NULL,
  kind        TEXT NOT NULL,
  storage_key TEXT,
  mime_type   TEXT,
  size_bytes  BIGINT,
  created_at  TIMESTAMPTZ NOT NULL
);
CREATE INDEX idx_assets_storage_key ON assets(storage_key);
