// Drives Better Auth's client: signs in, asks who that is, imports by the cookie, meets refusals, signs out. Prints what it got as JSON.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [folder, url, email, password, file] = process.argv.slice(2)
const require = createRequire(`${folder}/`)
const { createAuthClient } = await import(pathToFileURL(require.resolve('better-auth/client')))
const { readFileSync } = require('node:fs')

// What a browser keeps: this client leaves the cookies to it, and node keeps none.
let cookie = ''
const auth = createAuthClient({
  baseURL: url,
  fetchOptions: {
    onRequest: (context) => {
      if (cookie) context.headers.set('cookie', cookie)
    },
    onResponse: ({ response }) => {
      for (const set of response.headers.getSetCookie()) cookie = set.split(';')[0]
    },
  },
})
const imported = async (content, headers = {}) => {
  const options = { method: 'POST', headers: { cookie, 'Content-Type': 'application/json', ...headers }, body: JSON.stringify({ content }) }
  const response = await fetch(`${url}/api/customers/import`, options)
  return { status: response.status, batch: response.headers.get('x-batch-id'), body: await response.json() }
}

const content = readFileSync(file, 'utf8')
const before = await auth.getSession()
const anonymous = await imported(content)
const wrong = await auth.signIn.email({ email, password: `${password}?` })
const unknown = await auth.signIn.email({ email: `x${email}`, password })
const odd = await auth.signIn.email({ email: 'nobody', password })
const signedIn = await auth.signIn.email({ email, password })
const session = await auth.getSession()
const dates = [session.data.session.expiresAt, session.data.user.createdAt].every((date) => date instanceof Date)
const done = await imported(content)
const foreign = await imported(content, { Origin: 'https://elsewhere.example' })
const kept = cookie
const signedOut = await auth.signOut()
const emptied = cookie
cookie = kept
const after = await auth.getSession()
const late = await imported(content)
console.log(
  JSON.stringify({ before, anonymous, wrong, unknown, odd, signedIn, session, dates, done, foreign, signedOut, emptied, after, late }),
)
