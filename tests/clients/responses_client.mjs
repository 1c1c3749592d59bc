// OpenAI's own JavaScript client on the Responses API: `node responses_client.mjs BASE_URL` prints the results as JSON.
// With the extra argument `killed` it tests a server that is killed in mid-stream: it prints "begun" when the server may be
// killed, and continues when it reads a line.
import OpenAI from 'openai';
import { ResponsesToolRunner } from 'openai/helpers/responses-tool-runner';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const [, , baseURL, mode] = process.argv;
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0, timeout: 20_000 });
const responses = client.responses;

const tool = {
  type: 'function',
  name: 'weather',
  description: 'The weather in a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
  strict: true,
};
const weather = { tool, execute: async ({ city }) => `sunny in ${city}` };
const approver = { type: 'mcp', server_label: 'careful', server_url: 'https://example.org', require_approval: 'always' };
const kinds = (items) => items.map((item) => item.type);
const faultOf = async (promise) => {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
};
const outcome = async (id) => {
  for (;;) {
    const found = await responses.retrieve(id);
    if (!['queued', 'in_progress'].includes(found.status)) return found;
  }
};
const result = (call) => ({ type: 'function_call_output', call_id: call.call_id, output: 'sunny' });

const cases = {
  async tools() {
    const asked = await responses.create({ model: 'weather', input: 'And now?', tools: [tool] });
    const call = asked.output.at(-1);
    const told = await responses.create({
      model: 'weather',
      input: [result(call)],
      tools: [tool],
      previous_response_id: asked.id,
    });
    return { kinds: kinds(asked.output), call: [call.name, JSON.parse(call.arguments)], text: told.output_text };
  },

  async toolsStreamed() {
    const stream = responses.stream({ model: 'weather', input: 'And now?', tools: [tool] });
    const snapshots = [];
    stream.on('response.function_call_arguments.delta', (event) => snapshots.push(event.snapshot));
    const asked = await stream.finalResponse();
    const next = responses.stream({
      model: 'weather',
      input: [result(asked.output.at(-1))],
      tools: [tool],
      previous_response_id: asked.id,
    });
    const deltas = [];
    next.on('response.output_text.delta', (event) => deltas.push(event.delta));
    const told = await next.finalResponse();
    return { snapshots, deltas, text: told.output_text };
  },

  // The runner itself replays the whole conversation, and checks every item first.

  async runner() {
    const runner = new ResponsesToolRunner({ functions: [weather] });
    return (await runner.run(client, { model: 'weather', input: 'And now?', store: false })).output_text;
  },

  async runnerStreamed() {
    const runner = new ResponsesToolRunner({ functions: [weather] });
    const seen = [];
    const onEvent = (event) => {
      if (event.type === 'response.output_text.delta') seen.push(event.delta);
    };
    const found = await runner.run(client, { model: 'weather', input: 'And now?' }, { stream: true, onEvent });
    return { text: found.output_text, pieces: seen.length };
  },

  async runnerApproves() {
    const asked = [];
    const approveMcp = (request) => asked.push([request.name, request.arguments]) > 0;
    const runner = new ResponsesToolRunner({ functions: [weather] });
    const params = { model: 'careful', input: 'Clean up', tools: [approver] };
    return { asked, text: (await runner.run(client, params, { approveMcp })).output_text };
  },

  async ownTools() {
    const found = await responses.stream({ model: 'searcher', input: 'Where is it?', tools: [tool] }).finalResponse();
    const [call] = found.output;
    return { kinds: kinds(found.output), call: [call.name, call.arguments, call.output], text: found.output_text };
  },

  async parsed() {
    const schema = {
      type: 'object',
      properties: { name: { type: 'string' }, age: { type: 'integer' } },
      required: ['name', 'age'],
      additionalProperties: false,
    };
    const format = { type: 'json_schema', name: 'person', schema, strict: true };
    return JSON.parse((await responses.parse({ model: 'person', input: 'Who?', text: { format } })).output_text);
  },

  async background() {
    const started = await responses.create({ model: 'waiting', input: 'node', background: true, stream: true });
    const seen = [];
    let id;
    for await (const event of started) {
      seen.push(event);
      id ??= event.response.id;
      if (event.type === 'response.output_text.delta') break;
    }
    const { status } = await responses.retrieve(id);
    const opened = responses.create({ model: 'opener', input: 'node' });
    const last = seen.at(-1).sequence_number;
    for await (const event of await responses.retrieve(id, { stream: true, starting_after: last })) seen.push(event);
    await opened;
    const replayed = [];
    const stream = responses.stream({ response_id: id, starting_after: 4 });
    stream.on('event', (event) => replayed.push(event.sequence_number));
    return {
      status,
      gaps: seen.filter((event, index) => event.sequence_number !== index).length,
      deltas: seen.filter(({ type }) => type === 'response.output_text.delta').map(({ delta }) => delta),
      polled: (await outcome(id)).output_text,
      streamed: (await stream.finalResponse()).output_text,
      replayedFrom: replayed[0],
    };
  },

  async cancelled() {
    const made = await responses.create({ model: 'waiting', input: 'nobody', background: true });
    const cancelled = await responses.cancel(made.id);
    const later = await outcome(made.id);
    await responses.delete(made.id);
    return [cancelled.status, later.status, await faultOf(responses.retrieve(made.id))];
  },

  async conversation() {
    const { id } = await client.conversations.create();
    for (const input of ['one', 'two']) await responses.create({ model: 'echo', input, conversation: id });
    const last = await responses.create({ model: 'echo', input: 'three', conversation: { id } });
    const listed = [];
    for await (const item of responses.inputItems.list(last.id, { order: 'asc' })) listed.push(item.content[0].text);
    return { text: last.output_text, conversation: last.conversation.id === id, listed };
  },

  async fails() {
    let text = '';
    const stream = responses.stream({ model: 'breaks', input: 'Now' });
    stream.on('response.output_text.delta', ({ delta }) => (text += delta));
    const fault = await faultOf(stream.finalResponse());
    return { text, ...fault };
  },
};

const killed = async () => {
  const first = await responses.create({ model: 'echo', input: 'one' });
  const chain = { previous_response_id: first.id };
  const stream = responses.stream({ model: 'waiting', input: 'nobody', ...chain });
  stream.on('response.output_text.delta', () => console.log('begun'));
  const fault = await faultOf(stream.finalResponse());
  await once(createInterface({ input: process.stdin }), 'line');
  return { broke: fault !== 'no error', text: (await responses.create({ model: 'echo', input: 'two', ...chain })).output_text };
};

const found = mode === 'killed' ? await killed() : {};
if (mode !== 'killed') for (const [name, work] of Object.entries(cases)) found[name] = await work();
console.log(JSON.stringify(found));
process.exit();
