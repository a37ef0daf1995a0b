#!/bin/sh
# Checks for the few programs that the machine itself must have; as root on Debian it installs what is missing.
set -eu
packages=
need() { # PROGRAM PACKAGE...
  command -v "$1" >/dev/null || { shift; packages="$packages $*"; }
}
need npm npm
need cc gcc libc6-dev
need strip binutils
need ip iproute2
need strace strace
need setpriv util-linux
need mke2fs e2fsprogs
[ -n "$packages" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing$packages" >&2
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages >/dev/null
else
  echo "missing: install$packages" >&2
  exit 1
fi
