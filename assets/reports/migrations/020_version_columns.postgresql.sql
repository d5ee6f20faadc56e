-- Numbers the deliveries of each tracking id: columns version and is_latest, filled for what is there already, and the
-- view report_assets_versions.
-- applied when: SELECT (SELECT COUNT(*) FROM pg_attribute WHERE attrelid = to_regclass('report_assets')
--   AND attname IN ('version', 'is_latest') AND NOT attisdropped) = 2 AND to_regclass('report_assets_versions') IS NOT NULL
-- refuse when: SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('report_assets') AND NOT attisdropped
--   AND (attname = 'version' AND atttypid NOT IN ('integer'::regtype, 'bigint'::regtype)
--   OR attname = 'is_latest' AND atttypid <> 'boolean'::regtype))
--   -- report_assets has a column version or is_latest of another type (INTEGER and BOOLEAN are wanted). Nothing was changed; rename that column first.
-- preview: SELECT tracking_id, delivery_id, ordinal AS version,
--   ordinal = COALESCE(MAX(CASE WHEN file_types = 2 THEN ordinal END) OVER (PARTITION BY tracking_id),
--   MAX(ordinal) OVER (PARTITION BY tracking_id)) AS is_latest FROM (
--   SELECT tracking_id, delivery_id,
--   COUNT(DISTINCT CASE WHEN file_type IN ('pdf', 'html') THEN file_type END) AS file_types,
--   ROW_NUMBER() OVER (PARTITION BY tracking_id ORDER BY MIN(created_at), MIN(id)) AS ordinal
--   FROM report_assets WHERE tracking_id IS NOT NULL GROUP BY tracking_id, delivery_id) delivery
--   ORDER BY tracking_id, ordinal

ALTER TABLE report_assets ADD COLUMN IF NOT EXISTS version INTEGER DEFAULT 1;
ALTER TABLE report_assets ADD COLUMN IF NOT EXISTS is_latest BOOLEAN DEFAULT true;

-- A delivery is one generation, ordered by its first file (by time, then id). The newest complete one is the latest;
-- where none is complete, the newest. Rows without a tracking id belong to no generation and are left as they are.
UPDATE report_assets
SET version = generation.ordinal, is_latest = (generation.ordinal = generation.latest)
FROM (
  SELECT tracking_id, delivery_id, ordinal,
         COALESCE(MAX(CASE WHEN file_types = 2 THEN ordinal END) OVER (PARTITION BY tracking_id),
                  MAX(ordinal) OVER (PARTITION BY tracking_id)) AS latest
  FROM (
    SELECT tracking_id, delivery_id,
           COUNT(DISTINCT CASE WHEN file_type IN ('pdf', 'html') THEN file_type END) AS file_types,
           ROW_NUMBER() OVER (PARTITION BY tracking_id ORDER BY MIN(created_at), MIN(id)) AS ordinal
    FROM report_assets
    WHERE tracking_id IS NOT NULL
    GROUP BY tracking_id, delivery_id
  ) delivery
) generation
WHERE generation.tracking_id = report_assets.tracking_id AND generation.delivery_id = report_assets.delivery_id;

CREATE OR REPLACE VIEW report_assets_versions AS
SELECT id, tracking_id, delivery_id, version, is_latest, file_type, size_bytes, created_at
FROM report_assets WHERE tracking_id IS NOT NULL;

-- The view shows what its reader may see, not what its owner may: possible since PostgreSQL 15.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN
    EXECUTE 'ALTER VIEW report_assets_versions SET (security_invoker = true)';
  END IF;
END
$$;
