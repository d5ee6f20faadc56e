-- Limits five text columns to the characters that the application's schema declares, by check constraints: the same
-- as VARCHAR(n), without writing the tables anew. Nothing is locked for long: the constraints are added in an instant
-- (the four tables stand still for it, and nobody waits longer than 2 s), and proven while others read and write.
-- applied when: SELECT COUNT(*) = 5 FROM (VALUES ('jobs', 'error_message', 2000), ('schedule_executions', 'error_stack', 10000),
--   ('healing_attempts', 'reasoning', 2000), ('healing_suggestions', 'error_pattern', 1000),
--   ('healing_suggestions', 'dismiss_reason', 500)) AS wanted (of, name, most)
--   JOIN pg_attribute a ON a.attrelid = to_regclass('public.' || of) AND attname = name AND NOT attisdropped
--   WHERE (atttypid = 'varchar'::regtype AND atttypmod BETWEEN 5 AND most + 4) OR EXISTS (
--     SELECT FROM pg_constraint WHERE conrelid = a.attrelid AND conname = of || '_' || name || '_limit' AND convalidated
--     AND pg_get_constraintdef(oid) ~ ('^CHECK \(\(char_length\(\(?' || name || '(\)::text)?\) <= ' || most || '\)\)'))
-- refuse when: SELECT COUNT(*) <> 5 FROM (VALUES ('jobs', 'error_message'), ('schedule_executions', 'error_stack'),
--   ('healing_attempts', 'reasoning'), ('healing_suggestions', 'error_pattern'), ('healing_suggestions', 'dismiss_reason'))
--   AS wanted (of, name) JOIN pg_attribute ON attrelid = to_regclass('public.' || of) AND attname = name
--   AND NOT attisdropped AND atttypid IN ('text'::regtype, 'varchar'::regtype)
--   -- one of jobs.error_message, schedule_executions.error_stack, healing_attempts.reasoning, healing_suggestions.error_pattern and .dismiss_reason is absent or no text. Nothing was changed.
-- refuse when: SELECT EXISTS (SELECT FROM pg_constraint JOIN (VALUES ('jobs', 'error_message', 2000),
--   ('schedule_executions', 'error_stack', 10000), ('healing_attempts', 'reasoning', 2000),
--   ('healing_suggestions', 'error_pattern', 1000), ('healing_suggestions', 'dismiss_reason', 500)) AS wanted (of, name, most)
--   ON conrelid = to_regclass('public.' || of) AND conname = of || '_' || name || '_limit'
--   WHERE pg_get_constraintdef(oid) !~ ('^CHECK \(\(char_length\(\(?' || name || '(\)::text)?\) <= ' || most || '\)\)'))
--   -- a constraint of this name says something else. Nothing was changed; rename that constraint first.
-- refuse rows unless truncate: SELECT value, id, characters FROM (
--     SELECT 'jobs.error_message' AS value, id, CHAR_LENGTH(error_message) AS characters FROM public.jobs
--     WHERE CHAR_LENGTH(error_message) > 2000
--   UNION ALL SELECT 'schedule_executions.error_stack', id, CHAR_LENGTH(error_stack) FROM public.schedule_executions
--     WHERE CHAR_LENGTH(error_stack) > 10000
--   UNION ALL SELECT 'healing_attempts.reasoning', id, CHAR_LENGTH(reasoning) FROM public.healing_attempts
--     WHERE CHAR_LENGTH(reasoning) > 2000
--   UNION ALL SELECT 'healing_suggestions.error_pattern', id, CHAR_LENGTH(error_pattern) FROM public.healing_suggestions
--     WHERE CHAR_LENGTH(error_pattern) > 1000
--   UNION ALL SELECT 'healing_suggestions.dismiss_reason', id, CHAR_LENGTH(dismiss_reason) FROM public.healing_suggestions
--     WHERE CHAR_LENGTH(dismiss_reason) > 500) AS long
--   WHERE (SELECT COUNT(*) FROM pg_constraint WHERE convalidated AND connamespace = 'public'::regnamespace
--     AND conname IN ('jobs_error_message_limit',
--     'schedule_executions_error_stack_limit', 'healing_attempts_reasoning_limit',
--     'healing_suggestions_error_pattern_limit', 'healing_suggestions_dismiss_reason_limit')) < 5
--   -- these values have more characters than their limit. Nothing was changed; shorten them, or apply with --with truncate.
-- option truncate: cuts values that are too long, after their full text was kept in table overlong_values.

