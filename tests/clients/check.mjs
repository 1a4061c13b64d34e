// What the client needs: the video, the token, and a look at what the server made of an upload.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

export const { ORIGIN: origin, TOKEN: token, VIDEO: video, NPM_DIRECTORY } = process.env
export const require = createRequire(`${NPM_DIRECTORY}/`)
export const headers = { Authorization: token }
export const content = readFileSync(video)
export const chunkSize = 256 * 1024

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex')

export const head = (url) => fetch(url, { method: 'HEAD', headers: { ...headers, 'Tus-Resumable': '1.0.0' } })

// The record that an upload has become, if its bytes are those of the video.
export async function recordOf(url) {
  const answer = await head(url)
  const location = answer.headers.get('Content-Location')
  const record = await (await fetch(origin + location, { headers })).json()
  const bytes = Buffer.from(await (await fetch(`${origin}${location}/content`, { headers })).arrayBuffer())
  if (digest(bytes) !== digest(content) || record.checksum !== digest(content)) throw new Error('other bytes')
  return record
}

export function report(name, start, more) {
  console.log(`${name.padEnd(34)} ${((Date.now() - start) / 1000).toFixed(1).padStart(5)} s  ${more}`)
}
