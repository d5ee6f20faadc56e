CREATE TABLE render_jobs (
  id           UUID PRIMARY KEY,
  user_id      UUID NOT NULL,
  status       TEXT NOT NULL,
  output_url   TEXT,
  error        TEXT,
  created_at   TIMESTAMPTZ NOT NULL,
  completed_at TIMESTAMPTZ
);
CREATE TABLE user_assets (
  id           UUID PRIMARY KEY,
  user_id      UUID NOT NULL,
  asset_type   TEXT NOT NULL,
  file_name    TEXT,
  file_size    BIGINT,
  bucket       TEXT,
  storage_path TEXT,
  metadata     JSONB,
  created_at   TIMESTAMPTZ NOT NULL
);
CREATE INDEX idx_render_jobs_status_created ON render_jobs(status, created_at);
CREATE INDEX idx_user_assets_render_job ON user_assets ((metadata->>'render_job_id'));
