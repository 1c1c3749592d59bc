// Talks to the server that has served this page, and to no other. There is nothing here that any client could not do.

export const base = new URL('../v1/', location.href);
const KEPT = 2_000_000; // characters of a conversation: browsers keep some five million for a page

/** What this tab keeps until it is closed: the key, the settings, the conversation. Nothing outlives the tab, for
 * tomorrow another program may listen on this port, and its pages would read it. */
export const tab = {
  get(name) {
    try {
      return sessionStorage.getItem(name) ?? '';
    } catch {
      return ''; // a browser may keep nothing at all
    }
  },
  set(name, value) {
    try {
      sessionStorage.setItem(name, value);
    } catch {
      // or have no room left: the page goes on without
    }
  },
};

/** Keeps the turns of a conversation, the newest ones if they are too many. Files are not kept. */
export function keepChat(chat, turns) {
  const text = (value) => JSON.stringify(value, (name, one) => (isData(one) ? null : one));
  const kept = [];
  let left = KEPT;
  for (const turn of turns.toReversed().map(text)) if ((left -= turn.length) > 0) kept.unshift(turn);
  tab.set('chat', `{"chat": ${text(chat)}, "turns": [${kept}]}`);
}

export const isData = (value) => typeof value === 'string' && value.length > 2000 && value.startsWith('data:');

export class Failure extends Error {
  constructor(message, details = {}) {
    super(message);
    Object.assign(this, details);
  }
}

/** A request to a path below /v1/. Throws a Failure, which has what the server says of it. */
export async function call(path, init = {}) {
  const key = tab.get('key');
  const headers = { ...init.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  if (/[^\x21-\x7e]/.test(key)) throw new Failure('This cannot be an API key: it has other letters than keys have.', { status: 401 });
  let answer;
  try {
    answer = await fetch(new URL(path, base), { ...init, headers, credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Failure('The server does not answer. Is it still running?', { code: 'no_connection' });
  }
  if (answer.ok) return answer;
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // a proxy's own page
  }
  throw new Failure(error.message ?? `The server answered ${answer.status}.`, {
    code: error.code,
    param: error.param,
    status: answer.status,
    request: answer.headers.get('x-request-id'),
  });
}

/** The events of a stream. Throws a Failure if the connection is lost. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = []; // of the event that is still to end: a picture comes in many, which are looked through once
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Failure('The connection was lost; the answer above is not whole.', { code: 'connection_lost' });
    }
    if (piece.done) return;
    parts.push(piece.value);
    const seam = (parts.at(-2)?.slice(-1) ?? '') + piece.value;
    if (!seam.includes('\n\n')) continue;
    const blocks = parts.join('').split('\n\n');
    parts = [blocks.pop()];
    for (const block of blocks) {
      const lines = block.split('\n').filter((line) => line.startsWith('data:'));
      const data = lines.map((line) => line.slice(5)).join('\n');
      if (data && data.trim() !== '[DONE]') yield JSON.parse(data);
    }
  }
}
