-- What each run more has left behind: the first deliveries of all tracking ids, the second ones, and so on.
SELECT ordinal, COUNT(*) AS deliveries, CAST(SUM(files) AS BIGINT) AS files,
       CAST(SUM(size_bytes) AS BIGINT) AS size_bytes
FROM (
  SELECT tracking_id, COUNT(*) AS files, SUM(size_bytes) AS size_bytes,
         ROW_NUMBER() OVER (PARTITION BY tracking_id ORDER BY MIN(created_at), MIN(id)) AS ordinal
  FROM report_assets
  WHERE tracking_id IS NOT NULL
  GROUP BY tracking_id, delivery_id
) delivery
GROUP BY ordinal
ORDER BY ordinal
