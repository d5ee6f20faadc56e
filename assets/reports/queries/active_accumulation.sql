-- NULL counts as active: rows written before the column existed are shown by the application.
SELECT tracking_id,
       COUNT(*) AS total_assets,
       SUM(CASE WHEN COALESCE(archived, false) THEN 0 ELSE 1 END) AS active_assets
FROM report_assets
GROUP BY tracking_id
HAVING COUNT(*) > 2
ORDER BY total_assets DESC, tracking_id
