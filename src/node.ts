/** The program on Node: what dist/sriov starts. */
import { end, run } from './main.ts';

const env = { ...process.env };
// The first Date asks ICU for the host's time zone, which compares an /etc/localtime that is no link with all 900 files of
// /usr/share/zoneinfo: 6 ms, 40 from a cold disk. All our times are UTC; the IPAM plugin gets the environment as it was.
process.env['TZ'] = 'UTC';
void run(process.argv.slice(2), env, () => process.uptime() * 1e3).then((outcome) =>
  end(outcome).catch(() => {
    // Without our native part there is only Node's way.
    if (outcome.stderr) process.stderr.write(`${outcome.stderr.trimEnd()}\n`);
    if (outcome.stdout) process.stdout.write(`${outcome.stdout.trimEnd()}\n`);
    process.exitCode = outcome.exitCode;
  }),
);
