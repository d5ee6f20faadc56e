-- Every row has its object; the last object has no row.
SELECT 'reports' AS store, 'reports/' || file AS key, size_bytes, modified_at
FROM (VALUES
  ('fallback_1754968421525_o3gbze/asset_1754968422257_eyu1cwp2t.pdf',  248113, TIMESTAMPTZ '2025-08-12 03:13:42Z'),
  ('fallback_1754968421525_o3gbze/asset_1754968422443_t7ahihtre.html',  61204, TIMESTAMPTZ '2025-08-12 03:13:42Z'),
  ('fallback_1754968866964_owoiqx/asset_1754968867751_5tym7faoq.pdf',  251920, TIMESTAMPTZ '2025-08-12 03:21:07Z'),
  ('fallback_1754968866964_owoiqx/asset_1754968867989_yn16wr3xm.html',  62018, TIMESTAMPTZ '2025-08-12 03:21:07Z'),
  ('fallback_1755035925041_76rwmq/asset_1755035926033_o8ug1nuyk.pdf',  250377, TIMESTAMPTZ '2025-08-12 21:58:46Z'),
  ('fallback_1755035925041_76rwmq/asset_1755035926267_rf75hl6tg.html',  61877, TIMESTAMPTZ '2025-08-12 21:58:46Z'),
  ('fallback_1754700000000_aaaaaa/asset_1754700000801_aaaaaaaa1.pdf',  198450, TIMESTAMPTZ '2025-08-09 00:40:00Z'),
  ('fallback_1754700000000_aaaaaa/asset_1754700001002_aaaaaaaa2.html',  48210, TIMESTAMPTZ '2025-08-09 00:40:01Z'),
  ('fallback_1754800000000_bbbbbb/asset_1754800000801_bbbbbbbb1.pdf',  301744, TIMESTAMPTZ '2025-08-10 04:26:40Z'),
  ('fallback_1754800000000_bbbbbb/asset_1754800001002_bbbbbbbb2.html',  70981, TIMESTAMPTZ '2025-08-10 04:26:41Z'),
  ('fallback_1754900000000_cccccc/asset_1754900000801_cccccccc1.pdf',  299012, TIMESTAMPTZ '2025-08-11 08:13:20Z'),
  ('fallback_1754600000000_dddddd/asset_1754600000801_dddddddd1.pdf',  187300, TIMESTAMPTZ '2025-08-07 20:53:20Z')
) AS object(file, size_bytes, modified_at)
