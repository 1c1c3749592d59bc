// The inspector: what was sent, what came, and the same request for curl and Python.
import { $, code, el } from './nodes.js';
import { base, isData, tab } from './wire.js';

const MOST = 2000; // rows of events
let shown = null;

/** Shows a turn, or that there is none. */
export function inspect(turn) {
	shown = turn;
	if (!$('wire').hidden) draw();
}

export function toggle(open, turn = shown) {
	shown = turn;
	$('wire').hidden = !open;
	$('wire-toggle').setAttribute('aria-expanded', open);
	if (open) {
		draw();
		document.querySelector('[role=tab][aria-selected=true]').focus();
	} else $('wire-toggle').focus();
}

export function onEvent(turn, at, event) {
	if (turn === shown && !$('wire').hidden) row(at, event);
}

const note = (panel, text) => $(panel).append(el('p.note', text));

function draw() {
	for (const id of ['p-events', 'p-request', 'p-code']) {
		$(id).replaceChildren();
		if (!shown) note(id, 'Send a message first.');
	}
	if (!shown) return;
	const { request, requestId } = shown.record;
	const brief = JSON.parse(JSON.stringify(request, (name, value) => (isData(value) ? `${value.slice(0, 60)}…` : value)));
	for (const [at, event] of shown.wire) row(at, event);
	if (!shown.wire.length) note('p-events', 'No events, or the page was reloaded.');
	note('p-request', `POST ${new URL('responses', base).pathname}${requestId ? ` · ${requestId}` : ''}`);
	$('p-request').append(code(JSON.stringify(brief, null, 2), 'json', 'wrap'));
	note('p-code', 'The mcp tool lets the server ask in items that a program can answer. Files are left out.');
	$('p-code').append(code(curl(brief), 'sh', 'wrap'), code(python(brief), 'python', 'wrap'));
}

function row(at, event) {
	const panel = $('p-events');
	const last = panel.lastElementChild;
	const text = event.delta ?? '';
	if (last?.events?.[0].type === event.type && event.type.endsWith('.delta')) {
		last.events.push(event); // words come in hundreds: one row for all that follow each other
		last.querySelector('.n').textContent = `×${last.events.length}`;
		if (last.text.length < 80) last.querySelector('.peek').textContent = last.text += text;
		return;
	}
	if (panel.childElementCount >= MOST) return;
	const name = event.type.replace('response.', '');
	const head = [el('time', `${Math.round(at)} ms`), el('b', name), el('span.n'), el('span.peek', text.slice(0, 80) || gist(event))];
	const node = el('details.event', el('summary', ...head));
	Object.assign(node, { events: [event], text });
	node.ontoggle = () => {
		node.querySelector('pre')?.remove();
		const indent = node.events.length > 1 ? 0 : 2;
		const lines = node.events.slice(0, 500).map((one) => JSON.stringify(one, null, indent));
		if (node.open) node.append(el('pre', { tabIndex: 0 }, lines.join('\n')));
	};
	const atEnd = panel.scrollHeight - panel.scrollTop - panel.clientHeight < 60;
	panel.append(node);
	if (atEnd) panel.scrollTop = panel.scrollHeight;
}

const gist = ({ item, event, message, response }) =>
	item ? `${item.type} ${item.name ?? ''}` : (event?.data?.description ?? message ?? response?.status ?? '');

export function curl(request) {
	const key = tab.get('key') ? ' -H "Authorization: Bearer $OPENAI_API_KEY"' : '';
	const body = JSON.stringify(request, null, 2).replaceAll("'", "'\\''");
	return `curl -N ${new URL('responses', base)}${key} \\
  -H 'Content-Type: application/json' -d '${body}'`;
}

function python({ model, input, instructions, tools, previous_response_id, stream, ...others }) {
	const named = { model, input, instructions, tools, previous_response_id, stream };
	if (Object.keys(others).length) named.extra_body = others; // OpenAI's library takes only what it knows by name
	const given = Object.entries(named).filter(([, value]) => value !== undefined);
	const key = tab.get('key') ? '' : ', api_key="-"';
	return `from openai import OpenAI

client = OpenAI(base_url="${base.href.replace(/\/$/, '')}"${key})
stream = client.responses.create(
${given.map(([name, value]) => `    ${name}=${literal(value)},\n`).join('')})
for event in stream:
    print(event.type, getattr(event, "delta", ""))`;
}

const PYTHON = { null: 'None', true: 'True', false: 'False' };

/** A JSON value as Python writes it: they differ in three words, which may stand in strings too. */
function literal(value) {
	const lines = JSON.stringify(value, null, 4).replaceAll('\n', '\n    ');
	return lines.replace(/"(?:[^"\\]|\\.)*"|null|true|false/g, (found) => PYTHON[found] ?? found);
}

const tabs = [...document.querySelectorAll('[role=tab]')];

function pick(chosen) {
	for (const one of tabs) {
		one.setAttribute('aria-selected', one === chosen);
		one.tabIndex = one === chosen ? 0 : -1;
		$(one.getAttribute('aria-controls')).hidden = one !== chosen;
	}
	chosen.focus();
}

tabs.forEach((one, place) => {
	one.onclick = () => pick(one);
	one.onkeydown = ({ key }) => {
		const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[key];
		if (to !== undefined) pick(tabs.at(to % tabs.length));
	};
});
$('wire-toggle').onclick = () => toggle($('wire').hidden);
$('wire-close').onclick = () => toggle(false);
