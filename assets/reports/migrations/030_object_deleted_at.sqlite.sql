-- Remembers that the file of a superseded asset was removed while its row stays: column object_deleted_at.
-- after: archive_columns
-- applied when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets') WHERE name = 'object_deleted_at')
-- refuse when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets')
--   WHERE name = 'object_deleted_at' AND UPPER(type) NOT IN ('DATETIME', 'TIMESTAMP'))
--   -- report_assets has a column object_deleted_at of another type (DATETIME is wanted). Nothing was changed; rename that column first.
ALTER TABLE report_assets ADD COLUMN object_deleted_at DATETIME DEFAULT NULL;
