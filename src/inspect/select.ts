import type { Host } from '../vf/host.ts';
import { devicePath, functionBehind, NotUsable, parsePci } from '../vf/inventory.ts';
import { parsePfSelector } from '../vf/pool.ts';
import type { Device } from './device.ts';

/**
 * The devices that an operator means: by PCI address, PF#INDEX, netdev name on the host,
 * NAMESPACE/POD, container name or container id, which may be shortened as long as it is unique.
 * @throws NotUsable if there is none, or more than one container
 */
export function select(host: Host, devices: readonly Device[], text: string): Device[] {
  const found = selectExact(host, devices, text) ?? selectContainer(devices, text);
  if (found.length > 0) return found;
  throw new NotUsable(
    `Nothing here is "${text}": give a PCI address, PF#INDEX, a netdev, NAMESPACE/POD, a container's name or the beginning of its id (sriov list shows them)`,
  );
}

function selectExact(host: Host, devices: readonly Device[], text: string): Device[] | undefined {
  const pci = parsePci(text);
  if (pci !== undefined) {
    const found = devices.filter(({ vf }) => vf.pci === pci);
    if (found.length > 0) return found;
    const why = host.sys.exists(devicePath(pci))
      ? 'it is no network device'
      : 'no such PCI device on this host';
    throw new NotUsable(`Cannot show ${pci}: ${why}`);
  }
  if (text.includes('#')) return selectIndex(host, devices, text);
  if (text.includes('/')) return devices.filter(({ owner }) => owner?.pod === text);
  const named = devices.filter(
    ({ vf, link, netns }) =>
      vf.ifnames.includes(text) || (netns === '' && (link?.ifname === text || link?.altnames.includes(text))),
  );
  if (named.length > 0) return named;
  const ofContainer = devices.filter(({ owner }) => owner?.containerName === text);
  return ofContainer.length > 0 ? ofContainer : undefined;
}

/** @throws NotUsable */
function selectIndex(host: Host, devices: readonly Device[], text: string): Device[] {
  const { pf: name = '', ranges = [] } = parsePfSelector(text) ?? {};
  const pf = parsePci(name) ?? functionBehind(host.sys, name);
  const found = devices.filter(
    ({ vf, isPf }) =>
      !isPf && vf.pf.pci === pf && ranges.some(([first, last]) => first <= vf.index && vf.index <= last),
  );
  if (found.length === 0) throw new NotUsable(`There is no VF "${text}" on this host`);
  return found;
}

/** @throws NotUsable if more than one container begins so */
function selectContainer(devices: readonly Device[], text: string): Device[] {
  const idsOf = ({ owner }: Device) => [owner?.containerId ?? owner?.endpointId, owner?.endpointId];
  const found = devices.filter((device) => idsOf(device).some((id) => id?.startsWith(text)));
  const exact = found.filter((device) => idsOf(device).includes(text));
  if (exact.length > 0) return exact;
  const containers = [...new Set(found.map((device) => idsOf(device)[0]))];
  if (containers.length > 1)
    throw new NotUsable(
      `"${text}" is the beginning of ${containers.length} container ids: ${containers.join(', ')}`,
    );
  return found;
}
