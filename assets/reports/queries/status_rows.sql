-- What the status API has to return for a tracking id: all that is stored, and what the view leaves of it.
SELECT COUNT(*) AS tracking_ids,
       ROUND(AVG(s.stored), 2) AS mean_stored, MAX(s.stored) AS most_stored,
       ROUND(AVG(COALESCE(a.returned, 0)), 2) AS mean_returned, MAX(COALESCE(a.returned, 0)) AS most_returned
FROM (SELECT tracking_id, COUNT(*) AS stored FROM report_assets WHERE tracking_id IS NOT NULL GROUP BY tracking_id) s
LEFT JOIN (SELECT tracking_id, COUNT(*) AS returned FROM report_assets_active GROUP BY tracking_id) a
  ON a.tracking_id = s.tracking_id
