-- Marks superseded assets instead of deleting them: columns archived and archived_at, their index, and the view
-- report_assets_active, which the status API reads instead of the table.
-- applied when: SELECT (SELECT COUNT(*) FROM pragma_table_info('report_assets') WHERE name IN ('archived', 'archived_at')) = 2
--   AND EXISTS (SELECT 1 FROM pragma_index_info('idx_report_assets_archived') WHERE seqno = 1 AND name = 'archived')
--   AND EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = 'report_assets_active')
-- refuse when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets')
--   WHERE name = 'archived' AND UPPER(type) NOT IN ('BOOLEAN', 'BOOL', 'INTEGER')
--   OR name = 'archived_at' AND UPPER(type) NOT IN ('DATETIME', 'TIMESTAMP'))
--   -- report_assets has a column archived or archived_at of another type (BOOLEAN and DATETIME are wanted). Nothing was changed; rename that column first.

-- skip when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets') WHERE name = 'archived')
ALTER TABLE report_assets ADD COLUMN archived BOOLEAN DEFAULT false;

-- skip when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets') WHERE name = 'archived_at')
ALTER TABLE report_assets ADD COLUMN archived_at DATETIME DEFAULT NULL;

CREATE INDEX IF NOT EXISTS idx_report_assets_archived ON report_assets(tracking_id, archived);

-- NULL is active: a row written by an application that does not know the column is shown.
CREATE VIEW IF NOT EXISTS report_assets_active AS
SELECT * FROM report_assets WHERE archived IS NULL OR archived = false;
