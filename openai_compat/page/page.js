// The page: agents, conversation, message field, settings. See turn.js for how an answer is shown.
import { curl, inspect, toggle } from './inspect.js';
import { $, button, code, el, say } from './nodes.js';
import { Turn } from './turn.js';
import { call, keepChat, tab } from './wire.js';

const MOST_BYTES = 10_000_000; // of the files of one message
const log = $('log');
const prompt = $('prompt');
const form = $('settings').firstElementChild;

// What a request goes on from: the last response, and what was said since then that the server does not keep.
let chat = { carry: [] };
let running = null;
let attached = [];
let models = [];
let pinned = true; // whether the end of the conversation is in sight, and stays there

export let turns = [];

/** Keeps the end of the conversation in sight, unless the user has gone elsewhere. */
export function follow() {
	if (pinned) log.scrollTop = log.scrollHeight;
	$('latest').hidden = pinned;
}

export function again(turn) {
	turns.splice(turns.indexOf(turn));
	turn.node.remove();
	chat = structuredClone(turn.record.before);
	start(turn.record);
}

/** The server has forgotten the conversation: all that was said is sent along once. */
export function goOn(turn) {
	turn.record.before = { carry: turns.filter((one) => one !== turn).flatMap(said) };
	again(turn);
}

export const canEdit = (model) => (about(model)?.capabilities?.approvals ?? 'edit') === 'edit';
const about = (model) => models.find(({ id }) => id === model);
const takes = (what) => about($('model').value)?.capabilities?.[what] !== false;

/** What was said in a turn, as items that any request may begin with. */
function said(turn) {
	const input = turn.record.input.filter((item) => item.role);
	return turn.said ? [...input, { role: 'assistant', content: turn.said }] : input;
}

export async function start({ input: given, model }) {
	const input = [...turns.flatMap((old) => old.passOver()), ...given];
	const record = { input, model, before: structuredClone(chat), output: [] };
	record.request = {
		model,
		input: [...chat.carry, ...input],
		stream: true,
		previous_response_id: chat.last,
		tools: [...JSON.parse(tab.get('tools') || '[]'), { type: 'mcp', server_label: model }],
		...JSON.parse(tab.get('extra') || '{}'),
	};
	const turn = new Turn(record);
	$('empty')?.remove();
	log.append(turn.node);
	turns.push(turn);
	pinned = true;
	busy(turn);
	say('The agent is working');
	inspect(turn);
	await turn.run();
	if (!turns.includes(turn)) return; // a new chat was begun
	busy(null);
	if (record.response && record.status !== 'failed') chat = { last: record.response, carry: [] };
	else if (turn.said) chat.carry.push(...said(turn));
	keepChat(chat, turns.map((one) => one.record));
	const { error, stopped } = record;
	say(turn.asked.length ? 'The agent waits for your answer' : `The answer ${error ? 'failed' : stopped ? 'was stopped' : 'is complete'}`);
	if (error?.status === 401) settings(error, () => again(turn));
	else if (turn.asked.length && !prompt.value) turn.asked[0].focus(); // not while somebody types: the next key would go astray
	else if (document.activeElement === document.body) prompt.focus();
}

function busy(turn) {
	running = turn;
	$('send').hidden = Boolean(turn);
	$('stop').hidden = !turn;
}

const stop = () => running?.abort.abort();

$('new').onclick = () => {
	stop();
	busy(null);
	turns = [];
	chat = { carry: [] };
	tab.set('chat', '');
	inspect(null);
	greet();
	prompt.focus();
};

function greet() {
	const model = $('model').value;
	const what = about(model)?.description ?? 'This page uses the API that every client of this server uses.';
	const how = model ? code(curl({ model, input: 'Hello!', stream: true }), 'sh', 'wrap') : '';
	log.replaceChildren(el('div.empty', { id: 'empty' }, el('h2', `Talk to ${model || 'an agent'}`), el('p', what), how));
}

function grow() {
	prompt.style.height = 'auto';
	prompt.style.height = `${prompt.scrollHeight}px`;
}

$('composer').onsubmit = (event) => {
	event.preventDefault();
	const text = prompt.value;
	const model = $('model').value;
	if (running || !model || (!text.trim() && !attached.length)) return;
	const parts = attached.map(({ name, picture, url }) =>
		picture ? { type: 'input_image', image_url: url, detail: 'auto' } : { type: 'input_file', filename: name, file_data: url },
	);
	if (text) parts.push({ type: 'input_text', text });
	const content = attached.length ? parts : text;
	prompt.value = '';
	setFiles([]);
	grow();
	start({ input: [{ role: 'user', content }], model });
};

function setFiles(files, problem = '') {
	attached = files;
	$('problem').textContent = problem;
	const remove = (file) => button(() => setFiles(attached.filter((one) => one !== file)), 'quiet', '×', el('span.sr', `Remove ${file.name}`));
	$('files').replaceChildren(...attached.map((file) => el('li', file.name, remove(file))));
}

