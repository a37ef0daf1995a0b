#!/bin/sh
# Compiles the native addon: dist/native/system.node.
set -eu
mkdir -p dist/native
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared -s -I node_modules/node-api-headers/include \
  src/kernel/native/system.c -o dist/native/system.node
