// The chat WebSocket with npm `ws`: `node chat_client.mjs URL` prints the results as JSON.
import { decode, encode } from '@msgpack/msgpack';
import WebSocket from 'ws';

const [, , url] = process.argv;
const last = new Set(['message', 'error', 'generation_stopped']);

const open = (binary, query = 'api_key=sk-right', options = {}) =>
  new Promise((done, fail) => {
    const socket = new WebSocket(`${url}?${query}`, options);
    const frames = [];
    const waiting = [];
    socket.on('message', (data, isBinary) => {
      const frame = { ...(isBinary ? decode(data) : JSON.parse(data.toString())), isBinary };
      frames.push(frame);
      for (const wait of waiting.splice(0)) wait();
    });
    socket.on('error', fail);
    const say = (frame) => socket.send(binary ? encode(frame) : JSON.stringify(frame));
    const until = async (types = last) => {
      const taken = [];
      while (true) {
        while (frames.length) {
          taken.push(frames.shift());
          if (types.has(taken.at(-1).type)) return taken;
        }
        await new Promise((next) => waiting.push(next));
      }
    };
    socket.on('open', () => done({ socket, say, until }));
  });

const ask = async (client, frame) => {
  client.say({ role: 'user', ...frame });
  return client.until();
};
const text = (frames) => frames.filter((f) => f.type === 'chunk').map((f) => f.content).join('');

const json = await open(false);
const binary = await open(true);
const first = text(await ask(json, { content: 'one', thread_id: 'n' }));
const second = text(await ask(binary, { content: 'two', thread_id: 'n' }));
const encodings = [json, binary].map(async (client) => (await ask(client, { content: 'x' })).every((f) => f.isBinary));
const failed = (await ask(binary, { content: 'fail' })).at(-1);

json.say({ type: 'client_tools_manifest', tools: [{ name: 'where', parameters: { type: 'object' } }] });
json.say({ role: 'user', content: 'where', thread_id: 'tools' });
const call = (await json.until(new Set(['tool_call']))).at(-1);
binary.say({ type: 'tool_result', tool_call_id: call.tool_call_id, ok: true, result: { city: 'Lisbon' } });
const found = (await json.until()).at(-1).content;

json.say({ role: 'user', content: 'wait', thread_id: 'gone' });
const chunk = (await json.until(new Set(['chunk']))).at(-1);
json.socket.terminate();
const again = await open(true);
again.say({ type: 'resume_chat', thread_id: 'gone', last_seq: chunk.chat_seq });
const resumed = (await again.until(new Set(['chat_resumed']))).at(-1);
again.say({ type: 'stop', thread_id: 'gone' });
const stopped = (await again.until()).at(-1);

const refused = await open(false, 'api_key=sk-wrong').then(() => 'no error', (error) => error.message);
console.log(JSON.stringify({
  first, second, failed: failed.error.code, call, found, resumed, stopped, refused,
  encodings: await Promise.all(encodings),
}));
process.exit(0);
