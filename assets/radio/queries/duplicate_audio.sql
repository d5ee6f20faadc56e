SELECT content_hash, COUNT(*) AS assets, MIN(created_at) AS first_at
FROM assets
WHERE content_hash IS NOT NULL
GROUP BY content_hash
HAVING COUNT(*) > 1
ORDER BY assets DESC, content_hash
LIMIT 100
