#ifndef NAPI_H
#define NAPI_H

#include <stdbool.h>

#include <quickjs.h>

/* The exports of the addon that is linked in, and while `is_sealed` none of its functions runs. */
JSValue napi_load(JSContext *ctx);
void napi_seal(bool is_sealed);

/* Text of bytes that need not be UTF-8: as everywhere on the web, what is not becomes U+FFFD. */
JSValue napi_text(JSContext *ctx, const char *bytes, size_t length);

#endif
