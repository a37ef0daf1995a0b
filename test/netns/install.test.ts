import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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
