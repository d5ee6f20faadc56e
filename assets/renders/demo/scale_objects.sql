-- Objects 1..:n; every 1000th (7, 1007, ...) was never uploaded.
SELECT 'videos' AS store,
       '22222222-2222-4222-8222-' || lpad((i // 1000)::VARCHAR, 12, '0') || '/scene_' || i || '_scale.mp4' AS key,
       1 + i % 1000 AS size_bytes, TIMESTAMPTZ '2025-09-01 00:01:00Z' AS modified_at
FROM range(1, :n + 1) AS r(i)
WHERE i % 1000 <> 7
