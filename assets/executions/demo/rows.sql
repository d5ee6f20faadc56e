INSERT INTO organizations VALUES
  ('org-default', 'Acme Billing', NULL), ('org-90', 'Northside Clinic', 90),
  ('org-730', 'Lakeview Dental', 730), ('org-2555', 'Union Hospital', 2555);
INSERT INTO workflows VALUES ('wf-1', 'Eligibility check');
INSERT INTO clients VALUES ('client-1', 'Northside Family Practice', '1999999984');
INSERT INTO credentials VALUES ('cred-1', 'Portal account A'), ('cred-2', 'Portal account B');
INSERT INTO claim_submissions VALUES ('claim-1', 'Test Patient', 'PT-0001');

-- Jobs 1 to 3 carry their whole result; job 4 still runs.
INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, result, created_at, started_at, completed_at)
SELECT id, organization, 'wf-1', 'COMPLETED', ARRAY['cred-1', 'cred-2'],
       JSONB_BUILD_OBJECT(
         'success', true,
         'stats', CAST('{"totalSteps": 3, "successfulSteps": 3, "failedSteps": 0, "duration": 300000}' AS jsonb),
         'stepResults', CAST('[{"stepIndex": 0, "success": true, "output": {"page": "login"}},
                               {"stepIndex": 1, "success": true, "output": {"page": "search", "hits": 1}},
                               {"stepIndex": 2, "success": true, "output": {"page": "detail", "eligible": true}}]' AS jsonb),
         'screenshots', (
           SELECT JSONB_AGG(JSONB_BUILD_OBJECT(
             'stepIndex', step,
             'url', 'https://acme.blob.core.windows.net/execution-screenshots/' || id || '/' || step || '.png',
             'width', 1280, 'height', 720, 'capturedAt', day || 'T10:0' || step || ':00Z') ORDER BY step)
           FROM (VALUES (0), (2)) AS shot(step))),
       CAST(day || ' 10:00:00Z' AS timestamptz), CAST(day || ' 10:00:00Z' AS timestamptz),
       CAST(day || ' 10:05:00Z' AS timestamptz)
FROM (VALUES
  ('job-0001', 'org-default', '2025-10-15'),
  ('job-0002', 'org-default', '2024-11-20'),
  ('job-0003', 'org-90',      '2025-08-03')
) AS done(id, organization, day);
INSERT INTO jobs (id, organization_id, workflow_id, status, credential_ids, created_at, started_at) VALUES
  ('job-0004', 'org-default', 'wf-1', 'RUNNING', ARRAY['cred-1'], '2025-12-04 23:50:00Z', '2025-12-04 23:50:00Z');

INSERT INTO execution_screenshots (id, job_id, step_index, url, width, height, captured_at)
SELECT 'shot-' || j.id || '-' || (shot ->> 'stepIndex'), j.id, CAST(shot ->> 'stepIndex' AS int), shot ->> 'url',
       1280, 720, CAST(shot ->> 'capturedAt' AS timestamptz)
FROM jobs j CROSS JOIN LATERAL JSONB_ARRAY_ELEMENTS(j.result -> 'screenshots') AS shot;

INSERT INTO execution_log_partitioned (id, job_id, step_index, step_name, level, message, metadata, timestamp, duration)
VALUES
  ('log-01', 'job-0001', 2, 'detail', 'INFO',  'step finished',   '{"attempt": 1}', '2025-10-31 23:59:59.999999Z', 1200),
  ('log-02', 'job-0001', 2, 'detail', 'INFO',  'result stored',   NULL,             '2025-11-01 00:00:00Z', 15),
  ('log-03', 'job-0001', 2, 'detail', 'DEBUG', 'result read back', NULL,            '2025-11-04 12:00:00Z', 9),
  ('log-04', 'job-0001', 0, 'login',  'INFO',  'step finished',   '{"attempt": 2}', '2025-10-01 00:00:00Z', 830),
  ('log-05', 'job-0002', 0, 'login',  'INFO',  'step finished',   NULL,             '2024-11-30 23:59:59Z', 640),
  ('log-06', 'job-0002', 1, 'search', 'WARN',  'page was slow',   NULL,             '2024-12-01 00:00:00Z', 9100),
  ('log-07', 'job-0003', 0, 'login',  'INFO',  'step finished',   NULL,             '2025-08-31 23:00:00Z', 701),
  ('log-08', 'job-0003', 1, 'search', 'ERROR', 'portal answered 502', '{"status": 502}', '2025-09-30 12:00:00Z', 30000),
  ('log-09', 'job-0004', 0, 'login',  'INFO',  'step started',    NULL,             '2025-12-04 23:55:00Z', NULL);

INSERT INTO phi_audit_logs VALUES
  ('phi-1', 'org-default', 'user-1', 'READ',   'claim', 'claim-1', '{}', '2025-06-10 09:00:00Z'),
  ('phi-2', 'org-default', 'user-1', 'UPDATE', 'claim', 'claim-1', '{}', '2025-06-11 09:00:00Z'),
  ('phi-3', 'org-90',      'user-2', 'READ',   'claim', 'claim-1', '{}', '2025-06-12 09:00:00Z'),
  ('phi-4', 'org-default', 'user-1', 'READ',   'claim', 'claim-1', '{}', '2025-11-30 09:00:00Z');

INSERT INTO execution_rag_context VALUES
  ('rag-1', 'job-0001', 'org-default', 42,
   '[{"payerName": "Delta Dental", "payerId": "DD-001", "scenario": "adult, PPO"}]',
   '[{"code": "59", "scenario": "distinct service"}, {"code": "25", "scenario": "separate evaluation"}]',
   '[{"ruleId": "R0", "ruleType": "coverage", "condition": "plan is PPO", "action": "check annual maximum",
      "wasUsed": true, "usedAtStepIndex": 1, "usedAtTimestamp": "2025-10-15T10:02:00Z", "usageReason": "plan matched",
      "retrievalScore": 0.92},
     {"ruleId": "R1", "ruleType": "coverage", "condition": "plan is HMO", "action": "check referral", "retrievalScore": 0.90},
     {"ruleId": "R2", "ruleType": "limit", "condition": "age < 19", "action": "check sealants", "retrievalScore": 0.88},
     {"ruleId": "R3", "ruleType": "limit", "condition": "crown", "action": "check replacement period", "retrievalScore": 0.86},
     {"ruleId": null, "ruleType": "note", "condition": "any", "action": "read remarks", "retrievalScore": 0.84}]',
   '2025-10-15 10:00:30Z');

INSERT INTO execution_metadata
SELECT 'meta-' || j.id, j.id, j.organization_id, 'wf-1', 'Eligibility check', 'client-1', 'Northside Family Practice',
       '1999999984', 'claim-1', 'Test Patient', 'PT-0001', 'cred-1', 'Portal account A', j.credential_ids,
       ARRAY['Portal account A', 'Portal account B'], 2, 'COMPLETED', 100.00, 3, 3, j.created_at, 300000
FROM jobs j WHERE j.status = 'COMPLETED';

INSERT INTO healing_attempts VALUES
  ('ha-1', REPEAT('r', 2001), '2025-10-15 10:03:00Z'), ('ha-2', REPEAT('r', 2000), '2025-10-15 10:04:00Z');
