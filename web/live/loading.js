// Brings the models into the page: fetched from a server, or by script from a folder on disk, where fetch is refused.

/**
 * @param {{ names: string[], bytes: number[], folder: string }} where files folder/name.safetensors and folder/name.js
 * @param {(loaded: number, total: number) => void} onProgress bytes
 * @returns {Promise<ArrayBuffer[]>} in the order of the names
 */
export async function loadModels({ names, bytes, folder }, onProgress) {
  const total = bytes.reduce((sum, size) => sum + size, 0);
  const loaded = names.map(() => 0);
  const tell = (/** @type {number} */ k) => (/** @type {number} */ count) => {
    loaded[k] = count;
    onProgress(
      loaded.reduce((sum, size) => sum + size, 0),
      total,
    );
  };
  onProgress(0, total);
  const load = location.protocol === "file:" ? loadByScript : fetchFile;
  return Promise.all(names.map((name, k) => load(folder, name, tell(k))));
}

/** @param {string} folder @param {string} name @param {(count: number) => void} onCount */
async function fetchFile(folder, name, onCount) {
  const response = await fetch(`${folder}/${name}.safetensors`).catch(() => {
    throw new Error("the models could not be fetched. Is there a connection? The next move tries again.");
  });
  if (!response.ok || !response.body) throw new Error(`${name} could not be fetched (${response.status}).`);
  const reader = response.body.getReader();
  const chunks = [];
  let count = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    count += value.length;
    onCount(count);
  }
  return new Blob(chunks).arrayBuffer();
}

/**
 * The script calls acmFile(name, base64).
 * @param {string} folder @param {string} name @param {(count: number) => void} onCount
 * @returns {Promise<ArrayBuffer>}
 */
function loadByScript(folder, name, onCount) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.onerror = () => reject(new Error(`${folder}/${name}.js is missing.`));
    script.onload = () => {
      const text = receivedFiles.get(name);
      receivedFiles.delete(name);
      if (text === undefined) return reject(new Error(`${folder}/${name}.js holds no model.`));
      const buffer = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
      onCount(buffer.byteLength);
      resolve(buffer);
    };
    script.src = `${folder}/${name}.js`;
    document.head.append(script);
  });
}

/** @type {Map<string, string>} */
const receivedFiles = new Map();
/** @type {any} */ (globalThis).acmFile = (/** @type {string} */ name, /** @type {string} */ text) =>
  receivedFiles.set(name, text);
