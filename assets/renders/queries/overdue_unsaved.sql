SELECT COUNT(*) AS orphaned_files_count
FROM render_jobs rj
LEFT JOIN user_assets ua ON ua.metadata->>'render_job_id' = CAST(rj.id AS text)
WHERE rj.status = 'completed'
  AND rj.output_url IS NOT NULL
  AND ua.id IS NULL
  AND rj.created_at < CAST(:as_of AS timestamptz) - INTERVAL '4 minutes'
