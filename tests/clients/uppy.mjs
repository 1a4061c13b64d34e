// The Dashboard of Uppy, in Chromium: a file is chosen, and its button is clicked.
import { content, origin, recordOf, report, require, token, video } from './check.mjs'

const { chromium } = require('playwright-core')
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] })
const page = await browser.newPage()
const requests = {}
page.on('request', (request) => {
  if (!request.url().includes('/media/uploads')) return
  requests[request.method()] = (requests[request.method()] ?? 0) + 1
})
const start = Date.now()
await page.goto(`${origin}/uppy#${encodeURIComponent(token)}`)
await page.setInputFiles('.uppy-Dashboard-input >> nth=0', video)
await page.click('.uppy-StatusBar-actionBtn--upload')
await page.waitForFunction(() => window.uploaded, null, { timeout: 120_000 })
const { failed, urls } = await page.evaluate(() => window.uploaded)
await browser.close()
if (failed.length || urls.length !== 1) throw new Error(`failed: ${failed}`)
const record = await recordOf(new URL(urls[0], origin))
report('Uppy Dashboard in Chromium', start, `same SHA-256 of ${content.length} bytes, "${record.title}", ${JSON.stringify(requests)}`)
