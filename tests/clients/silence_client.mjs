// OpenAI's own JavaScript client and an agent that is silent in mid-stream: `node silence_client.mjs API BASE_URL` prints
// the text as JSON.
import OpenAI from 'openai';

const [, , api, baseURL] = process.argv;
const client = new OpenAI({ baseURL, apiKey: 'sk-any', maxRetries: 0 });

const apis = {
  async chat() {
    let text = '';
    const messages = [{ role: 'user', content: 'hi' }];
    for await (const chunk of await client.chat.completions.create({ model: 'agent', messages, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
    }
    return text;
  },

  async responses() {
    let text = '';
    for await (const event of await client.responses.create({ model: 'agent', input: 'hi', stream: true })) {
      if (event.type === 'response.output_text.delta') text += event.delta;
    }
    return text;
  },

  async followed() {
    let text = '';
    const options = { model: 'agent', input: 'hi', stream: true, background: true };
    for await (const event of await client.responses.create(options)) {
      if (event.type !== 'response.created') continue;
      for await (const later of await client.responses.retrieve(event.response.id, { stream: true })) {
        if (later.type === 'response.output_text.delta') text += later.delta;
      }
      break;
    }
    return text;
  },
};

console.log(JSON.stringify(await apis[api]()));
process.exit();
