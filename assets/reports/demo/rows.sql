-- M4A4SSPV: three complete deliveries. B2SINGLE: one. C8NOHTML: its newest delivery has no HTML.
INSERT INTO profiles (tracking_id, company_name, created_at) VALUES
  ('M4A4SSPV', 'Meridian Foods',  '2025-08-12 03:10:00'),
  ('B2SINGLE', 'Brightside Labs', '2025-08-09 00:30:00'),
  ('C8NOHTML', 'Corvus Logistics', '2025-08-10 04:20:00');
INSERT INTO report_assets (id, tracking_id, delivery_id, file_type, size_bytes, created_at) VALUES
  ('asset_1754968422257_eyu1cwp2t', 'M4A4SSPV', 'fallback_1754968421525_o3gbze', 'pdf',  248113, '2025-08-12 03:13:42'),
  ('asset_1754968422443_t7ahihtre', 'M4A4SSPV', 'fallback_1754968421525_o3gbze', 'html',  61204, '2025-08-12 03:13:42'),
  ('asset_1754968867751_5tym7faoq', 'M4A4SSPV', 'fallback_1754968866964_owoiqx', 'pdf',  251920, '2025-08-12 03:21:07'),
  ('asset_1754968867989_yn16wr3xm', 'M4A4SSPV', 'fallback_1754968866964_owoiqx', 'html',  62018, '2025-08-12 03:21:07'),
  ('asset_1755035926033_o8ug1nuyk', 'M4A4SSPV', 'fallback_1755035925041_76rwmq', 'pdf',  250377, '2025-08-12 21:58:46'),
  ('asset_1755035926267_rf75hl6tg', 'M4A4SSPV', 'fallback_1755035925041_76rwmq', 'html',  61877, '2025-08-12 21:58:46'),
  ('asset_1754700000801_aaaaaaaa1', 'B2SINGLE', 'fallback_1754700000000_aaaaaa', 'pdf',  198450, '2025-08-09 00:40:00'),
  ('asset_1754700001002_aaaaaaaa2', 'B2SINGLE', 'fallback_1754700000000_aaaaaa', 'html',  48210, '2025-08-09 00:40:01'),
  ('asset_1754800000801_bbbbbbbb1', 'C8NOHTML', 'fallback_1754800000000_bbbbbb', 'pdf',  301744, '2025-08-10 04:26:40'),
  ('asset_1754800001002_bbbbbbbb2', 'C8NOHTML', 'fallback_1754800000000_bbbbbb', 'html',  70981, '2025-08-10 04:26:41'),
  ('asset_1754900000801_cccccccc1', 'C8NOHTML', 'fallback_1754900000000_cccccc', 'pdf',  299012, '2025-08-11 08:13:20');
