#ifndef NAPI_H
#define NAPI_H

#include <quickjs.h>

/* The exports of the addon that is linked in; its descriptions of properties are there for as long as the process. */
JSValue napi_load(JSContext *ctx);

/* From now on no function of it runs, for the snapshot is being made: each throws. */
void napi_seal(void);

/* From now on each is what this function makes of its name and its arguments. */
void napi_pretend(JSValue function);

/* Text of bytes that need not be UTF-8: as everywhere on the web, what is not becomes U+FFFD. */
JSValue napi_text(JSContext *ctx, const char *bytes, size_t length);

#endif
