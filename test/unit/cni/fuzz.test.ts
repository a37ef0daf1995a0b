import { expect, test } from 'vitest';
import { wantedSettings } from '../../../src/attach/wish.ts';
import { type NetConf, parseConfig } from '../../../src/cni/config.ts';
import { CniError, formatError } from '../../../src/cni/errors.ts';
import { parseCommand, parseRequest } from '../../../src/cni/request.ts';
import { formatResult, parseResult, type Result, toIpConfig } from '../../../src/cni/result.ts';
import { answeredVersion, formatVersion } from '../../../src/cni/versions.ts';
import { changes, restorable, type VfSettings, writeSettings } from '../../../src/vf/settings.ts';
import { type FuzzedCall, fuzzedCall } from '../../support/fuzz.ts';
import { isSoak, seed, seeded } from '../../support/random.ts';
import { judgedCall, misjudgement } from '../../support/wrong-call.ts';

const count = isSoak ? 100_000 : 20_000;

/** What a card of the lab reports before anything is asked of it. */
const original: VfSettings = {
  mac: '02:00:00:00:00:aa',
  vlan: { id: 0, qos: 0, proto: '802.1q' },
  rateMbps: { min: 0, max: 0 },
  spoofchk: true,
  linkState: 'auto',
  trust: false,
};

/** Everything between stdin and the first change, and the way back. Returns the document for stdout. */
function parseAndPlan({ env, stdin }: FuzzedCall): string {
  if (env['CNI_COMMAND'] === 'VERSION') return formatVersion(stdin);
  const request = parseRequest(parseCommand(env), env, stdin);
  const conf = parseConfig(request);
  const previous = request.config['prevResult'];
  const result: Result =
    previous === undefined || previous === null
      ? { interfaces: [], ips: [], routes: [], dns: {} }
      : parseResult(previous, conf.cniVersion, 'prevResult');
  toIpConfig(result, 'prevResult');
  plan(conf);
  return formatResult(result, conf.cniVersion);
}

function plan(conf: NetConf): void {
  const wanted = wantedSettings(conf, original);
  const asked = changes(original, wanted);
  writeSettings(0, asked);
  const after = { ...original, ...asked };
  const undo = changes(after, restorable(original, wanted, true));
  expect({ ...after, ...undo, mac: original.mac }).toEqual(original);
}

test(`${count} generated requests end with an answer or a CNI error, never with a bug`, () => {
  const random = seeded(seed);
  const codes = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const call = fuzzedCall(random);
    let code = 0;
    try {
      JSON.parse(parseAndPlan(call));
    } catch (error) {
      if (!(error instanceof CniError))
        throw new Error(`request ${i}: ${JSON.stringify(call)}`, { cause: error });
      expect(JSON.parse(formatError(error, answeredVersion(call.stdin)))).toMatchObject({ code: error.code });
      code = error.code;
    }
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  // The generator is worth something only if it comes past each of the checks.
  for (const code of [0, 1, 2, 4, 6, 7]) expect(codes.get(code) ?? 0, `code ${code}`).toBeGreaterThan(100);
  console.log('codes:', Object.fromEntries([...codes].sort(([a], [b]) => a - b)));
}, 120_000);

test(`${count} requests of which it is known what is wrong: the code says so`, () => {
  const random = seeded(seed);
  const complaints = new Set<string>();
  for (let i = 0; i < count; i++) {
    const call = judgedCall(random, false);
    let code = 0;
    try {
      parseAndPlan(call);
    } catch (error) {
      code = (error as { code?: number }).code ?? -1;
    }
    const wrong = misjudgement(call, code);
    if (wrong !== undefined) complaints.add(wrong);
  }
  expect([...complaints]).toEqual([]);
}, 120_000);
