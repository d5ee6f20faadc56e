-- Marks superseded assets instead of deleting them: columns archived and archived_at, their index, and the view
-- report_assets_active, which the status API reads instead of the table.
-- applied when: SELECT (SELECT COUNT(*) FROM pg_attribute WHERE attrelid = to_regclass('report_assets')
--   AND attname IN ('archived', 'archived_at') AND NOT attisdropped) = 2
--   AND to_regclass('idx_report_assets_archived') IS NOT NULL AND to_regclass('report_assets_active') IS NOT NULL
-- refuse when: SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('report_assets') AND NOT attisdropped
--   AND (attname = 'archived' AND atttypid <> 'boolean'::regtype
--   OR attname = 'archived_at' AND atttypid NOT IN ('timestamp'::regtype, 'timestamptz'::regtype)))
--   -- report_assets has a column archived or archived_at of another type (BOOLEAN and TIMESTAMP are wanted). Nothing was changed; rename that column first.

ALTER TABLE report_assets ADD COLUMN IF NOT EXISTS archived BOOLEAN DEFAULT false;
ALTER TABLE report_assets ADD COLUMN IF NOT EXISTS archived_at TIMESTAMP DEFAULT NULL;
CREATE INDEX IF NOT EXISTS idx_report_assets_archived ON report_assets (tracking_id, archived);

-- NULL is active: a row written by an application that does not know the column is shown.
CREATE OR REPLACE VIEW report_assets_active AS
SELECT * FROM report_assets WHERE archived IS NULL OR archived = false;

-- The view shows what its reader may see, not what its owner may: possible since PostgreSQL 15.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN
    EXECUTE 'ALTER VIEW report_assets_active SET (security_invoker = true)';
  END IF;
END
$$;
