// tus-js-client in Node: requests of 256 KiB, creation with upload, three parallel parts, abort and resume, terminate.
import { chunkSize, content, head, headers, origin, recordOf, report, require } from './check.mjs'

const tus = require('tus-js-client')
const metadata = { kind: 'course-videos', mongoCourseId: '1', filename: 'bunny.mp4', filetype: 'video/mp4' }

function upload(options = {}) {
  const requests = {}
  let made
  const done = new Promise((resolve, reject) => {
    made = new tus.Upload(content, {
      endpoint: `${origin}/media/uploads`,
      headers,
      metadata,
      chunkSize,
      retryDelays: [100, 500, 1000, 3000, 5000],
      onBeforeRequest: (request) => {
        requests[request.getMethod()] = (requests[request.getMethod()] ?? 0) + 1
      },
      onSuccess: (payload) => resolve(payload),
      onError: reject,
      ...options,
    })
  })
  return { made, done, requests }
}

async function whole(name, options) {
  const start = Date.now()
  const { made, done, requests } = upload(options)
  made.start()
  await done
  await recordOf(made.url)
  report(name, start, `same SHA-256, ${JSON.stringify(requests)}`)
}

// Starts an upload and aborts it when half of it is sent.
function half(terminate) {
  return new Promise((resolve, reject) => {
    const { made, done } = upload({
      onChunkComplete: async (size, accepted) => {
        if (accepted < content.length / 2 || made.stopped) return
        made.stopped = true
        await made.abort(terminate)
        resolve(made)
      },
    })
    done.catch(reject)
    made.start()
  })
}

// By what the client is asked to do.
const actions = {
  async upload() {
    await whole('256 KiB chunks')
    await whole('creation with upload', { uploadDataDuringCreation: true })
    await whole('one request', { chunkSize: Infinity })
    await whole('PATCH by POST', { overridePatchMethod: true })
    await whole('3 parallel parts', { parallelUploads: 3 })
  },
  async resume() {
    let start = Date.now()
    const aborted = await half(false)
    const offset = (await head(aborted.url)).headers.get('Upload-Offset')
    const { made, done, requests } = upload({ uploadUrl: aborted.url })
    made.start()
    await done
    await recordOf(aborted.url)
    const more = `resumed at ${offset} of ${content.length}, ${JSON.stringify(requests)}`
    report('abort and resume', start, `same SHA-256, ${more}`)

    start = Date.now()
    const terminated = await half(true)
    const { status } = await head(terminated.url)
    if (status !== 404) throw new Error(`still there: ${status}`)
    report('terminate', start, `HEAD afterwards ${status}`)
  },
}
await actions[process.argv[2]]()
