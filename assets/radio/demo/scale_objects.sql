-- Objects 1..:n; every 1000th (7, 1007, ...) was never uploaded.
SELECT 'audio' AS store, 'final/bbbbbbbb-1111-4000-8000-' || lpad(i::VARCHAR, 12, '0') || '.wav' AS key,
       1 + i % 1000 AS size_bytes, TIMESTAMPTZ '2025-10-01 00:00:00Z' AS modified_at
FROM range(1, :n + 1) AS r(i)
WHERE i % 1000 <> 7
