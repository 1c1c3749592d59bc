// OpenAI's own JavaScript client: `node node_client.mjs CASE BASE_URL` prints the result of CASE as JSON.
import OpenAI from 'openai';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const [, , name, baseURL] = process.argv;
const client = new OpenAI({ baseURL, apiKey: 'sk-right' });
const hi = [{ role: 'user', content: 'Bob' }];
const ask = (model, more = {}) => ({ model, messages: hi, ...more });
const completions = client.chat.completions;

const told = createInterface({ input: process.stdin });
const toldToGoOn = () => once(told, 'line');
const toldToEnd = () => once(told, 'close');

const fault = (error) => ({
  kind: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
  param: error.param ?? null,
  type: error.type ?? null,
  message: error.message,
  hasRequestId: /^req_/.test(error.requestID ?? ''),
});
const faultOf = async (promise) => {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return fault(error);
  }
};

const weather = (calls) => ({
  type: 'function',
  function: {
    name: 'weather',
    description: 'The weather in a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    parse: JSON.parse,
    function: ({ city }) => {
      calls.push(city);
      return `sunny in ${city}`;
    },
  },
});

const runTools = async (stream) => {
  const calls = [];
  const runner = completions.runTools(ask('caller', { tools: [weather(calls)], stream }));
  const content = await runner.finalContent();
  return { calls, content, roles: runner.messages.map((message) => message.role) };
};

const cases = {
  async create() {
    const answer = await completions.create(ask('greeter'));
    const { choices, model, object, usage } = answer;
    return { choices, model, object, usage, hasRequestId: /^req_/.test(answer._request_id) };
  },

  async stream() {
    const stream = await completions.create(ask('greeter', { stream: true, stream_options: { include_usage: true } }));
    const deltas = [];
    let last;
    for await (const chunk of stream) {
      deltas.push(...chunk.choices.map(({ delta, finish_reason }) => ({ ...delta, finish_reason })));
      last = chunk;
    }
    return { deltas, usage: last.usage, choices: last.choices };
  },

  async helper() {
    const runner = completions.stream(ask('greeter', { stream_options: { include_usage: true } }));
    const deltas = [];
    runner.on('content.delta', ({ delta }) => deltas.push(delta));
    const { role, content } = await runner.finalMessage();
    return { deltas, role, content, usage: await runner.totalUsage() };
  },

  async helperWithAgentsOwnTools() {
    const runner = completions.stream(ask('worker'));
    const events = [];
    runner.on('chunk', (chunk) => chunk.event && events.push(chunk.event.data.description));
    const message = await runner.finalMessage();
    return { events, content: message.content, toolCalls: message.tool_calls ?? null };
  },

  runTools: () => runTools(false),
  runToolsStreamed: () => runTools(true),

  async toolCallEvents() {
    const { function: { parse, function: run, ...definition }, type } = weather([]);
    const runner = completions.stream(ask('caller', { tools: [{ type, function: definition }] }));
    const deltas = [];
    runner.on('tool_calls.function.arguments.delta', (event) => deltas.push(event.arguments_delta));
    const { tool_calls } = await runner.finalMessage();
    return { deltas, tool_calls };
  },

  async errors() {
    const stranger = new OpenAI({ baseURL, apiKey: 'sk-wrong' });
    return {
      key: await faultOf(stranger.chat.completions.create(ask('greeter'))),
      model: await faultOf(completions.create(ask('nobody'))),
      param: await faultOf(completions.create(ask('greeter', { temperature: 3 }))),
      path: await faultOf(client.post('/nowhere')),
      failed: await faultOf(completions.create(ask('broken'))),
      failedStream: await faultOf(completions.create(ask('broken', { stream: true }))),
      declared: await faultOf(completions.create(ask('closed'))),
    };
  },

  async failsMidway() {
    let text = '';
    try {
      for await (const chunk of await completions.create(ask('breaks', { stream: true }))) {
        text += chunk.choices[0].delta.content ?? '';
      }
    } catch (error) {
      return { text, isAPIError: error instanceof OpenAI.APIError, ...fault(error) };
    }
    return 'no error';
  },

  async failsMidwayInTheHelper() {
    const runner = completions.stream(ask('breaks'));
    let text = '';
    runner.on('content', (delta) => (text += delta));
    const { kind, message } = await faultOf(runner.finalMessage());
    return { text, kind, message };
  },

  async models() {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    const { id, object, owned_by } = await client.models.retrieve('greeter');
    return { found, retrieved: { id, object, owned_by } };
  },

  async completion() {
    const answer = await client.completions.create({ model: 'greeter', prompt: 'Bob' });
    return { text: answer.choices[0].text, finish_reason: answer.choices[0].finish_reason };
  },

  // The process stays alive until it reads a line, so that only the abort can close the connection.

  async abortStream() {
    const stream = await completions.create(ask('endless', { stream: true }));
    let text = '';
    for await (const chunk of stream) {
      text += chunk.choices[0].delta.content ?? '';
      if (text === 'begun') stream.controller.abort();
    }
    await toldToEnd();
    return { text };
  },

  async breakOutOfStream() {
    for await (const chunk of await completions.create(ask('endless', { stream: true }))) {
      if (chunk.choices[0].delta.content) break;
    }
    await toldToEnd();
    return 'out';
  },

  async abortHelper() {
    const runner = completions.stream(ask('endless'));
    runner.on('content', () => runner.abort());
    const { kind } = await faultOf(runner.done());
    await toldToEnd();
    return kind;
  },

  async abortPlain() {
    const controller = new AbortController();
    const answer = faultOf(completions.create(ask('endless'), { signal: controller.signal }));
    await toldToGoOn();
    controller.abort();
    const { kind } = await answer;
    await toldToEnd();
    return kind;
  },
};

console.log(JSON.stringify(await cases[name]()));
process.exit();
