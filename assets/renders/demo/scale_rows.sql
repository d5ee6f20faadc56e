-- Jobs 1..:n, a thousand to a user; every 500th (3, 503, ...) was never written.
INSERT INTO render_jobs (id, user_id, status, output_url, created_at, completed_at)
SELECT CAST('aaaaaaaa-1111-4000-8000-' || LPAD(i::text, 12, '0') AS uuid), CAST(u AS uuid), 'completed',
       'https://abcdefghijklmnopqrst.supabase.co/storage/v1/object/public/videos/' || u || '/scene_' || i || '_scale.mp4',
       '2025-09-01 00:00:00Z', '2025-09-01 00:01:00Z'
FROM (SELECT i, '22222222-2222-4222-8222-' || LPAD((i / 1000)::text, 12, '0') AS u
      FROM GENERATE_SERIES(1, :n) AS i WHERE i % 500 <> 3) AS job;
