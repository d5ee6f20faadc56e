SELECT a.content_hash, COUNT(*) AS assets,
       COUNT(*) FILTER (WHERE a.metadata ->> 'duplicate_of' IS NOT NULL) AS marked_duplicates,
       COUNT(*) FILTER (WHERE EXISTS (SELECT FROM segments s WHERE s.asset_id = a.id)) AS played,
       SUM(a.duration_sec) - MAX(a.duration_sec) AS repeated_sec, MIN(a.created_at) AS first_at
FROM assets a
WHERE a.content_hash IS NOT NULL
GROUP BY a.content_hash
HAVING COUNT(*) > 1
ORDER BY assets DESC, a.content_hash
LIMIT 100
