import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';

test('install.sh --root tries the executable in the host root that a DaemonSet has mounted', () => {
  const folder = mkdtempSync(`${tmpdir()}/sriov-root-`);
  try {
    mkdirSync(`${folder}/host`);
    // It exists under this path only inside the root: what runs is not the container's view.
    writeFileSync(`${folder}/plugin`, '#!/bin/sh\n[ -e /only-on-the-host ] && echo sriov 1.2.3\n', {
      mode: 0o755,
    });
    const script = `
      mount -t tmpfs host ${folder}/host
      for name in bin lib lib64 usr; do mkdir ${folder}/host/$name; mount --rbind /$name ${folder}/host/$name; done
      touch ${folder}/host/only-on-the-host
      sh deploy/install.sh --root ${folder}/host install ${folder}/plugin
      ls ${folder}/host/opt/cni/bin`;
    const output = execFileSync('unshare', ['-m', 'sh', '-euc', script], { encoding: 'utf8' });
    expect(output).toBe(`sriov 1.2.3 is installed in ${folder}/host/opt/cni/bin\nsriov\n`);
    expect(readdirSync(`${folder}/host`)).toEqual([]); // it was a mount of that namespace alone
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('install.sh --units: systemd has the Docker driver started, restarted and stopped; its own check of the units finds nothing', () => {
  const folder = mkdtempSync(`${tmpdir()}/sriov-units-`);
  try {
    const program = (name: string, script: string) =>
      writeFileSync(`${folder}/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    program('systemctl', `echo "$*" >> ${folder}/log`);
    for (const version of ['1.0.0', '2.0.0']) program(version, `echo sriov ${version}`);
    const verify = existsSync('/usr/bin/systemd-analyze') ? '/usr/bin/systemd-analyze verify' : ': ';
    const script = `
      mount -t tmpfs none /etc/systemd/system; mount -t tmpfs none /run; mkdir -p /run/systemd/system
      mkdir -p /usr/libexec; mount -t tmpfs none /usr/libexec
      install() { PATH=${folder}:$PATH sh deploy/install.sh --dir /usr/libexec/sriov --units /etc/systemd/system "$@"; }
      install install ${folder}/1.0.0
      said=$(${verify} /etc/systemd/system/sriov-docker.socket /etc/systemd/system/sriov-docker.service 2>&1)
      [ -z "$said" ] || { echo "$said" >&2; exit 1; } # of a wrong word it only warns
      install install ${folder}/2.0.0
      install rollback
      install uninstall
      ls /etc/systemd/system`;
    const output = execFileSync('unshare', ['-m', 'sh', '-euc', script], { encoding: 'utf8' });
    expect(output).toMatch(/installed in \/etc\/systemd\/system\n[^]*are removed from [^\n]*\n[^\n]*\n$/);
    const started = [
      'daemon-reload',
      'enable sriov-docker.socket sriov-docker.service',
      'start sriov-docker.socket',
      'restart sriov-docker.service',
    ];
    const stopped = ['disable --now sriov-docker.service sriov-docker.socket', 'daemon-reload'];
    expect(readFileSync(`${folder}/log`, 'utf8').trim().split('\n')).toEqual(
      [...started, ...started, 'restart sriov-docker.service', ...stopped].map((line) => `--quiet ${line}`),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
