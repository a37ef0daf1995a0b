#!/bin/sh
# Installs the plugin on a node, or takes it away again. Run it with --help.
set -eu

usage="Usage: install.sh [--root DIR] [--dir DIR] [--units DIR] install FILE | uninstall | rollback [--force]

  install FILE   tries FILE, keeps what was there as sriov.previous, and puts FILE in its place in one step (rename)
  uninstall      removes sriov; refuses while VFs are attached
  rollback       puts sriov.previous back; refuses while VFs are attached if that is another plugin
  --force        do not refuse

  --root DIR     the host's root, where that is not our own: FILE is tried there with chroot (a DaemonSet)
  --dir DIR      folder of CNI plugins, default /opt/cni/bin
  --units DIR    for Docker's network driver: systemd's units, too, into DIR or out of it; where systemd runs, they are
                 started, restarted or stopped
  DESTDIR        (environment) put before the folder, for making packages: nothing is tried then

Exit code: 0 done, 1 not done: nothing was changed, 2 wrong command line."

# What the executable asks of a host; of glibc only that which contains a Node.
min_kernel=4.18
min_glibc=2.28

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

root=/
dir=/opt/cni/bin
units=
force=
action=
file=
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=${2:?}; shift ;;
    --dir) dir=${2:?}; shift ;;
    --units) units=${2:?}; shift ;;
    --force) force=1 ;;
    -h | --help) echo "$usage"; exit 0 ;;
    install) action=install; file=${2:-}; [ $# -gt 1 ] && shift ;;
    uninstall | rollback) action=$1 ;;
    *) action=; break ;;
  esac
  shift
done
if [ -z "$action" ] || { [ "$action" = install ] && [ -z "$file" ]; }; then
  echo "$usage" >&2
  exit 2
fi

prefix=${DESTDIR:-}${root%/}
target=$prefix$dir
claims=$prefix/var/lib/cni/sriov/claims

# Runs a program of the host where it will run later.
on_host() {
  if [ "$root" = / ]; then "$@"; else chroot "$root" "$@"; fi
}

# at_least 5.10.3-generic 4.18
at_least() {
  have_major=${1%%.*}
  have_minor=${1#*.}
  have_minor=${have_minor%%[!0-9]*}
  want_major=${2%%.*}
  want_minor=${2#*.}
  [ "$have_major" -gt "$want_major" ] || { [ "$have_major" -eq "$want_major" ] && [ "$have_minor" -ge "$want_minor" ]; }
}

check_host() {
  kernel=$(uname -r)
  at_least "$kernel" "$min_kernel" || fail "this host has Linux $kernel; sriov needs $min_kernel or later"
  grep -q ld-linux "$file" || return 0 # static
  # A host without getconf, or with another libc than glibc, is judged by trying.
  glibc=$(on_host getconf GNU_LIBC_VERSION 2>/dev/null) || glibc=
  glibc=${glibc#glibc }
  if [ -n "$glibc" ]; then
    at_least "$glibc" "$min_glibc" || fail "this host has glibc $glibc; sriov needs $min_glibc or later"
  fi
}

# try PATH (as seen on the host): what it says with --version
try() {
  if said=$(unset CNI_COMMAND; on_host "$1" --version 2>&1); then
    case $said in
      "sriov "*) return 0 ;;
      *) reason="it says \"$said\", not its version" ;;
    esac
    return 1
  fi
  case $said in
    *libstdc++* | *GLIBCXX* | *CXXABI*) reason="libstdc++ is missing or too old (Debian: libstdc++6, Fedora: libstdc++): $said" ;;
    *GLIBC_*) reason="glibc is older than $min_glibc: $said" ;;
    *"not found"* | *"No such file"*) reason="this host has no glibc (musl?), or the executable is for another processor than $(uname -m): $said" ;;
    *"cannot execute"* | *"Exec format"*) reason="it is not for this processor ($(uname -m)): $said" ;;
    *"ermission denied"*) reason="$dir is mounted noexec, or the security policy forbids it: $said" ;;
    *) reason=$said ;;
  esac
  return 1
}

