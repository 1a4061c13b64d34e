// Uploads a file and reads it back with the types that openapi-typescript makes of the OpenAPI document:
// node generated.mjs URL AUTHORIZATION USER
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const [baseUrl, authorization, user] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: authorization } });
const content = Uint8Array.from({ length: 50000 }, (_, index) => index % 251);

function check(condition: boolean, what: unknown): asserts condition {
  if (!condition) throw new Error(`not as expected: ${JSON.stringify(what)}`);
}

function same(bytes: ArrayBuffer, expected: Uint8Array): boolean {
  const read = new Uint8Array(bytes);
  return read.length === expected.length && read.every((byte, index) => byte === expected[index]);
}

const health = await client.GET("/media/health");
check(health.data?.mode === "mongo", health);

const created = await client.POST("/media/files", {
  body: { file: "", referenceType: "user", referenceId: user, title: "Notes", isPublic: false },
  bodySerializer(fields) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields ?? {})) if (name !== "file") form.set(name, String(value));
    form.set("file", new Blob([content]), "notes.bin");
    return form;
  },
});
check(created.response.status === 201, created.error);
const record: components["schemas"]["MediaStorage"] = created.data!;
check(record.fileSize === content.length && record.title === "Notes", record);
const path = { media_id: record.id! };

const whole = await client.GET("/media/files/{media_id}/content", { params: { path }, parseAs: "arrayBuffer" });
check(same(whole.data!, content), whole.response.status);
const piece = await client.GET("/media/files/{media_id}/content", {
  params: { path, header: { Range: "bytes=10-19" } },
  parseAs: "arrayBuffer",
});
check(piece.response.status === 206 && same(piece.data!, content.slice(10, 20)), piece.response.status);

const replaced = await client.PUT("/media/files/{media_id}/content", {
  params: { path },
  headers: { "Content-Type": "application/octet-stream" },
  body: "",
  bodySerializer: () => new Blob([content.slice(0, 99)]),
});
check(replaced.data?.fileSize === 99, replaced.error);
const listed = await client.GET("/media/files", { params: { query: { referenceType: "user", referenceId: user } } });
check(listed.data?.items?.length === 1 && listed.data.items[0].id === record.id, listed);

const removed = await client.DELETE("/media/files/{media_id}", { params: { path } });
check(removed.response.status === 204, removed.error);
const missing = await client.GET("/media/files/{media_id}", { params: { path } });
check(missing.response.status === 404 && missing.error?.code === 404, missing);

console.log("what was uploaded came back");
