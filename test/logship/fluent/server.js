// A server of the forward protocol, by the fluent organisation's own library:
// it writes what it takes to a file, an entry a line, and acknowledges.
// Usage: node server.js PORT FILE; NODE_PATH names the library's folder.
const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");
const [port, file] = process.argv.slice(2);
const server = new FluentServer({ listenOptions: { host: "127.0.0.1", port: Number(port) } });
server.on("entry", (tag, time, record) => fs.appendFileSync(file, JSON.stringify({ tag, record }) + "\n"));
server.listen();
