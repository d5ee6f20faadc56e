-- Lets code that does not know the limits of add_varchar_limits go on: a longer value is stored cut to its limit, and
-- its full text is kept in table overlong_values. One trigger a column, which does nothing where the value fits.
-- applied when: SELECT COUNT(*) = 5 FROM pg_trigger WHERE tgenabled <> 'D'
--   AND tgfoid = to_regprocedure('public.keep_and_cut()') AND (tgrelid, tgname) IN (
--   (to_regclass('public.jobs'), 'cut_error_message'), (to_regclass('public.schedule_executions'), 'cut_error_stack'),
--   (to_regclass('public.healing_attempts'), 'cut_reasoning'),
--   (to_regclass('public.healing_suggestions'), 'cut_error_pattern'),
--   (to_regclass('public.healing_suggestions'), 'cut_dismiss_reason'))
-- refuse when: SELECT EXISTS (SELECT FROM pg_proc WHERE oid = to_regprocedure('public.keep_and_cut()')
--   AND prorettype <> 'trigger'::regtype)
--   -- a function public.keep_and_cut() of another kind is there. Nothing was changed; rename it first.
-- option triggers: cuts what the application writes too long from now on, instead of refusing it.
-- waits for: triggers
SET LOCAL lock_timeout = '2s';

CREATE TABLE IF NOT EXISTS public.overlong_values (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name TEXT NOT NULL, row_id TEXT NOT NULL,
  column_name TEXT NOT NULL, full_text TEXT NOT NULL, cut_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());

-- Runs as its owner: the application's role needs no right on overlong_values. Column and limit come from the trigger.
CREATE OR REPLACE FUNCTION public.keep_and_cut() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  full_text text := to_jsonb(NEW) ->> TG_ARGV[0];
BEGIN
  INSERT INTO public.overlong_values (table_name, row_id, column_name, full_text)
  VALUES (TG_TABLE_NAME, to_jsonb(NEW) ->> 'id', TG_ARGV[0], full_text);
  RETURN jsonb_populate_record(NEW, jsonb_build_object(TG_ARGV[0], left(full_text, TG_ARGV[1]::int)));
END
$$;
REVOKE ALL ON FUNCTION public.keep_and_cut() FROM PUBLIC;

CREATE OR REPLACE TRIGGER cut_error_message BEFORE INSERT OR UPDATE ON public.jobs
  FOR EACH ROW WHEN (CHAR_LENGTH(NEW.error_message) > 2000) EXECUTE FUNCTION public.keep_and_cut('error_message', 2000);
CREATE OR REPLACE TRIGGER cut_error_stack BEFORE INSERT OR UPDATE ON public.schedule_executions
  FOR EACH ROW WHEN (CHAR_LENGTH(NEW.error_stack) > 10000) EXECUTE FUNCTION public.keep_and_cut('error_stack', 10000);
CREATE OR REPLACE TRIGGER cut_reasoning BEFORE INSERT OR UPDATE ON public.healing_attempts
  FOR EACH ROW WHEN (CHAR_LENGTH(NEW.reasoning) > 2000) EXECUTE FUNCTION public.keep_and_cut('reasoning', 2000);
CREATE OR REPLACE TRIGGER cut_error_pattern BEFORE INSERT OR UPDATE ON public.healing_suggestions
  FOR EACH ROW WHEN (CHAR_LENGTH(NEW.error_pattern) > 1000) EXECUTE FUNCTION public.keep_and_cut('error_pattern', 1000);
CREATE OR REPLACE TRIGGER cut_dismiss_reason BEFORE INSERT OR UPDATE ON public.healing_suggestions
  FOR EACH ROW WHEN (CHAR_LENGTH(NEW.dismiss_reason) > 500) EXECUTE FUNCTION public.keep_and_cut('dismiss_reason', 500);
