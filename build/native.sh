#!/bin/sh
# Compiles the native addon: dist/native/sriov.node.
set -eu
mkdir -p dist/native
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared -s -I node_modules/node-api-headers/include \
  src/kernel/native/sriov.c -o dist/native/sriov.node
