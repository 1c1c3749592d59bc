// Talks to the server that has served this page, and to no other. There is nothing here that any client could not do.

export const base = new URL('../v1/', location.href);
const KEPT = 2_000_000; // characters of a conversation: browsers keep some five million for a page

/** What this tab keeps until it is closed. Nothing outlives it: tomorrow another program may listen on this port. */
export const tab = {
	get: (name) => stored((storage) => storage.getItem(name)) ?? '',
	set: (name, value) => stored((storage) => storage.setItem(name, value)),
};

function stored(use) {
	try {
		return use(sessionStorage);
	} catch {
		return ''; // a browser may keep nothing at all, or have no room left
	}
}

/** Keeps the turns of a conversation, the newest ones if they are too many. Files are not kept. */
export function keepChat(chat, turns) {
	const text = (value) => JSON.stringify(value, (name, one) => (isData(one) ? null : one));
	const kept = [];
	let left = KEPT;
	for (const turn of turns.toReversed().map(text)) if ((left -= turn.length) > 0) kept.unshift(turn);
	tab.set('chat', `{"chat": ${text(chat)}, "turns": [${kept}]}`);
}

export const isData = (value) => typeof value === 'string' && value.length > 2000 && value.startsWith('data:');

/** What went wrong: a message, and `code`, `param`, `status`, `request` as far as they are known. */
const failure = (message, details) => Object.assign(new Error(message), details);
export const lost = () => failure('The connection was lost; the answer above is not whole.', { code: 'connection_lost' });
const silent = () => failure('The server does not answer. Is it still running?', { code: 'no_connection' });

/** In place of the browser's error, unless that says that the user has stopped it. */
const unlessStopped = (instead) => (error) => {
	throw error.name === 'AbortError' ? error : instead();
};

/** A request to a path below /v1/, with a body if it is given one. Throws what the server says of it. */
export async function call(path, body, signal) {
	const key = tab.get('key');
	if (/[^\x21-\x7e]/.test(key)) throw failure('This cannot be an API key: it has other letters than keys have.', { status: 401 });
	const headers = { 'Content-Type': 'application/json', ...(key && { Authorization: `Bearer ${key}` }) };
	const init = { method: body ? 'POST' : 'GET', headers, body: JSON.stringify(body), signal, credentials: 'omit' };
	const answer = await fetch(new URL(path, base), init).catch(unlessStopped(silent));
	if (answer.ok) return answer;
	const { status } = answer;
	const { error } = await answer.json().catch(() => ({})); // it may be a proxy's own page
	const { message = `The server answered ${status}.`, code, param } = error ?? {};
	throw failure(message, { code, param, status, request: answer.headers.get('x-request-id') });
}

export async function* events(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let parts = []; // of the event that is still to end: a picture comes in many
	for (;;) {
		const { done, value } = await reader.read().catch(unlessStopped(lost));
		if (done) return;
		parts.push(value);
		if (!value.includes('\n')) continue;
		const blocks = parts.join('').split('\n\n');
		parts = [blocks.pop()];
		for (const block of blocks) {
			const [, data] = /^data:(.*)/ms.exec(block) ?? []; // one line: so this server writes them
			if (data && data.trim() !== '[DONE]') yield JSON.parse(data);
		}
	}
}
