// The page: the agents, the conversation, the message field, the dialogs. See turn.js for how an answer is shown.
import { curl, inspect, onEvent, toggle } from './inspect.js';
import { $, button, code, el, icon, say } from './nodes.js';
import { Turn } from './turn.js';
import { call, keepChat, tab } from './wire.js';

const MOST_BYTES = 10_000_000; // of the files of one message
const SETTINGS = ['key', 'instructions', 'tools', 'extra', 'theme'];
const log = $('log');
const prompt = $('prompt');

// What a request goes on from: the last response, and what was said since then that the server does not keep.
let chat = { last: null, carry: [] };
let running = null;
let attached = [];
let models = [];
let pinned = true; // whether the end of the conversation is in sight, and stays there

const page = {
  turns: [],
  isLocal: ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname),
  inspect: (turn) => {
    inspect(turn);
    toggle(true);
  },
  onEvent,
  severalAgents: () => new Set([...page.turns.map((turn) => turn.record.model), $('model').value]).size > 1,
  canEdit: (model) => (about(model)?.capabilities?.approvals ?? 'edit') === 'edit',
  follow() {
    if (pinned) log.scrollTop = log.scrollHeight;
    else $('latest').hidden = false;
  },
  start,
  again(turn) {
    page.turns.splice(page.turns.indexOf(turn));
    turn.node.remove();
    chat = structuredClone(turn.record.before);
    const { input, shown, model } = turn.record;
    start({ input, shown, model });
  },
  /** The server has forgotten the conversation: all that was said is sent along once. */
  goOn(turn) {
    turn.record.before = { last: null, carry: page.turns.filter((one) => one !== turn).flatMap(said) };
    page.again(turn);
  },
};

const about = (model) => models.find(({ id }) => id === model);

/** What was said in a turn, as items that any request may begin with. */
function said(turn) {
  const input = turn.record.input.filter((item) => item.role);
  return turn.said ? [...input, { role: 'assistant', content: turn.said }] : input;
}

async function start({ input: given, shown, model }) {
  const input = [...page.turns.flatMap((old) => old.passOver()), ...given];
  const record = { input, shown, model, before: structuredClone(chat), output: [] };
  record.request = {
    model,
    input: [...chat.carry, ...input],
    stream: true,
    ...(chat.last && { previous_response_id: chat.last }),
    ...(tab.get('instructions') && { instructions: tab.get('instructions') }),
    tools: [...JSON.parse(tab.get('tools') || '[]'), { type: 'mcp', server_label: model }],
    ...JSON.parse(tab.get('extra') || '{}'),
  };
  const turn = new Turn(record, page);
  $('empty')?.remove();
  log.querySelectorAll('.again').forEach((button) => button.remove());
  log.append(turn.node);
  page.turns.push(turn);
  running = turn;
  pinned = true;
  busy(true);
  inspect(turn);
  await turn.run();
  if (running === turn) running = null;
  if (!page.turns.includes(turn)) return; // a new chat was begun meanwhile
  busy(running !== null);
  if (record.response && record.status !== 'failed') chat = { last: record.response, carry: [] };
  else if (record.error?.code !== 'no_connection') chat.carry = [...chat.carry, ...(turn.said ? said(turn) : [])];
  keepChat(chat, page.turns.map((one) => one.record));
  told(turn);
}

function told(turn) {
  const { error, stopped } = turn.record;
  say(turn.waits ? 'The agent waits for your answer' : `The answer ${error ? 'failed' : stopped ? 'was stopped' : 'is complete'}`);
  if (error?.status === 401) askKey(error, () => page.again(turn));
  // Not while somebody types: the next key would go astray.
  else if (turn.waits && !prompt.value) turn.node.querySelector('.ask:not(.settled)').focus();
  else if (document.activeElement === document.body) prompt.focus();
}

function busy(on) {
  $('send').hidden = on;
  $('stop').hidden = !on;
  if (on) say('The agent is working');
}

