-- 17 animals, three languages, three kinds; three of the files were uploaded again later and are not recorded.
SELECT 'pages' AS store, 'assets/' || animal || '/' || locale || '_' || file AS key, size_bytes,
       CASE key
         WHEN 'assets/lion/pl_preview.png' THEN TIMESTAMPTZ '2024-01-14 18:20:00Z'
         WHEN 'assets/cat/pl_preview.png'  THEN TIMESTAMPTZ '2024-01-14 09:05:00Z'
         WHEN 'assets/dog/pl_preview.png'  THEN TIMESTAMPTZ '2024-01-13 21:40:00Z'
         ELSE TIMESTAMPTZ '2024-01-02 12:00:00Z'
       END AS modified_at
FROM unnest(string_split('ant bear cat cow dog duck fox frog hen horse lion mouse owl pig seal tiger wolf', ' ')) AS a(animal)
CROSS JOIN (VALUES ('pl'), ('en'), ('de')) AS l(locale)
CROSS JOIN (VALUES ('preview.png', 180224), ('page.pdf', 412672), ('thumb.webp', 9216)) AS k(file, size_bytes)
