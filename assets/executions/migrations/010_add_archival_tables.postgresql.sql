-- Tells where archived rows are: table execution_log_archives, one row per job and file, and job_result_archives, one
-- row per job. Neither has a foreign key on jobs: with ON DELETE CASCADE the row would vanish with its job, and
-- nobody would know of the file any more; without it the file expires in its time, and a check lists it meanwhile.
-- applied when: SELECT to_regclass('public.execution_log_archives') IS NOT NULL
--   AND to_regclass('public.job_result_archives') IS NOT NULL
--   AND to_regclass('public.idx_execution_log_archives_job') IS NOT NULL
--   AND to_regclass('public.idx_execution_log_archives_at') IS NOT NULL
-- refuse when: SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confdeltype = 'c'
--   AND conrelid IN (to_regclass('public.execution_log_archives'), to_regclass('public.job_result_archives')))
--   -- an archive table loses its rows with those they point to (ON DELETE CASCADE), and nobody would know of the files any more. Nothing was changed; drop that foreign key first.

CREATE TABLE IF NOT EXISTS public.execution_log_archives (
  id TEXT PRIMARY KEY, job_id TEXT NOT NULL, organization_id TEXT NOT NULL, archive_blob_url TEXT NOT NULL,
  record_count BIGINT NOT NULL, compressed_size BIGINT NOT NULL,
  start_date TIMESTAMPTZ NOT NULL, end_date TIMESTAMPTZ NOT NULL, archived_at TIMESTAMPTZ NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS idx_execution_log_archives_job ON public.execution_log_archives (job_id);
CREATE INDEX IF NOT EXISTS idx_execution_log_archives_at ON public.execution_log_archives (archived_at);

CREATE TABLE IF NOT EXISTS public.job_result_archives (
  id TEXT PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, blob_url TEXT NOT NULL, size INT NOT NULL,
  archived_at TIMESTAMPTZ NOT NULL DEFAULT now());
