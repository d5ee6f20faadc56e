// D1 as Cloudflare runs it on a developer's machine (workerd), behind the paths of its HTTP API.
// node d1_engine.mjs <port>
import { createRequire } from "node:module";

const { Miniflare } = createRequire(import.meta.url)("miniflare");
const script = `
let written = 0;
export default {
  async fetch(request, env) {
    if (new URL(request.url).pathname.endsWith("/time_travel/bookmark"))
      return Response.json({ success: true, result: { bookmark: String(written) } });
    try {
      const asked = (await request.json()).batch;
      const done = await env.DB.batch(asked.map((one) => env.DB.prepare(one.sql).bind(...(one.params ?? []))));
      written += done.reduce((sum, one) => sum + Number(one.meta.changed_db), 0);
      const result = done.map(({ meta, results }) => ({
        success: true,
        meta,
        results: { columns: Object.keys(results[0] ?? {}), rows: results.map((row) => Object.values(row)) },
      }));
      return Response.json({ success: true, errors: [], messages: [], result });
    } catch (error) {
      return Response.json({ success: false, errors: [{ code: 7500, message: error.message }] }, { status: 400 });
    }
  },
};`;
const server = new Miniflare({
  modules: true,
  script,
  d1Databases: { DB: "live" },
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  compatibilityDate: "2026-01-01",
});
await server.ready;
