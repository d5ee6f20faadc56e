-- Assets 1..:n, each aired; every 500th (3, 503, ...) was never written.
INSERT INTO assets (id, content_type, storage_path, duration_sec, validation_status, created_at)
SELECT id, 'speech', 'final/' || id || '.wav', 60.0, 'passed', '2025-10-01 00:00:00Z'
FROM (SELECT CAST('bbbbbbbb-1111-4000-8000-' || LPAD(i::text, 12, '0') AS uuid) AS id
      FROM GENERATE_SERIES(1, :n) AS i WHERE i % 500 <> 3) AS asset;
