-- Before the migration report_assets has no column `archived`: the name then means the
-- outer one, and nothing is archived. An empty table has no percentage.
SELECT total_assets, archived_assets,
       ROUND(archived_assets * 100.0 / NULLIF(total_assets, 0), 2) AS archive_percentage
FROM (
  SELECT (SELECT COUNT(*) FROM report_assets) AS total_assets,
         (SELECT COUNT(*) FROM report_assets WHERE COALESCE(archived, false)) AS archived_assets
  FROM (SELECT false AS archived) before_migration
) counted
