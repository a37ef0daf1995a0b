/** What the static executable has in the place of daemon.ts (build/static.ts). */
export function runDaemon(): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const stderr =
    'sriov docker: the Docker driver is in the other executable, the one that contains a Node: "make build" makes it as dist/sriov, ' +
    '"make install-docker" installs it as /usr/libexec/sriov/sriov (docs/docker.md)\n';
  return Promise.resolve({ exitCode: 1, stdout: '', stderr });
}
