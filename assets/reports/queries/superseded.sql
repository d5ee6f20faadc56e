-- A delivery is one generation, ordered by its first file (by time, then id). The newest
-- complete one is current; newer incomplete ones are kept; where none is complete, nothing is superseded.
WITH delivery AS (
  SELECT tracking_id, delivery_id, MIN(created_at) AS began_at, MIN(id) AS first_id,
         COUNT(*) AS assets, SUM(size_bytes) AS size_bytes,
         COUNT(DISTINCT CASE WHEN file_type IN ('pdf', 'html') THEN file_type END) AS file_types
  FROM report_assets
  WHERE tracking_id IS NOT NULL
  GROUP BY tracking_id, delivery_id
),
generation AS (
  SELECT tracking_id, delivery_id, assets, size_bytes, file_types,
         ROW_NUMBER() OVER (PARTITION BY tracking_id ORDER BY began_at, first_id) AS ordinal
  FROM delivery
),
newest_complete AS (
  SELECT tracking_id, MAX(ordinal) AS ordinal
  FROM generation
  WHERE file_types = 2
  GROUP BY tracking_id
)
SELECT g.tracking_id, COUNT(*) AS superseded_deliveries,
       SUM(g.assets) AS superseded_assets, SUM(g.size_bytes) AS superseded_bytes
FROM generation g
JOIN newest_complete c ON c.tracking_id = g.tracking_id AND g.ordinal < c.ordinal
GROUP BY g.tracking_id
ORDER BY superseded_assets DESC, g.tracking_id
