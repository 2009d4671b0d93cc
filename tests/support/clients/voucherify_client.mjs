// Drives the vendor's client for JavaScript: sends a file, waits for it, lists, and meets refusals. Prints what it got as JSON.
import { createRequire } from 'node:module'

const [folder, url, id, key, file] = process.argv.slice(2)
const require = createRequire(`${folder}/`)
const { VoucherifyServerSide } = require('@voucherify/sdk')
const PATIENCE = 60_000

const client = (secretKey) => VoucherifyServerSide({ applicationId: id, secretKey, apiUrl: url })
const refusal = (promise) =>
  promise.then(
    () => null,
    ({ code, key, message, details, request_id, resource_id, resource_type }) =>
      ({ code, key, message, details, request_id, resource_id, resource_type }),
  )

const voucherify = client(key)
const sent = await voucherify.customers.importCSV(file)
const deadline = Date.now() + PATIENCE
let action = await voucherify.asyncActions.get(sent.async_action_id)
while (!['DONE', 'FAILED'].includes(action.status) && Date.now() < deadline) {
  await new Promise((resolve) => setTimeout(resolve, 50))
  action = await voucherify.asyncActions.get(sent.async_action_id)
}
const listed = await voucherify.asyncActions.list({ limit: 1 })
const earlier = await voucherify.asyncActions.list({ limit: 5, end_date: action.created_at })
const unknown = await refusal(voucherify.asyncActions.get('aa_none'))
const unauthorized = await refusal(client('wrong').customers.importCSV(file))
console.log(JSON.stringify({ sent, action, listed, earlier, unknown, unauthorized }))
