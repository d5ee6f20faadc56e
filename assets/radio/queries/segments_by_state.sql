SELECT state, COUNT(*) AS segments,
       COUNT(*) FILTER (WHERE asset_id IS NULL) AS without_asset,
       MIN(created_at) AS oldest_at, MAX(created_at) AS newest_at
FROM segments
GROUP BY state
ORDER BY segments DESC, state
