// The JavaScript clients of Ollama, Anthropic and Vercel: `node vendors_client.mjs URL` prints the results of their cases.
import { createAnthropic } from '@ai-sdk/anthropic';
import Anthropic from '@anthropic-ai/sdk';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import { Ollama } from 'ollama';

const [, , url] = process.argv;
const ollama = new Ollama({ host: url });
const anthropic = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 });
const vercel = createAnthropic({ baseURL: `${url}/v1`, apiKey: 'none' });

const hi = [{ role: 'user', content: 'hi' }];
const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const faultOf = async (work) => {
  try {
    await work();
    return 'no error';
  } catch (error) {
    return [error.constructor.name, error.status_code ?? error.status ?? null, error.message];
  }
};

globalThis.AI_SDK_LOG_WARNINGS = false; // keep warnings out of the output

const cases = {
  async 'ollama: models'() {
    const { models } = await ollama.list();
    const { capabilities } = await ollama.show({ model: models[0].name });
    return [models.map((model) => model.name), capabilities, (await ollama.version()).version];
  },
  async 'ollama: chat'() {
    const plain = await ollama.chat({ model: 'talker', messages: hi });
    let text = '';
    let last;
    for await (const part of await ollama.chat({ model: 'talker', messages: hi, stream: true })) {
      text += part.message.content;
      last = part;
    }
    return [plain.message, text, last.done_reason, last.eval_count];
  },
  async 'ollama: tools'() {
    const tools = [{ type: 'function', function: { name: 'weather', description: 'Tells it.', parameters: schema } }];
    const { message } = await ollama.chat({ model: 'caller', messages: hi, tools });
    const results = message.tool_calls.map((call) => ({
      role: 'tool',
      tool_name: call.function.name,
      content: `sunny in ${call.function.arguments.city}`,
    }));
    const answered = await ollama.chat({ model: 'caller', messages: [...hi, message, ...results], tools });
    return [message.tool_calls, answered.message.content];
  },
  async 'ollama: errors'() {
    const unknown = await faultOf(() => ollama.chat({ model: 'other', messages: hi }));
    const late = await faultOf(async () => {
      for await (const part of await ollama.chat({ model: 'broken', messages: hi, stream: true })) part.done;
    });
    return [unknown, late];
  },
  async 'ollama: abort'() {
    const stream = await ollama.chat({ model: 'endless', messages: hi, stream: true });
    return faultOf(async () => {
      for await (const part of stream) if (part.message.content) stream.abort();
    });
  },
  async 'anthropic: message'() {
    const ask = { model: 'talker', max_tokens: 100, messages: hi };
    const plain = await anthropic.messages.create(ask);
    const streamed = await anthropic.messages.stream(ask).finalMessage();
    return [plain.content, streamed.content, streamed.stop_reason, streamed.usage.output_tokens];
  },
  async 'anthropic: tools'() {
    const ask = { model: 'caller', max_tokens: 100, tools: [{ name: 'weather', input_schema: schema }] };
    const called = await anthropic.messages.stream({ ...ask, messages: hi }).finalMessage();
    const results = called.content.map((block) => ({
      type: 'tool_result',
      tool_use_id: block.id,
      content: `sunny in ${block.input.city}`,
    }));
    const messages = [...hi, { role: 'assistant', content: called.content }, { role: 'user', content: results }];
    return [called.stop_reason, (await anthropic.messages.create({ ...ask, messages })).content[0].text];
  },
  async 'anthropic: errors'() {
    const ask = { max_tokens: 100, messages: hi };
    const unknown = await faultOf(() => anthropic.messages.create({ model: 'other', ...ask }));
    const late = await faultOf(() => anthropic.messages.stream({ model: 'broken', ...ask }).finalMessage());
    return [unknown.slice(0, 2), late.slice(0, 1), late[2].includes('It is closed.')];
  },
  async 'vercel: tools'() {
    const weather = tool({ inputSchema: jsonSchema(schema), execute: async ({ city }) => `sunny in ${city}` });
    const ask = { model: vercel('caller'), prompt: 'hi', tools: { weather }, stopWhen: stepCountIs(3), maxRetries: 0 };
    const plain = await generateText(ask);
    const streamed = streamText(ask);
    let text = '';
    for await (const piece of streamed.textStream) text += piece;
    return [plain.text, text, plain.steps.length, await streamed.finishReason];
  },
  async 'vercel: error'() {
    const told = [];
    const onError = ({ error }) => told.push(String(error.message ?? error));
    const streamed = streamText({ model: vercel('broken'), prompt: 'hi', maxRetries: 0, onError });
    let text = '';
    for await (const part of streamed.fullStream) if (part.type === 'text-delta') text += part.text;
    return [text, told.map((message) => message.includes('It is closed.'))];
  },
};

const found = {};
for (const [name, work] of Object.entries(cases)) found[name] = await work();
console.log(JSON.stringify(found));
