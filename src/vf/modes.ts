import { IFF_ALLMULTI, IFF_PROMISC } from '../kernel/link-message.ts';

/** Which frames beside its own a netdev takes in. Undefined: nobody asked, which in a pod is no. */
export interface Modes {
  readonly promisc?: boolean | undefined;
  readonly allmulti?: boolean | undefined;
}

const modeFlags = { promisc: IFF_PROMISC, allmulti: IFF_ALLMULTI } as const;

/** IFF_* to set and to clear, so that a netdev has these modes and no other. */
export function flagsOf(modes: Modes | undefined): { setFlags: number; clearFlags: number } {
  const setFlags = (modes?.promisc ? IFF_PROMISC : 0) | (modes?.allmulti ? IFF_ALLMULTI : 0);
  return { setFlags, clearFlags: (IFF_PROMISC | IFF_ALLMULTI) & ~setFlags };
}

/** In which modes a netdev is not what was asked for. */
export function modesDrift(flags: number, asked: Modes | undefined): string[] {
  return (['promisc', 'allmulti'] as const).flatMap((mode) => {
    const isOn = (flags & modeFlags[mode]) !== 0;
    return asked?.[mode] === undefined || asked[mode] === isOn
      ? []
      : [`"${mode}" is ${isOn}, was ${asked[mode]}`];
  });
}
