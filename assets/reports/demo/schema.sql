-- As the application has it, before the platform's migrations. Also loads into PostgreSQL (DATETIME = TIMESTAMP there).
CREATE TABLE profiles (
  tracking_id  TEXT PRIMARY KEY,
  company_name TEXT,
  created_at   DATETIME NOT NULL
);
CREATE TABLE report_assets (
  id          TEXT PRIMARY KEY,
  tracking_id TEXT REFERENCES profiles(tracking_id),
  delivery_id TEXT NOT NULL,
  file_type   TEXT NOT NULL,
  size_bytes  INTEGER,
  created_at  DATETIME NOT NULL
);
CREATE INDEX idx_report_assets_tracking ON report_assets(tracking_id);
