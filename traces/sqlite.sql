-- What the traced sqlite3 was asked to do; see README.md.
CREATE TABLE item(id INTEGER PRIMARY KEY, key INTEGER, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400)
INSERT INTO item SELECT i, i*7919%397, 'name of item '||(i*31%97) FROM n;
CREATE INDEX by_key ON item(key);
SELECT count(*), max(length(a.name)) FROM item a JOIN item b ON b.key=a.id;
SELECT name, count(*) FROM item GROUP BY name ORDER BY 2 DESC, 1 LIMIT 5;
DELETE FROM item WHERE key%3=0;
SELECT count(*), sum(key) FROM item;
