-- Screenshots 1..:n, a hundred to a job that is long gone; every 500th (3, 503, ...) was never registered.
INSERT INTO execution_screenshots (id, job_id, step_index, url, width, height, captured_at)
SELECT 'scale-' || i, 'job-scale-' || i / 100, i,
       'https://acme.blob.core.windows.net/execution-screenshots/job-scale-' || i / 100 || '/' || i || '.png',
       1280, 720, '2025-07-01 00:00:00Z'
FROM GENERATE_SERIES(1, :n) AS i
WHERE i % 500 <> 3;
