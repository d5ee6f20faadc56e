SELECT generations, COUNT(*) AS tracking_ids
FROM (
  SELECT tracking_id, COUNT(DISTINCT delivery_id) AS generations
  FROM report_assets
  WHERE tracking_id IS NOT NULL
  GROUP BY tracking_id
) counted
GROUP BY generations
ORDER BY generations
