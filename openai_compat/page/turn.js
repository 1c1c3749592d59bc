// One turn: a request, and its answer as it comes. What of it can be kept as JSON is in `record`.
import { GrowingText, Markdown, button, code, copyButton, el, icon, link } from './nodes.js';
import { Failure, call, events } from './wire.js';

const ASKED = '.ask:not(.settled)';
const LOST = { code: 'connection_lost' };
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
const pretty = (text) => (read(text) === undefined ? text : JSON.stringify(read(text), null, 2));
const fieldsOf = (text) => (isObject(read(text)) ? Object.entries(read(text)) : text ? [['arguments', text]] : []);

/** `page` is what the turn needs of the page around it: see page.js. */
export class Turn {
  constructor(record, page) {
    Object.assign(this, { record, page, wire: [], waits: 0, abort: new AbortController() });
    this.items = new Map(); // what is shown of each output item, by its index
    this.label = el('span');
    this.clock = el('span.num', { 'aria-hidden': 'true' });
    this.work = el('div.work', el('span.dot'), this.label, this.clock);
    this.node = el('section.turn', el('h2.sr', `Turn ${page.turns.length + 1}`));
    if (record.shown) this.node.append(bubble(record.shown));
    if (page.severalAgents()) this.node.append(el('p.who', record.model));
  }

  put(node) {
    if (this.work.isConnected) this.work.before(node);
    else this.node.append(node);
    this.page.follow();
    return node;
  }