-- only with: truncate
-- First, so that it needs no lock but that of each row. What is kept and what is cut is the same text: one statement.
CREATE TABLE IF NOT EXISTS public.overlong_values (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name TEXT NOT NULL, row_id TEXT NOT NULL,
  column_name TEXT NOT NULL, full_text TEXT NOT NULL, cut_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());

WITH long AS (SELECT id, error_message AS full_text FROM public.jobs WHERE CHAR_LENGTH(error_message) > 2000 FOR UPDATE),
kept AS (INSERT INTO public.overlong_values (table_name, row_id, column_name, full_text)
  SELECT 'jobs', id, 'error_message', full_text FROM long RETURNING row_id, full_text)
UPDATE public.jobs t SET error_message = LEFT(kept.full_text, 2000) FROM kept WHERE t.id = kept.row_id;

WITH long AS (SELECT id, error_stack AS full_text FROM public.schedule_executions WHERE CHAR_LENGTH(error_stack) > 10000 FOR UPDATE),
kept AS (INSERT INTO public.overlong_values (table_name, row_id, column_name, full_text)
  SELECT 'schedule_executions', id, 'error_stack', full_text FROM long RETURNING row_id, full_text)
UPDATE public.schedule_executions t SET error_stack = LEFT(kept.full_text, 10000) FROM kept WHERE t.id = kept.row_id;

WITH long AS (SELECT id, reasoning AS full_text FROM public.healing_attempts WHERE CHAR_LENGTH(reasoning) > 2000 FOR UPDATE),
kept AS (INSERT INTO public.overlong_values (table_name, row_id, column_name, full_text)
  SELECT 'healing_attempts', id, 'reasoning', full_text FROM long RETURNING row_id, full_text)
UPDATE public.healing_attempts t SET reasoning = LEFT(kept.full_text, 2000) FROM kept WHERE t.id = kept.row_id;

-- Both columns at once: a row of which one is too long cannot be changed once there are limits.
WITH long AS (SELECT id, error_pattern, dismiss_reason FROM public.healing_suggestions
  WHERE CHAR_LENGTH(error_pattern) > 1000 OR CHAR_LENGTH(dismiss_reason) > 500 FOR UPDATE),
kept AS (INSERT INTO public.overlong_values (table_name, row_id, column_name, full_text)
  SELECT 'healing_suggestions', id, name, full_text FROM long CROSS JOIN LATERAL
    (VALUES ('error_pattern', error_pattern, 1000), ('dismiss_reason', dismiss_reason, 500)) AS v (name, full_text, most)
  WHERE CHAR_LENGTH(full_text) > most)
UPDATE public.healing_suggestions t
SET error_pattern = LEFT(long.error_pattern, 1000), dismiss_reason = LEFT(long.dismiss_reason, 500)
FROM long WHERE t.id = long.id;
-- end only
-- next transaction
-- From here on no longer value comes in. One that came since the look stays as it is, and stops the last step.
SET LOCAL lock_timeout = '2s';
DO $$
DECLARE here RECORD;
BEGIN
  FOR here IN SELECT * FROM (VALUES
      ('jobs', 'error_message', 2000), ('schedule_executions', 'error_stack', 10000),
      ('healing_attempts', 'reasoning', 2000), ('healing_suggestions', 'error_pattern', 1000),
      ('healing_suggestions', 'dismiss_reason', 500)) AS wanted (of, name, most)
    WHERE NOT EXISTS (SELECT FROM pg_constraint
      WHERE conrelid = to_regclass('public.' || of) AND conname = of || '_' || name || '_limit')
  LOOP
    EXECUTE format('ALTER TABLE public.%1$I ADD CONSTRAINT %2$I CHECK (char_length(%3$I) <= %4$s) NOT VALID',
      here.of, here.of || '_' || here.name || '_limit', here.name, here.most);
  END LOOP;
END
$$;
-- next transaction
SET LOCAL lock_timeout = '2s';
ALTER TABLE public.jobs VALIDATE CONSTRAINT jobs_error_message_limit;
ALTER TABLE public.schedule_executions VALIDATE CONSTRAINT schedule_executions_error_stack_limit;
ALTER TABLE public.healing_attempts VALIDATE CONSTRAINT healing_attempts_reasoning_limit;
ALTER TABLE public.healing_suggestions VALIDATE CONSTRAINT healing_suggestions_error_pattern_limit;
ALTER TABLE public.healing_suggestions VALIDATE CONSTRAINT healing_suggestions_dismiss_reason_limit;
