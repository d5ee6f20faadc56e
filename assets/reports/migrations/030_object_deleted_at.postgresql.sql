-- Remembers that the file of a superseded asset was removed while its row stays: column object_deleted_at.
-- after: archive_columns
-- applied when: SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('report_assets')
--   AND attname = 'object_deleted_at' AND NOT attisdropped)
-- refuse when: SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('report_assets') AND NOT attisdropped
--   AND attname = 'object_deleted_at' AND atttypid NOT IN ('timestamp'::regtype, 'timestamptz'::regtype))
--   -- report_assets has a column object_deleted_at of another type (TIMESTAMP is wanted). Nothing was changed; rename that column first.
ALTER TABLE report_assets ADD COLUMN object_deleted_at TIMESTAMP DEFAULT NULL;
