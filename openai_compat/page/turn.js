// One turn: a request, and its answer as it comes. What of it can be kept as JSON is in `record`.
import { onEvent, toggle } from './inspect.js';
import { Markdown, button, copyButton, el, link } from './nodes.js';
import { again, canEdit, follow, goOn, start, turns } from './page.js';
import { call, events, lost } from './wire.js';

const WAITING = 'Waiting for the agent';
const seconds = (ms) => `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
const short = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
const textOf = (parts) => (parts ?? []).map((part) => part.text ?? part.refusal ?? '').join('\n\n');
const mono = (text) => el('pre', { tabIndex: 0 }, text);

function read(text) {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}
const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const pretty = (text = '') => (read(text) === undefined ? text : JSON.stringify(read(text), null, 2));
const fieldsOf = (text) => (isObject(read(text)) ? Object.entries(read(text)) : text ? [['arguments', text]] : []);

/** How the items of an answer are shown, by type: `add` takes deltas, `done` the item, `partial` is what came of one cut off. */
const SHOWN = {
	message(turn, item) {
		const words = new Markdown(follow);
		turn.put(words.node);
		return {
			add(delta, at) {
				turn.record.first ??= at;
				turn.now('');
				words.add(delta);
			},
			done({ content }) {
				const parts = content ?? [];
				if (!words.text) words.add(textOf(parts));
				if (parts.some(({ type }) => type === 'refusal')) words.node.classList.add('refusal');
				const cited = parts.flatMap(({ annotations }) => annotations ?? []).filter(({ url }) => /^https?:/.test(url));
				const sources = cited.map(({ url, title }) => el('li', link(url, title || url)));
				if (cited.length) turn.put(el('ol.cited', { ariaLabel: 'Sources' }, ...sources));
			},
			partial: () => words.text && { ...item, content: [{ type: 'output_text', text: words.text }] },
		};
	},

	reasoning(turn) {
		const thoughts = new Markdown(follow);
		const head = el('span', 'Thinking');
		const node = turn.put(el('details.think', { open: true }, el('summary', head), thoughts.node));
		turn.now('');
		return {
			add: (delta) => thoughts.add(delta),
			done({ summary, content }, took) {
				if (!thoughts.text) thoughts.add(textOf([...(summary ?? []), ...(content ?? [])]));
				head.textContent = took ? `Thought for ${took}` : 'Thoughts';
				node.open = false;
				turn.now(WAITING);
			},
		};
	},

	mcp_call(turn, { name }) {
		const peek = el('span.peek');
		const state = el('span.state', el('span.dot'), 'running');
		const node = turn.put(el('details.tool', el('summary', el('b', name), peek, state)));
		turn.now(`Running ${name}`);
		return {
			add: (delta) => peek.append(delta),
			done({ arguments: given, output, error, status }, took) {
				// In the error's object is what the tool said.
				const said = error && (error.content ? textOf(error.content) : short(error));
				const word = error ? 'failed' : status === 'incomplete' ? 'not run' : '';
				peek.textContent = fieldsOf(given).map(([field, value]) => `${field}: ${short(value)}`).join(', ');
				state.textContent = [word, took].filter(Boolean).join(', ') || 'done';
				if (error) state.classList.add('bad');
				node.append(el('h3', 'Arguments'), mono(pretty(given)), el('h3', error ? 'Error' : 'Result'), mono(said || pretty(output ?? '')));
				turn.now(WAITING);
			},
		};
	},

	mcp_approval_request: (turn) => ({ done: (item) => turn.ask(item) }),
	function_call: (turn) => ({ done: (item) => turn.askForResult(item) }),
	custom_tool_call: (turn) => ({ done: (item) => turn.askForResult(item) }),

	image_generation_call: (turn) => ({
		done({ result, output_format: format }) {
			const type = format === 'svg' ? 'svg+xml' : (format ?? 'png');
			turn.put(el('img', { alt: 'Picture made by the agent', src: `data:image/${type};base64,${result ?? ''}` }));
		},
	}),

	other: (turn, { type }) => ({
		done: (item) => turn.put(el('details.tool', el('summary', el('b', type)), mono(JSON.stringify(item, null, 2)))),
	}),
};

export class Turn {
	wire = []; // the events, each with the time it came
	abort = new AbortController();
	items = new Map(); // what is shown of each output item, by its index
	speech = '';
	label = el('span');
	clock = el('span.num', { 'aria-hidden': 'true' });
	work = el('div.work', el('span.dot'), this.label, this.clock);

	constructor(record) {
		this.record = record;
		const asked = record.input.filter(({ role }) => role === 'user').map(bubble);
		this.node = el('section.turn', el('h2.sr', `Turn ${turns.length + 1}`), ...asked, el('p.note', el('b', record.model)));
	}

	put(node) {
		this.node.insertBefore(node, this.work.parentNode && this.work);
		follow();
		return node;
	}

	async run() {
		const { record } = this;
		this.began = performance.now();
		this.node.append(this.work);
		this.now(WAITING);
		const ticking = setInterval(() => this.tick(), 1000);
		try {
			const answer = await call('responses', record.request, this.abort.signal);
			record.requestId = answer.headers.get('x-request-id');
			for await (const event of events(answer.body)) this.on(event);
			if (!record.status && !record.error) throw lost();
		} catch (error) {
			if (error.name === 'AbortError') record.stopped = true;
			else this.fail(error);
		}
		clearInterval(ticking);
		record.total = performance.now() - this.began;
		record.output = [...this.items.values()].map((view) => view.item ?? view.partial?.()).filter(Boolean);
		this.work.remove();
		this.close();
	}

	restore() {
		this.record.output.forEach((item, index) => this.done(index, item));
		this.close();
	}

	/** Says what is going on, and for how long. */
	now(text) {
		this.label.textContent = text;
		this.since = performance.now();
		this.tick();
	}

	tick() {
		const passed = Math.floor((performance.now() - this.since) / 1000);
		this.clock.textContent = passed ? `${passed} s` : '';
	}

	on(event) {
		const { type, item, output_index: index, delta, response } = event;
		const at = performance.now() - this.began;
		this.wire.push([at, event]);
		onEvent(this, at, event);
		const told = event.event?.data; // the agent's progress, in words
		if (told?.description) this.now(told.done ? '' : told.description);
		if (type === 'response.output_item.added') this.add(index, item);
		else if (type === 'response.output_item.done') this.done(index, item);
		else if (type === 'response.audio.delta') this.speech += delta;
		else if (type === 'response.audio.done') {
			this.put(el('audio', { controls: true, src: `data:audio/mpeg;base64,${this.speech}` })); // browsers look what it is
		} else if (type.endsWith('.delta')) this.items.get(index)?.add?.(delta, at);
		else if (type === 'error') this.fail(event.error ?? event);
		else if (/^response\.(completed|incomplete|failed)$/.test(type)) {
			const { status, usage, incomplete_details: cut, error, id } = response;
			Object.assign(this.record, { status, usage, cut: cut?.reason, response: id });
			if (status === 'failed') this.fail(error ?? {});
		}
	}

	add(index, item) {
		const view = (SHOWN[item.type] ?? SHOWN.other)(this, item);
		view.began = performance.now();
		this.items.set(index, view);
		return view;
	}

	/** Shows an item that is done; it may not have been seen to begin. */
	done(index, item) {
		const view = this.items.get(index) ?? this.add(index, item);
		view.item = item;
		view.done(item, this.began === undefined ? '' : seconds(performance.now() - view.began));
	}

	/** A card for a question. It takes the focus, and never one of its buttons: who types on must not have allowed something. */
	card(id, title, ...content) {
		const card = el('div.ask', { role: 'group', tabIndex: -1, 'aria-label': title.textContent }, title, ...content);
		card.dataset.id = id;
		this.put(card);
		const told = this.record.answered?.[id];
		if (told) this.settle(card, told);
		return card;
	}

	ask({ id, name, arguments: given }) {
		const fields = fieldsOf(given).flatMap(([field, value]) => [el('dt', field), el('dd', short(value))]);
		const reason = el('input', { placeholder: 'Reason, if you deny', 'aria-label': 'Reason for denying' });
		const changed = el('textarea.mono', { 'aria-label': 'Arguments', spellcheck: false, rows: 6, hidden: true });
		const problem = el('p.bad', { role: 'alert' });
		const decide = (told, approve, more) =>
			this.answer(card, `${told} ${name}`, { type: 'mcp_approval_response', approval_request_id: id, approve, ...more });
		const allow = (told, more) => {
			const isWrong = !changed.hidden && isObject(read(given)) && !isObject(read(changed.value));
			problem.textContent = isWrong ? 'This is no JSON object.' : '';
			if (!isWrong) decide(told, true, { ...more, ...(!changed.hidden && { arguments: changed.value }) });
		};
		const edit = button(() => {
			changed.value = pretty(given);
			[changed.hidden, edit.hidden] = [false, true];
			changed.focus();
		}, '', 'Edit');
		edit.hidden = !canEdit(this.record.model);
		const buttons = [
			button(() => allow('You allowed'), 'primary', 'Allow once'),
			button(() => allow('You allowed for always:', { always: true }), '', 'Always allow'),
			edit,
			button(() => decide('You denied', false, reason.value && { reason: reason.value }), '', 'Deny'),
		];
		const title = el('h3', 'May the agent run ', el('code', name), '?');
		const card = this.card(id, title, el('dl', ...fields), changed, problem, el('div.row', ...buttons, reason));
	}

	askForResult({ type, call_id: id, name, arguments: given, input }) {
		const field = el('textarea.mono', { rows: 2, 'aria-label': `Result of ${name}`, placeholder: 'What your tool returns' });
		const result = () => ({ type: card.dataset.type, call_id: id, output: field.value });
		const send = button(() => this.answer(card, `You answered for ${name}: ${field.value}`, result()), 'primary', 'Send the result');
		const title = el('h3', 'The agent calls your tool ', el('code', name));
		const card = this.card(id, title, mono(pretty(given ?? input)), field, send);
		card.dataset.type = `${type}_output`;
	}

	settle(card, told) {
		card.classList.add('settled');
		card.replaceChildren(told);
		this.record.answered = { ...this.record.answered, [card.dataset.id]: told };
	}

	answer(card, told, item) {
		const { record } = this;
		record.answers = [...(record.answers ?? []), item];
		this.settle(card, told);
		if (this.asked.length) this.asked[0].focus();
		else start({ input: record.answers, model: record.model });
	}

	/** The user has said something else instead. Returns what the request has to say of it: each call of a tool needs a result. */
	passOver() {
		const { asked } = this;
		for (const card of asked) this.settle(card, 'Not answered: you sent another message.');
		const calls = asked.filter((card) => card.dataset.type);
		return calls.map(({ dataset: { type, id } }) => ({ type, call_id: id, output: 'The user sent another message instead.' }));
	}

	/** The cards that wait for the user. */
	get asked() {
		return [...this.node.querySelectorAll('.ask:not(.settled)')];
	}

	get said() {
		return textOf(this.record.output.filter(({ type }) => type === 'message').flatMap(({ content }) => content ?? []));
	}

	/** In a stream, beside OpenAI's few codes for errors, is the server's own. */
	fail({ message, status, code, original_code: own = code, param, request = this.record.requestId }) {
		this.record.error ??= { message: message || 'The agent failed.', status, code: own, param, request };
	}

	/** What stands below a turn that has ended, however it did. */
	close() {
		const { record } = this;
		const { usage, error, first, total } = record;
		if (record.stopped) this.put(el('p.note', 'You stopped the answer.'));
		else if (record.cut) this.put(el('p.note', `The answer was cut: ${record.cut.replaceAll('_', ' ')}.`));
		if (error) this.put(this.errorBox(error));
		const thought = usage?.output_tokens_details?.reasoning_tokens;
		const numbers = [
			first >= 0 && `first text ${seconds(first)}`,
			total >= 0 && `total ${seconds(total)}`,
			usage?.total_tokens && `${usage.input_tokens} in, ${usage.output_tokens} out${thought ? ` (${thought} thinking)` : ''}`,
		];
		const copy = copyButton(() => this.said);
		const retry = button(() => again(this), 'quiet small again', error ? 'Try again' : 'Regenerate');
		const look = button(() => toggle(true, this), 'quiet small', 'Inspect');
		copy.hidden = !this.said;
		const decided = !error && record.input.some(({ type }) => type === 'mcp_approval_response'); // which counts once
		retry.hidden = this.asked.length > 0 || decided || JSON.stringify(record.input).includes(':null'); // files that were not kept
		this.node.append(el('div.foot', copy, retry, look, el('span.num', numbers.filter(Boolean).join(' · '))));
		follow();
	}

	errorBox({ message, status, code, param, request }) {
		const facts = [status, code, param && `parameter ${param}`, request].filter(Boolean).join(' · ');
		const box = el('div.error', { role: 'alert' }, el('b.bad', message), el('small', facts));
		if (code === 'agent_error' && /^(localhost|127\.|\[::1\])/.test(location.hostname)) box.append(el('small', "The reason is in the server's log, at this request."));
		if (code === 'previous_response_not_found' && this.node.querySelector('.user')) {
			box.append(el('p', 'The server no longer has this conversation; it may have been restarted.'));
			box.append(button(() => goOn(this), '', 'Continue with the history on this page'));
		}
		return box;
	}
}

/** What the user has said. Files are not kept when the page is loaded anew. */
function bubble({ content }) {
	const parts = typeof content === 'string' ? [{ text: content }] : content;
	const shown = ({ text, filename, image_url: src }) =>
		text ?? (src ? el('img', { src, alt: 'Attached' }) : el('div', filename ?? 'Picture'));
	return el('div.user', ...parts.map(shown));
}
