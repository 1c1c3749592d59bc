// OpenAI's own JavaScript client over WebSocket: `node socket_client.mjs BASE_URL` prints the results as JSON.
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';

const [, , baseURL] = process.argv;
const client = new OpenAI({ baseURL, apiKey: 'sk-right' });
const over = new Set(['response.completed', 'response.failed', 'error']);

const open = async (someone) => {
  const socket = new ResponsesWS(someone);
  if (socket.socket.readyState !== 1) await new Promise((done, fail) => {
    socket.socket.on('open', done);
    socket.on('error', fail);
  });
  return socket;
};

const answer = (socket, create) =>
  new Promise((done) => {
    const deltas = [];
    const listen = (event) => {
      if (event.type === 'response.output_text.delta') deltas.push(event.delta);
      if (!over.has(event.type)) return;
      socket.off('event', listen);
      done({ type: event.type, text: deltas.join(''), lane: event.stream_id ?? null, id: event.response?.id, error: event.error });
    };
    socket.on('event', listen);
    socket.send({ type: 'response.create', model: 'agent', ...create });
  });

const socket = await open(client);
socket.on('error', () => {});
const first = await answer(socket, { input: 'one', store: false });
const second = await answer(socket, { input: 'two', store: false, previous_response_id: first.id, stream_id: 'a' });
const failed = await answer(socket, { input: 'fail' });
const third = await answer(socket, { input: 'three' });
socket.close();

const refused = await open(new OpenAI({ baseURL, apiKey: 'sk-wrong' })).then(
  () => 'no error',
  (error) => error.message,
);
console.log(JSON.stringify({ first, second, failed, third, refused }));
process.exit(0);