function clear() {
  running?.abort.abort();
  running = null;
  page.turns = [];
  chat = { last: null, carry: [] };
  tab.set('chat', '');
  busy(false);
  inspect(null);
  greet();
}

function greet() {
  const model = $('model').value;
  const what = about(model)?.description ?? 'This page uses the API that every client of this server uses.';
  const how = curl({ model, input: 'Hello!', stream: true });
  const terminal = model ? [el('p.note', 'Or from a terminal:'), code(how, 'sh', true)] : [];
  const title = el('h2', `Talk to ${model || 'an agent'}`);
  log.replaceChildren(el('div.empty', { id: 'empty' }, icon('mark'), title, el('p', what), ...terminal));
}

// the message field

const grow = () => {
  prompt.style.height = 'auto';
  prompt.style.height = `${prompt.scrollHeight}px`;
};

$('composer').onsubmit = (event) => {
  event.preventDefault();
  const text = prompt.value;
  if (running || !$('model').value || (!text.trim() && !attached.length)) return;
  const files = attached.map(({ name, picture, url }) =>
    picture ? { type: 'input_image', image_url: url, detail: 'auto' } : { type: 'input_file', filename: name, file_data: url },
  );
  const content = files.length ? [...files, ...(text ? [{ type: 'input_text', text }] : [])] : text;
  const shown = { text, files: attached.map(({ name, picture, url }) => ({ name, url: picture ? url : '' })) };
  prompt.value = '';
  setFiles([]);
  grow();
  start({ input: [{ role: 'user', content }], shown, model: $('model').value });
};

function setFiles(files) {
  attached = files;
  $('problem').textContent = '';
  const remove = (file) => button(() => setFiles(attached.filter((one) => one !== file)), 'quiet', icon('close'), el('span.sr', `Remove ${file.name}`));
  $('files').replaceChildren(...attached.map((file) => el('li', file.name, remove(file))));
}

async function attach(list) {
  const can = about($('model').value)?.capabilities ?? {};
  let size = attached.reduce((sum, file) => sum + file.size, 0);
  const files = [...attached];
  let problem = '';
  for (const file of list) {
    const picture = file.type.startsWith('image/');
    size += file.size;
    if (picture ? can.vision === false : can.files === false) problem = `${$('model').value} takes no ${picture ? 'pictures' : 'files'}.`;
    else if (size > MOST_BYTES) problem = `${file.name} is too large: a message may have ${MOST_BYTES / 1e6} MB of files.`;
    else {
      const url = await dataUrl(file);
      if (url) files.push({ name: file.name, picture, size: file.size, url });
      else problem = `${file.name} cannot be read.`; // a folder, mostly
    }
    if (problem) break;
  }
  setFiles(files);
  $('problem').textContent = problem;
}

const dataUrl = (file) =>
  new Promise((done) => {
    const reader = new FileReader();
    reader.onloadend = () => done(reader.result); // null if it failed
    reader.readAsDataURL(file);
  });

prompt.oninput = grow;
prompt.onkeydown = (event) => {
  // On phones Enter makes a line, for there is a button to send. While letters are composed it ends that.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
  event.preventDefault();
  $('composer').requestSubmit();
};
prompt.onpaste = (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  attach([...event.clipboardData.files]);
};
$('body').ondragover = $('body').ondrop = (event) => {
  if (!event.dataTransfer.types.includes('Files')) return; // words may be dropped into the field
  event.preventDefault();
  if (event.type === 'drop') attach([...event.dataTransfer.files]);
};
$('attach').onchange = (event) => {
  attach([...event.target.files]);
  event.target.value = '';
};

