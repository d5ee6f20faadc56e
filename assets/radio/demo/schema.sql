CREATE TABLE programs (id UUID PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE djs (id UUID PRIMARY KEY, name TEXT NOT NULL, voice_id TEXT);
CREATE TABLE voices (id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE kb_chunks (id UUID PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE kb_embeddings (id UUID PRIMARY KEY, chunk_id UUID REFERENCES kb_chunks(id), embedding TEXT);
CREATE TABLE assets (
  id                UUID PRIMARY KEY,
  content_type      TEXT NOT NULL,
  storage_path      TEXT NOT NULL,     -- raw/{file}.wav, or final/{asset_id}.wav
  content_hash      TEXT,
  duration_sec      FLOAT8,
  lufs_integrated   FLOAT8,
  peak_db           FLOAT8,
  validation_status TEXT NOT NULL,     -- pending, passed, failed
  validation_errors JSONB,
  metadata          JSONB,
  created_at        TIMESTAMPTZ NOT NULL
);
CREATE TABLE segments (
  id                 UUID PRIMARY KEY,
  program_id         UUID REFERENCES programs(id),
  dj_id              UUID REFERENCES djs(id),
  state              TEXT NOT NULL,
  script_md          TEXT,
  asset_id           UUID REFERENCES assets(id),
  duration_sec       FLOAT8,
  last_error         TEXT,
  scheduled_start_ts TIMESTAMPTZ,
  aired_at           TIMESTAMPTZ,
  created_at         TIMESTAMPTZ NOT NULL,
  updated_at         TIMESTAMPTZ NOT NULL
);
CREATE TABLE jobs (
  id UUID PRIMARY KEY, job_type TEXT NOT NULL, state TEXT NOT NULL, payload JSONB NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE music_tracks (
  id UUID PRIMARY KEY, title TEXT NOT NULL, storage_path TEXT NOT NULL, duration_sec FLOAT8 NOT NULL,
  active BOOLEAN NOT NULL, created_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE jingles (LIKE music_tracks INCLUDING ALL);
CREATE TABLE sound_effects (LIKE music_tracks INCLUDING ALL);