  async run() {
    const { record } = this;
    this.began = performance.now();
    this.node.append(this.work);
    this.now('Waiting for the agent');
    const ticking = setInterval(() => this.tick(), 1000);
    try {
      const headers = { 'Content-Type': 'application/json' };
      const body = JSON.stringify(record.request);
      const answer = await call('responses', { method: 'POST', headers, body, signal: this.abort.signal });
      record.requestId = answer.headers.get('x-request-id');
      for await (const event of events(answer.body)) this.on(event);
      if (!record.status && !record.error) throw new Failure('The connection was lost; the answer above is not whole.', LOST);
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

  /** Shows a turn that was kept. */
  restore() {
    this.record.output.forEach((item, index) => this.done(index, item));
    this.close();
  }

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
    const { type, item, output_index: index, delta } = event;
    const at = performance.now() - this.began;
    const view = this.items.get(index);
    this.wire.push([at, event]);
    this.page.onEvent(this, at, event);
    const told = event.event?.data; // the agent's progress, in words
    if (told?.description) this.now(told.done ? '' : told.description);
    if (type === 'response.output_item.added') this.add(index, item);
    else if (type === 'response.output_item.done') this.done(index, item);
    else if (type === 'response.output_text.delta' || type === 'response.refusal.delta') {
      this.record.first ??= at;
      if (this.label.textContent) this.now('');
      view?.markdown?.add(delta);
    } else if (/^response\.reasoning\w*\.delta$/.test(type)) view?.thoughts?.add(delta);
    else if (type.endsWith('arguments.delta')) view?.peek?.append(delta);
    else if (type === 'response.audio.delta') this.speech = (this.speech ?? '') + delta;
    else if (type === 'response.audio.done') {
      this.put(el('audio', { controls: true, src: `data:audio/mpeg;base64,${this.speech}` })); // browsers look what it is
    } else if (type === 'error') this.failed(event.error ?? event);
    else if (['response.completed', 'response.incomplete', 'response.failed'].includes(type)) {
      const { status, usage, incomplete_details: cut, error, id } = event.response;
      Object.assign(this.record, { status, usage, cut: cut?.reason, response: id });
      if (status === 'failed') this.failed(error ?? {});
    }
    if (type.startsWith('response.reasoning')) this.page.follow();
  }

  /** Shows an item that begins. */
  add(index, item) {
    const view = { began: performance.now() };
    this.items.set(index, view);
    if (item.type === 'message') {
      view.markdown = new Markdown(() => this.page.follow());
      view.partial = () => view.markdown.text && { ...item, content: [{ type: 'output_text', text: view.markdown.text }] };
      this.put(view.markdown.node);
    } else if (item.type === 'reasoning') {
      const body = el('div');
      view.head = el('span', 'Thinking');
      view.thoughts = new GrowingText(body);
      view.node = this.put(el('details.think', { open: true }, el('summary', icon('open'), view.head), body));
      this.now('');
    } else if (item.type === 'mcp_call') {
      view.peek = el('span.peek');
      view.state = el('span.state', el('span.dot'), 'running');
      const head = el('summary', icon('open'), el('b', item.name), view.peek, view.state);
      view.node = this.put(el('details.tool', head));
      this.now(`Running ${item.name}`);
    }
    return view;
  }

  /** Shows an item that is done, whether or not it was seen to begin. */
  done(index, item) {
    const view = this.items.get(index) ?? this.add(index, item);
    const took = this.began === undefined ? '' : seconds(performance.now() - view.began);
    view.item = item;
    if (item.type === 'message') this.spoke(view, item.content ?? []);
    else if (item.type === 'reasoning') {
      if (!view.thoughts.text) view.thoughts.show(textOf([...(item.summary ?? []), ...(item.content ?? [])]));
      view.head.textContent = took ? `Thought for ${took}` : 'Thoughts';
      view.node.open = false;
      this.now('Waiting for the agent');
    } else if (item.type === 'mcp_call') this.ran(view, item, took);
    else if (item.type === 'mcp_approval_request') this.ask(item);
    else if (item.type === 'function_call' || item.type === 'custom_tool_call') this.askForResult(item);
    else if (item.type === 'image_generation_call' && item.result) {
      const type = item.output_format === 'svg' ? 'svg+xml' : (item.output_format ?? 'png');
      this.put(el('img.made', { alt: 'Picture made by the agent', src: `data:image/${type};base64,${item.result}` }));
    } else {
      const head = el('summary', icon('open'), el('b', item.type));
      this.put(el('details.tool', head, code(JSON.stringify(item, null, 2), 'json', true)));
    }
  }

  spoke(view, parts) {
    if (!view.markdown.text) view.markdown.add(textOf(parts));
    if (parts.some((part) => part.type === 'refusal')) view.markdown.node.classList.add('refusal');
    const cited = parts.flatMap((part) => part.annotations ?? []).filter(({ url }) => /^https?:/.test(url));
    const sources = cited.map(({ url, title }) => el('li', link(url, title || url)));
    if (cited.length) this.put(el('div.cited', el('b', 'Sources'), el('ol', ...sources)));
  }

  ran(view, { arguments: given, output, error, status }, took) {
    const failed = error !== null && error !== undefined;
    // The text of an error is what the tool said; the object around it only says that it is a tool's.
    const said = error?.content ? textOf(error.content) : short(error ?? '');
    const word = failed ? 'failed' : status === 'incomplete' ? 'not run' : '';
    view.peek.textContent = fieldsOf(given).map(([name, value]) => `${name}: ${short(value)}`).join(', ');
    view.state.textContent = [word, took].filter(Boolean).join(', ') || 'done';
    view.state.className = failed ? 'state bad' : 'state good';
    view.node.append(el('h3', 'Arguments'), mono(pretty(given ?? '')));
    view.node.append(el('h3', failed ? 'Error' : 'Result'), mono(failed ? said : pretty(output ?? '')));
    this.now('Waiting for the agent');
  }

  // what people have to answer

  /** A card for a question. It takes the focus when the turn ends, and never one of its buttons: who types on when it comes
   * must not have allowed something. */
  card(id, title, ...content) {
    this.waits += 1;
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
    const problem = el('p.bad', { role: 'alert', hidden: true }, 'This is no JSON object.');
    const decide = (told, approve, more = {}) => {
      problem.hidden = !approve || changed.hidden || isObject(read(changed.value)) || !isObject(read(given));
      if (!problem.hidden) return;
      if (approve && !changed.hidden) more.arguments = changed.value;
      this.answer(card, `${told} ${name}`, { type: 'mcp_approval_response', approval_request_id: id, approve, ...more });
    };
    const edit = button(() => {
      changed.value = pretty(given);
      [changed.hidden, edit.hidden] = [false, true];
      changed.focus();
    }, '', 'Edit');
    edit.hidden = !this.page.canEdit(this.record.model);
    const card = this.card(
      id,
      el('h3', 'May the agent run ', el('code', name), '?'),
      el('dl', ...fields),
      changed,
      problem,
      el('div.row',
        button(() => decide('You allowed', true), 'primary', 'Allow once'),
        button(() => decide('You allowed for always:', true, { always: true }), '', 'Always allow'),
        edit,
        button(() => decide('You denied', false, reason.value ? { reason: reason.value } : {}), '', 'Deny'),
        reason),
    );
  }

  askForResult({ type, call_id, name, arguments: given, input }) {
    const field = el('textarea.mono', { rows: 2, 'aria-label': `Result of ${name}`, placeholder: 'What your tool returns' });
    const send = () => this.answer(card, `You answered for ${name}: ${field.value}`, { type: `${type}_output`, call_id, output: field.value });
    const title = el('h3', 'The agent calls your tool ', el('code', name));
    const card = this.card(call_id, title, mono(pretty(given ?? input ?? '')), field, button(send, 'primary', 'Send the result'));
    card.dataset.type = `${type}_output`;
  }

  settle(card, told) {
    this.waits -= 1;
    card.classList.add('settled');
    card.replaceChildren(told);
    this.record.answered = { ...this.record.answered, [card.dataset.id]: told };
  }

  answer(card, told, item) {
    const { record, page } = this;
    record.answers = [...(record.answers ?? []), item];
    this.settle(card, told);
    if (this.waits) this.node.querySelector(ASKED).focus();
    else page.start({ input: record.answers, model: record.model });
  }

  /** The user has said something else, so nothing that was asked here can be answered any more. Returns what the request has
   * to say of it: each call of a client's tool needs a result. */
  passOver() {
    const open = [...this.node.querySelectorAll(ASKED)];
    for (const card of open) this.settle(card, 'Not answered: you sent another message.');
    const calls = open.filter((card) => card.dataset.type);
    return calls.map(({ dataset: { type, id } }) => ({ type, call_id: id, output: 'The user sent another message instead.' }));
  }

  // the end

  get said() {
    return textOf(this.record.output.filter((item) => item.type === 'message').flatMap((item) => item.content ?? []));
  }

  /** An error in a stream. OpenAI has few codes for those; the server's own is beside them. */
  failed({ message, code: kind, original_code: own, param }) {
    this.fail(new Failure(message, { code: own ?? kind, param, request: this.record.requestId }));
  }

  fail({ message, status, code: kind, param, request }) {
    this.record.error ??= { message: message || 'The agent failed.', status, code: kind, param, request };
  }

  /** What stands below a turn that has ended, however it did. */
  close() {
    const { record, page } = this;
    const { usage, error } = record;
    if (record.stopped) this.put(el('p.note', 'You stopped the answer.'));
    else if (record.cut) this.put(el('p.note', `The answer was cut: ${record.cut.replaceAll('_', ' ')}.`));
    if (error) this.put(this.errorBox(error));
    const thought = usage?.output_tokens_details?.reasoning_tokens;
    const numbers = [
      record.first !== undefined && `first text ${seconds(record.first)}`,
      record.total !== undefined && `total ${seconds(record.total)}`,
      usage?.total_tokens && `${usage.input_tokens} in, ${usage.output_tokens} out${thought ? ` (${thought} thinking)` : ''}`,
    ];
    const copy = copyButton(() => this.said, icon('copy'));
    const again = button(() => page.again(this), 'quiet small again', icon('again'), error ? 'Try again' : 'Regenerate');
    copy.hidden = !this.said;
    const decided = !error && record.input.some((item) => item.type === 'mcp_approval_response'); // which counts once
    again.hidden = this.waits > 0 || decided || JSON.stringify(record.input).includes(':null'); // files that were not kept
    const look = button(() => page.inspect(this), 'quiet small', icon('inspect'), 'Inspect');
    const told = el('span.num', numbers.filter(Boolean).join(' · '));
    this.node.append(el('div.foot', copy, again, look, told));
    page.follow();
  }

  errorBox({ message, status, code: kind, param, request }) {
    const facts = [status, kind, param && `parameter ${param}`, request].filter(Boolean).join(' · ');
    const box = el('div.error', { role: 'alert' }, el('b', message), el('small', facts));
    if (kind === 'agent_error' && this.page.isLocal) box.append(el('small', "The reason is in the server's log, at this request."));
    if (kind === 'previous_response_not_found' && this.record.shown) {
      box.append(el('p', 'The server does not know this conversation any more; it may have been started anew.'));
      box.append(button(() => this.page.goOn(this), '', 'Go on with what this page has'));
    }
    return box;
  }
}

function bubble({ text, files = [] }) {
  const shown = files.map(({ name, url }) =>
    url?.startsWith('data:image/') ? el('img', { src: url, alt: name }) : el('div.file', icon('clip'), name),
  );
  return el('div.user', ...shown, text);
}