async function attach(list) {
	const model = $('model').value;
	for (const file of list) {
		const { name, size } = file;
		const picture = file.type.startsWith('image/');
		const total = attached.reduce((sum, one) => sum + one.size, size);
		const url = total <= MOST_BYTES && (await dataUrl(file));
		let problem = '';
		if (!takes(picture ? 'vision' : 'files')) problem = `${model} takes no ${picture ? 'pictures' : 'files'}.`;
		else if (total > MOST_BYTES) problem = `${name} is too large: a message may have ${MOST_BYTES / 1e6} MB of files.`;
		else if (!url) problem = `${name} cannot be read.`; // a folder, mostly
		setFiles(problem ? attached : [...attached, { name, picture, size, url }], problem);
		if (problem) return;
	}
}

const dataUrl = (file) =>
	new Promise((done) => {
		const reader = new FileReader();
		reader.onloadend = () => done(reader.result); // null if it failed
		reader.readAsDataURL(file);
	});

prompt.oninput = grow;
prompt.onkeydown = (event) => {
	// On phones Enter makes a line; while letters are composed it ends that.
	if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
	event.preventDefault();
	$('composer').requestSubmit();
};
prompt.onpaste = $('body').ondragover = $('body').ondrop = (event) => {
	const { files, types } = event.clipboardData ?? event.dataTransfer;
	if (!types.includes('Files')) return; // words go into the field
	event.preventDefault();
	attach([...files]); // none, until they are dropped
};
$('attach').onchange = async ({ target }) => {
	await attach([...target.files]);
	target.value = '';
};

log.onscroll = () => {
	pinned = log.scrollHeight - log.scrollTop - log.clientHeight < 100;
	$('latest').hidden ||= pinned;
};
// A turn out of sight has no height but an estimate; when it is laid out, the end moves.
log.addEventListener('contentvisibilityautostatechange', () => pinned && follow(), true);
$('latest').onclick = () => {
	pinned = true;
	follow();
	prompt.focus();
};
$('stop').onclick = stop;
$('model').onchange = () => {
	tab.set('model', $('model').value);
	chosen();
};
document.onkeydown = ({ key }) => {
	if (key !== 'Escape' || $('settings').open) return;
	if (running) stop();
	else if (!$('wire').hidden) toggle(false);
};

let afterwards = null; // what a key was asked for

/** The settings; where the server wants a key, that field alone. */
function settings(error, then) {
	afterwards = then;
	for (const field of form.elements) if (field.name) field.value = tab.get(field.name);
	$('settings-title').textContent = error ? 'This server wants an API key' : 'Settings';
	$('settings-problem').textContent = error && tab.get('key') ? error.message : '';
	$('settings-more').hidden = $('download').hidden = Boolean(error);
	if (!$('settings').open) $('settings').showModal();
	if (error) form.key.select();
}

$('settings-open').onclick = () => settings();
$('settings-close').onclick = () => $('settings').close();

form.onsubmit = async (event) => {
	event.preventDefault();
	try {
		const [tools, extra] = [form.tools.value || '[]', form.extra.value || '{}'].map((text) => JSON.parse(text));
		if (!Array.isArray(tools) || extra?.constructor !== Object) throw new Error('Tools are a list, more parameters an object.');
	} catch (error) {
		$('settings-problem').textContent = error.message;
		return;
	}
	for (const field of form.elements) if (field.name) tab.set(field.name, field.value.trim());
	$('settings').close();
	colour();
	if (await load()) afterwards?.();
};

const colour = () => {
	document.documentElement.style.colorScheme = tab.get('theme');
};

$('download').onclick = () => {
	const told = turns.map(({ record, wire }) => ({ ...record, events: wire.map(([, event]) => event) }));
	const href = URL.createObjectURL(new Blob([JSON.stringify({ turns: told }, null, 2)], { type: 'application/json' }));
	el('a', { href, download: 'conversation.json' }).click();
};

/** Gets the list of agents. Returns whether the server has told it. */
async function load() {
	try {
		const { data } = await (await call('models')).json();
		models = data.filter(({ capabilities }) => capabilities?.chat !== false);
	} catch (error) {
		if (error.status === 401) settings(error, afterwards);
		else if (!models.length) {
			greet();
			log.append(el('div.error', { role: 'alert' }, el('b.bad', error.message), button(load, '', 'Try again')));
		}
		return false;
	}
	const wanted = $('model').value || tab.get('model');
	$('model').replaceChildren(...models.map(({ id }) => el('option', id)));
	if (about(wanted)) $('model').value = wanted;
	chosen();
	return true;
}

function chosen() {
	const model = $('model').value;
	$('attach-label').hidden = !takes('vision') && !takes('files');
	prompt.placeholder = `Message ${model || 'the agent'}`;
	document.title = model || 'openai-compat';
	if (!turns.length) greet();
}

function restore() {
	const kept = JSON.parse(tab.get('chat') || '{}');
	if (!kept.turns?.length) return;
	log.replaceChildren();
	({ chat } = kept);
	for (const record of kept.turns) {
		const turn = new Turn(record);
		log.append(turn.node);
		turns.push(turn);
		turn.restore();
	}
	inspect(turns.at(-1));
}

colour();
greet();
load().then(restore);
