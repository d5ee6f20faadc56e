-- Numbers the deliveries of each tracking id: columns version and is_latest, filled for what is there already, and the
-- view report_assets_versions.
-- applied when: SELECT (SELECT COUNT(*) FROM pragma_table_info('report_assets') WHERE name IN ('version', 'is_latest')) = 2
--   AND EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = 'report_assets_versions')
-- refuse when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets')
--   WHERE name = 'version' AND UPPER(type) NOT IN ('INTEGER', 'INT')
--   OR name = 'is_latest' AND UPPER(type) NOT IN ('BOOLEAN', 'BOOL', 'INTEGER'))
--   -- report_assets has a column version or is_latest of another type (INTEGER and BOOLEAN are wanted). Nothing was changed; rename that column first.
-- preview: SELECT tracking_id, delivery_id, ordinal AS version,
--   ordinal = COALESCE(MAX(CASE WHEN file_types = 2 THEN ordinal END) OVER (PARTITION BY tracking_id),
--   MAX(ordinal) OVER (PARTITION BY tracking_id)) AS is_latest FROM (
--   SELECT tracking_id, delivery_id,
--   COUNT(DISTINCT CASE WHEN file_type IN ('pdf', 'html') THEN file_type END) AS file_types,
--   ROW_NUMBER() OVER (PARTITION BY tracking_id ORDER BY MIN(created_at), MIN(id)) AS ordinal
--   FROM report_assets WHERE tracking_id IS NOT NULL GROUP BY tracking_id, delivery_id) delivery
--   ORDER BY tracking_id, ordinal

-- skip when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets') WHERE name = 'version')
ALTER TABLE report_assets ADD COLUMN version INTEGER DEFAULT 1;

-- skip when: SELECT EXISTS (SELECT 1 FROM pragma_table_info('report_assets') WHERE name = 'is_latest')
ALTER TABLE report_assets ADD COLUMN is_latest BOOLEAN DEFAULT true;

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

CREATE VIEW IF NOT EXISTS report_assets_versions AS
SELECT id, tracking_id, delivery_id, version, is_latest, file_type, size_bytes, created_at
FROM report_assets WHERE tracking_id IS NOT NULL;