# systemctl, where systemd runs on this very host and not for a package or in a DaemonSet
systemd() {
  [ -n "${DESTDIR:-}" ] || [ "$root" != / ] || [ ! -d /run/systemd/system ] || systemctl --quiet "$@"
}

install_units() {
  [ -n "$units" ] || return 0
  mkdir -p "$prefix$units"
  for unit in socket service; do
    cp "$(dirname "$0")/sriov-docker.$unit" "$prefix$units/"
    chmod 644 "$prefix$units/sriov-docker.$unit"
  done
  systemd daemon-reload
  systemd enable sriov-docker.socket sriov-docker.service
  systemd start sriov-docker.socket
  restart_units || fail "everything is installed, but sriov-docker.service does not start: journalctl -u sriov-docker"
  echo "sriov-docker.socket and sriov-docker.service are installed in $prefix$units"
}

# The socket stays meanwhile: no call of dockerd is refused.
restart_units() {
  [ -z "$units" ] || systemd restart sriov-docker.service
}

uninstall_units() {
  [ -n "$units" ] && [ -e "$prefix$units/sriov-docker.socket" ] || return 0
  systemd disable --now sriov-docker.service sriov-docker.socket
  rm -f "$prefix$units/sriov-docker.socket" "$prefix$units/sriov-docker.service"
  systemd daemon-reload
  echo "sriov-docker.socket and sriov-docker.service are removed from $prefix$units"
}

# PCI addresses of the VFs that are attached.
attached() {
  ls "$claims" 2>/dev/null | sed -n 's/\.json$//p' | tr '\n' ' '
}

case $action in
  install)
    [ -f "$file" ] || fail "\"$file\" is not a file"
    [ -n "${DESTDIR:-}" ] || check_host
    mkdir -p "$target"
    new=.sriov.new
    # In the same folder, or the rename would be a copy; a name that no network configuration can mean.
    trap 'rm -f "$target/$new"' EXIT
    rm -f "$target/$new"
    cp "$file" "$target/$new"
    chmod 755 "$target/$new"
    said=$file
    [ -n "${DESTDIR:-}" ] || try "$dir/$new" || fail "\"$file\" does not run on this host, so nothing was changed: $reason"
    if cmp -s "$target/$new" "$target/sriov"; then
      echo "$said is installed in $target already"
      install_units
      exit 0
    fi
    if [ -e "$target/sriov" ]; then
      # A second name, not a move: runtimes find a plugin at every moment.
      ln -f "$target/sriov" "$target/sriov.previous" 2>/dev/null || cp -p "$target/sriov" "$target/sriov.previous"
      echo "what was there is kept as $target/sriov.previous"
    fi
    # Else a power failure could leave an empty file under the name (not every file system orders data before a rename).
    sync "$target/$new" 2>/dev/null || sync
    mv -f "$target/$new" "$target/sriov"
    echo "$said is installed in $target"
    install_units
    ;;

  uninstall)
    [ -e "$target/sriov" ] || { uninstall_units; echo "there is no $target/sriov"; exit 0; }
    vfs=$(attached)
    if [ -n "$vfs" ] && [ -z "$force" ]; then
      fail "VFs are attached, and nothing else can give them back: $vfs- drain the node, or run: sriov gc; sriov release VF --force"
    fi
    uninstall_units
    rm -f "$target/sriov"
    echo "$target/sriov is removed; /var/lib/cni/sriov stays$([ -e "$target/sriov.previous" ] && echo ", and so does sriov.previous")"
    ;;

  rollback)
    [ -e "$target/sriov.previous" ] || fail "there is no $target/sriov.previous"
    vfs=$(attached)
    if [ -n "$vfs" ] && [ -z "$force" ] && ! try "$dir/sriov.previous"; then
      fail "sriov.previous is another plugin, which knows nothing of the VFs that are attached: $vfs- drain the node, or run: sriov release VF --force"
    fi
    mv -f "$target/sriov.previous" "$target/sriov"
    restart_units
    echo "$target/sriov is what it was before"
    ;;
esac
