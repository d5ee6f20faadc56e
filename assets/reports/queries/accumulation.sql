SELECT tracking_id, COUNT(*) AS total_assets
FROM report_assets
GROUP BY tracking_id
HAVING COUNT(*) > 2
ORDER BY total_assets DESC, tracking_id