log.onscroll = () => {
  pinned = log.scrollHeight - log.scrollTop - log.clientHeight < 100;
  if (pinned) $('latest').hidden = true;
};
// A turn out of sight has no height but an estimate; when it is laid out, the end moves.
log.addEventListener('contentvisibilityautostatechange', () => pinned && page.follow(), true);
$('latest').onclick = () => {
  pinned = true;
  page.follow();
  $('latest').hidden = true;
  prompt.focus();
};
$('stop').onclick = () => running?.abort.abort();
$('new').onclick = () => {
  clear();
  prompt.focus();
};
$('model').onchange = () => {
  tab.set('model', $('model').value);
  chosen();
};
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !document.querySelector('dialog[open]')) {
    if (running) running.abort.abort();
    else if (!$('wire').hidden) toggle(false);
  }
  if (event.altKey && event.code === 'KeyN') {
    event.preventDefault();
    $('new').click();
  }
});

// the dialogs

$('settings-open').onclick = () => {
  for (const name of SETTINGS) $(`s-${name}`).value = tab.get(name);
  $('settings-problem').textContent = '';
  $('settings').showModal();
};
$('settings').querySelector('form').onsubmit = (event) => {
  event.preventDefault();
  try {
    if (!Array.isArray(JSON.parse($('s-tools').value || '[]'))) throw new Error('Your tools: this is not a list.');
    if (!/^\{/.test($('s-extra').value.trim() || '{')) throw new Error('More parameters: this is not an object.');
    JSON.parse($('s-extra').value || '{}');
  } catch (error) {
    $('settings-problem').textContent = error.message;
    return;
  }
  for (const name of SETTINGS) tab.set(name, $(`s-${name}`).value.trim());
  $('settings').close();
  colour();
  load();
};

const colour = () => {
  document.documentElement.dataset.theme = tab.get('theme');
};

$('download').onclick = () => {
  const turns = page.turns.map(({ record, wire }) => ({ ...record, events: wire.map(([, event]) => event) }));
  const href = URL.createObjectURL(new Blob([JSON.stringify({ turns }, null, 2)], { type: 'application/json' }));
  el('a', { href, download: 'conversation.json' }).click();
};

let afterKey = null;

function askKey(error, then) {
  afterKey = then;
  $('key').value = '';
  $('key-problem').textContent = tab.get('key') ? error.message : '';
  if (!$('ask-key').open) $('ask-key').showModal();
}

$('ask-key').querySelector('form').onsubmit = async (event) => {
  event.preventDefault();
  $('ask-key').close();
  tab.set('key', $('key').value.trim());
  if (await load()) afterKey?.();
};
$('key-later').onclick = () => $('ask-key').close();

// the beginning

/** Gets the list of agents. Returns whether the server has told it. */
async function load() {
  try {
    const { data } = await (await call('models')).json();
    models = data.filter(({ capabilities }) => capabilities?.chat !== false);
  } catch (error) {
    if (error.status === 401) askKey(error);
    else if (!$('model').options.length) {
      greet();
      log.append(el('div.error', { role: 'alert' }, el('b', error.message), button(load, '', 'Try again')));
    }
    return false;
  }
  const wanted = $('model').value || tab.get('model');
  $('model').replaceChildren(...models.map(({ id, description }) => el('option', { title: description ?? '' }, id)));
  if (about(wanted)) $('model').value = wanted;
  chosen();
  return true;
}

function chosen() {
  const model = $('model').value;
  const can = about(model)?.capabilities;
  $('attach-label').hidden = can?.vision === false && can?.files === false;
  $('model').title = about(model)?.description ?? '';
  prompt.placeholder = model ? `Message ${model}` : 'Message the agent';
  document.title = model || 'openai-compat';
  if (!page.turns.length) greet();
}

function restore() {
  const kept = JSON.parse(tab.get('chat') || '{}');
  if (!kept.turns?.length) return;
  log.replaceChildren();
  ({ chat } = kept);
  for (const record of kept.turns) {
    const turn = new Turn(record, page);
    log.append(turn.node);
    page.turns.push(turn);
    turn.restore();
  }
  [...log.querySelectorAll('.again')].slice(0, -1).forEach((button) => button.remove());
  inspect(page.turns.at(-1));
}

colour();
greet();
load().then(restore);
