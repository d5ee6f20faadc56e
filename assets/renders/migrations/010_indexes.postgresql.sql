-- Indexes for finding unsaved renders: jobs by status and age, saved assets by the job they came from. Building one
-- keeps writers of its table out; on a large table build them with CREATE INDEX CONCURRENTLY by hand, under these names.
-- applied when: SELECT COUNT(*) = 2 FROM pg_index i WHERE i.indisvalid AND i.indexrelid IN
--   (to_regclass('public.idx_render_jobs_status_created'), to_regclass('public.idx_user_assets_render_job'))
-- refuse when: SELECT EXISTS (SELECT FROM pg_index i WHERE NOT i.indisvalid AND i.indexrelid IN
--   (to_regclass('public.idx_render_jobs_status_created'), to_regclass('public.idx_user_assets_render_job')))
--   -- an index of that name is there but not valid: its building broke off. Nothing was changed; drop it, then migrate again.
CREATE INDEX IF NOT EXISTS idx_render_jobs_status_created ON public.render_jobs (status, created_at);
CREATE INDEX IF NOT EXISTS idx_user_assets_render_job ON public.user_assets ((metadata ->> 'render_job_id'));
