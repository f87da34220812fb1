// An MCP server of the TypeScript SDK, version 1, with sessions; HTTP+SSE beside it. Prints its port.
import { randomUUID } from 'node:crypto';
import express from 'express';
import { z } from 'zod';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js';

const { TOKEN, HOSTS, TOOLS = '2' } = process.env;
const sessions = new Map();

function server() {
  const server = new McpServer({ name: 'foreign', version: '1' });
  for (let number = 0; number < Number(TOOLS); number++) {
    const name = number === 0 ? 'search' : `search-${number}`;
    server.registerTool(name, { inputSchema: { query: z.string() } }, async ({ query }) => {
      if (query === 'fail') throw new Error('nothing to find it in');
      return { content: [{ type: 'text', text: query }] };
    });
  }
  return server;
}

async function post(request, response) {
  const id = request.headers['mcp-session-id'];
  let transport = sessions.get(id);
  if (!transport && isInitializeRequest(request.body)) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
      enableDnsRebindingProtection: Boolean(HOSTS),
      allowedHosts: HOSTS?.split(','),
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await server().connect(transport);
  }
  if (!transport) {
    const error = { code: -32000, message: 'Bad Request: No valid session ID provided' };
    return response.status(400).json({ jsonrpc: '2.0', error, id: null });
  }
  await transport.handleRequest(request, response, request.body);
}

const app = express();
app.use(express.json());
if (TOKEN) {
  const verifyAccessToken = async (token) => {
    if (token !== TOKEN) throw new (await import('@modelcontextprotocol/sdk/server/auth/errors.js')).InvalidTokenError('no such token');
    return { token, clientId: 'probe', scopes: [], expiresAt: Date.now() / 1000 + 3600 };
  };
  app.use(requireBearerAuth({ verifier: { verifyAccessToken } }));
}
app.all('/mcp', post);
app.get('/sse', async (_, response) => {
  const transport = new SSEServerTransport('/messages', response);
  sessions.set(transport.sessionId, transport);
  response.on('close', () => sessions.delete(transport.sessionId));
  await server().connect(transport);
});
app.post('/messages', (request, response) =>
  sessions.get(request.query.sessionId).handlePostMessage(request, response, request.body));
app.get('/sessions', (_, response) => response.json(sessions.size));
const listener = app.listen(0, '127.0.0.1', () => console.log(`port ${listener.address().port}`));
