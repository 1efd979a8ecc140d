/* TensorFlow Serving's REST interface, as much of it as the page needs. */

const TIMEOUT = 10_000; // ms

/** The server did not do what was asked; the message is a sentence for people. */
export class RequestFailed extends Error {}

/** One model on the server that the page comes from. */
export class Model {
  /** @param {string} name as the server knows it */
  constructor(name) {
    this.name = name;
    this.url = new URL(`../v1/models/${encodeURIComponent(name)}`, document.baseURI).href;
    this.card = new URL(`card?model=${encodeURIComponent(name)}`, document.baseURI).href;
  }

  /** @returns {Promise<boolean>} whether the version that is served now has a model card */
  async hasCard() {
    try {
      const signal = AbortSignal.timeout(TIMEOUT);
      return (await fetch(this.card, { method: 'HEAD', signal })).status === 200;
    } catch {
      return false;
    }
  }

  /**
   * @returns {Promise<{version: string, signatures: Object}>} of the version that is served now
   * @throws {RequestFailed}
   */
  async describe() {
    const { model_spec: spec, metadata } = await this.#ask('/metadata');
    return { version: spec.version, signatures: metadata.signature_def.signature_def };
  }

  /**
   * @param {string} signature
   * @param {Object} inputs by name, each with all its rows (column format)
   * @returns {Promise<any>} outputs by name; the bare value where the signature has only one
   * @throws {RequestFailed}
   */
  async predict(signature, inputs) {
    const body = JSON.stringify({ signature_name: signature, inputs });
    return (await this.#ask(':predict', { method: 'POST', body })).outputs;
  }

  async #ask(path, options) {
    let response;
    let answer;
    try {
      response = await fetch(this.url + path, { ...options, signal: AbortSignal.timeout(TIMEOUT) });
      answer = await response.json();
    } catch {
      throw new RequestFailed(`The server at ${new URL(this.url).host} does not answer.`);
    }
    if (response.status === 404) {
      throw new RequestFailed(`The server has no model “${this.name}” that it could ask.`);
    }
    if (!response.ok) throw new RequestFailed(`The server refuses: ${answer.error}`);
    return answer;
  }
}

/**
 * Bounds how often the server is asked: one request at a time, and of all that is wanted in the
 * meantime only the latest is asked for.
 *
 * @param {() => Promise<void>} work if it throws, the next wish asks again
 * @param {number} pause ms from one's end to the next one's start
 * @param {(isBusy: boolean) => void} tell called before the first and after the last of a series
 * @returns {() => void} asks for the work to be done
 */
export function latestOnly(work, pause, tell) {
  let isBusy = false;
  let isWanted = false;
  return async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    tell(true);
    try {
      while (isWanted) {
        isWanted = false;
        await work();
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    } finally {
      isBusy = false;
      tell(false);
    }
  };
}
