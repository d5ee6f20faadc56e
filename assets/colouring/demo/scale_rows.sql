-- Records 1..:n, a thousand to a page; every 500th (3, 503, ...) was never written.
INSERT INTO assets (id, page_slug, locale, kind, storage_key, mime_type, size_bytes, created_at)
SELECT CAST('dddddddd-1111-4000-8000-' || LPAD(i::text, 12, '0') AS uuid), 'scale-' || i / 1000, 'x' || i, 'preview',
       'assets/scale-' || i / 1000 || '/x' || i || '_preview.png', 'image/png', 1 + i % 1000, '2023-12-01 00:00:00Z'
FROM GENERATE_SERIES(1, :n) AS i
WHERE i % 500 <> 3;
