/*
 * Node-API over QuickJS, as far as our addon uses it: the header is Node's own, so the addon's C file is compiled from the
 * same text for both engines, and a function that is missing here is an error of the linker.
 * https://nodejs.org/api/n-api.html
 */
#include "napi.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <node_api.h>

/* A napi_value is the place of a JSValue in this list, plus one. The list grows while a function of the addon runs and is
 * emptied to where it was when that returns. */
struct napi_env__ {
  JSContext *ctx;
  JSValue *values;
  size_t count, capacity;
};

static struct napi_env__ the_env;
static enum { RUN, THROW, PRETEND } functions_do;
static JSValue pretend;

/* The addon goes on after a call that failed, so a value that could not be made is undefined. */
static JSValueConst value_of(napi_env env, napi_value handle) {
  return handle ? env->values[(uintptr_t)handle - 1] : JS_UNDEFINED;
}

static void drop_to(napi_env env, size_t count) {
  while (env->count > count) JS_FreeValue(env->ctx, env->values[--env->count]);
}

static napi_status keep(napi_env env, JSValue value, napi_value *handle) {
  *handle = NULL;
  if (JS_IsException(value)) return napi_pending_exception;
  if (env->count == env->capacity) {
    size_t capacity = env->capacity ? 2 * env->capacity : 64;
    JSValue *values = realloc(env->values, capacity * sizeof *values);
    if (values == NULL) {
      JS_FreeValue(env->ctx, value);
      JS_ThrowOutOfMemory(env->ctx);
      return napi_pending_exception;
    }
    env->values = values;
    env->capacity = capacity;
  }
  env->values[env->count] = value;
  *handle = (napi_value)(uintptr_t)++env->count;
  return napi_ok;
}

/* Functions */

enum { MAX_ARGS = 8 };

struct napi_callback_info__ {
  JSValueConst this_value;
  int argc;
  JSValueConst *argv;
};

static JSValue call_pretended(JSContext *ctx, const char *name, int argc, JSValueConst *argv) {
  JSValueConst args[1 + MAX_ARGS];
  JSValue text = JS_NewString(ctx, name);
  args[0] = text;
  for (int i = 0; i < argc && i < MAX_ARGS; i++) args[1 + i] = argv[i];
  JSValue result = JS_Call(ctx, pretend, JS_UNDEFINED, 1 + (argc < MAX_ARGS ? argc : MAX_ARGS), args);
  JS_FreeValue(ctx, text);
  return result;
}

static JSValue call(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv, int magic, void *opaque) {
  (void)magic;
  const napi_property_descriptor *function = opaque;
  if (functions_do == THROW) return JS_ThrowInternalError(ctx, "a system call while the snapshot is made");
  if (functions_do == PRETEND) return call_pretended(ctx, function->utf8name, argc, argv);
  napi_env env = &the_env;
  env->ctx = ctx;
  size_t before = env->count;
  struct napi_callback_info__ info = {this_value, argc, argv};
  napi_value returned = function->method(env, &info);
  JSValue result = JS_HasException(ctx) ? JS_EXCEPTION : JS_DupValue(ctx, value_of(env, returned));
  drop_to(env, before);
  return result;
}

napi_status napi_get_cb_info(napi_env env, napi_callback_info info, size_t *argc, napi_value *argv, napi_value *this_arg,
                             void **data) {
  for (size_t i = 0; argc && argv && i < *argc; i++) {
    JSValueConst value = i < (size_t)info->argc ? info->argv[i] : JS_UNDEFINED;
    napi_status status = keep(env, JS_DupValue(env->ctx, value), &argv[i]);
    if (status != napi_ok) return status;
  }
  if (argc) *argc = info->argc;
  if (data) *data = NULL;
  return this_arg ? keep(env, JS_DupValue(env->ctx, info->this_value), this_arg) : napi_ok;
}

napi_status napi_define_properties(napi_env env, napi_value object, size_t count,
                                   const napi_property_descriptor *properties) {
  for (size_t i = 0; i < count; i++) {
    const napi_property_descriptor *property = &properties[i];
    JSValue value = property->method
                        ? JS_NewCClosure(env->ctx, call, property->utf8name, NULL, 0, 0, (void *)property)
                        : JS_DupValue(env->ctx, value_of(env, property->value));
    if (JS_DefinePropertyValueStr(env->ctx, value_of(env, object), property->utf8name, value, JS_PROP_C_W_E) < 0)
      return napi_pending_exception;
  }
  return napi_ok;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports); /* NAPI_MODULE() of the addon */

JSValue napi_load(JSContext *ctx) {
  napi_env env = &the_env;
  env->ctx = ctx;
  napi_value exports;
  if (keep(env, JS_NewObject(ctx), &exports) != napi_ok) return JS_EXCEPTION;
  exports = napi_register_module_v1(env, exports);
  JSValue value = JS_HasException(ctx) ? JS_EXCEPTION : JS_DupValue(ctx, value_of(env, exports));
  drop_to(env, 0);
  return value;
}

void napi_seal(void) { functions_do = THROW; }

void napi_pretend(JSValue function) {
  functions_do = PRETEND;
  pretend = function;
}

/* Text */

/* How many bytes the character at `at` has; 0 if it is none, and then *bad bytes are one U+FFFD (Unicode 3.9, table 3-7 and
 * "maximal subpart"). */
static size_t character(const uint8_t *at, const uint8_t *end, size_t *bad) {
  uint8_t first = at[0], low = 0x80, high = 0xbf;
  size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  *bad = 1;
  if (length < 2) return length;
  if (first == 0xe0) low = 0xa0;  /* shorter forms exist */
  if (first == 0xed) high = 0x9f; /* surrogates */
  if (first == 0xf0) low = 0x90;  /* shorter forms exist */
  if (first == 0xf4) high = 0x8f; /* beyond U+10FFFF */
  for (size_t i = 1; i < length; i++) {
    *bad = i;
    if (at + i == end || at[i] < low || at[i] > high) return 0;
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

JSValue napi_text(JSContext *ctx, const char *bytes, size_t length) {
  const uint8_t *at = (const uint8_t *)bytes, *end = at + length;
  size_t bad_count = 0, step, bad;
  for (; at < end; at += step ? step : bad) {
    for (uint64_t eight; end - at >= 8; at += 8) { /* ASCII is the rule */
      memcpy(&eight, at, 8);
      if (eight & 0x8080808080808080) break;
    }
    if (at == end) break;
    step = character(at, end, &bad);
    if (step == 0) bad_count++;
  }
  if (bad_count == 0) return JS_NewStringLen(ctx, bytes, length);
  char *repaired = js_malloc(ctx, length + bad_count * (sizeof replacement - 1)), *to = repaired;
  if (repaired == NULL) return JS_EXCEPTION;
  for (at = (const uint8_t *)bytes; at < end; at += step ? step : bad) {
    step = character(at, end, &bad);
    size_t count = step ? step : sizeof replacement - 1;
    memcpy(to, step ? (const char *)at : replacement, count);
    to += count;
  }
  JSValue text = JS_NewStringLen(ctx, repaired, to - repaired);
  js_free(ctx, repaired);
  return text;
}

napi_status napi_create_string_utf8(napi_env env, const char *bytes, size_t length, napi_value *result) {
  return keep(env, napi_text(env->ctx, bytes, length == NAPI_AUTO_LENGTH ? strlen(bytes) : length), result);
}

/* The engine writes a lone surrogate as if it were a character, V8 writes U+FFFD: both have three bytes. */
static void replace_surrogates(char *bytes, size_t length) {
  for (size_t i = 0; i + 2 < length; i++)
    if ((uint8_t)bytes[i] == 0xed && (uint8_t)bytes[i + 1] >= 0xa0) memcpy(bytes + i, replacement, 3);
}

napi_status napi_get_value_string_utf8(napi_env env, napi_value value, char *buffer, size_t size, size_t *result) {
  if (!JS_IsString(value_of(env, value))) return napi_string_expected;
  size_t length;
  const char *bytes = JS_ToCStringLen(env->ctx, &length, value_of(env, value));
  if (bytes == NULL) return napi_pending_exception;
  if (buffer != NULL && size > 0) {
    if (length > size - 1) {
      length = size - 1;
      while (length > 0 && ((uint8_t)bytes[length] & 0xc0) == 0x80) length--; /* whole characters only */
    }
    memcpy(buffer, bytes, length);
    buffer[length] = 0;
    replace_surrogates(buffer, length);
  }
  JS_FreeCString(env->ctx, bytes);
  if (result) *result = length;
  return napi_ok;
}

/* Numbers */

napi_status napi_get_boolean(napi_env env, bool value, napi_value *result) {
  return keep(env, JS_NewBool(env->ctx, value), result);
}

napi_status napi_create_double(napi_env env, double value, napi_value *result) {
  return keep(env, JS_NewFloat64(env->ctx, value), result);
}

napi_status napi_get_value_double(napi_env env, napi_value value, double *result) {
  if (!JS_IsNumber(value_of(env, value))) return napi_number_expected;
  return JS_ToFloat64(env->ctx, result, value_of(env, value)) ? napi_pending_exception : napi_ok;
}

/* Objects, arrays, bytes */

napi_status napi_create_object(napi_env env, napi_value *result) { return keep(env, JS_NewObject(env->ctx), result); }

napi_status napi_get_named_property(napi_env env, napi_value object, const char *name, napi_value *result) {
  return keep(env, JS_GetPropertyStr(env->ctx, value_of(env, object), name), result);
}

napi_status napi_set_named_property(napi_env env, napi_value object, const char *name, napi_value value) {
  JSValue item = JS_DupValue(env->ctx, value_of(env, value));
  return JS_SetPropertyStr(env->ctx, value_of(env, object), name, item) < 0 ? napi_pending_exception : napi_ok;
}

napi_status napi_create_array(napi_env env, napi_value *result) { return keep(env, JS_NewArray(env->ctx), result); }

napi_status napi_get_array_length(napi_env env, napi_value array, uint32_t *result) {
  int64_t length;
  if (!JS_IsArray(value_of(env, array))) return napi_array_expected;
  if (JS_GetLength(env->ctx, value_of(env, array), &length)) return napi_pending_exception;
  *result = (uint32_t)length;
  return napi_ok;
}

napi_status napi_get_element(napi_env env, napi_value array, uint32_t index, napi_value *result) {
  return keep(env, JS_GetPropertyUint32(env->ctx, value_of(env, array), index), result);
}

napi_status napi_set_element(napi_env env, napi_value array, uint32_t index, napi_value value) {
  JSValue item = JS_DupValue(env->ctx, value_of(env, value));
  return JS_SetPropertyUint32(env->ctx, value_of(env, array), index, item) < 0 ? napi_pending_exception : napi_ok;
}

napi_status napi_create_arraybuffer(napi_env env, size_t length, void **data, napi_value *result) {
  void *zeros = js_mallocz(env->ctx, length ? length : 1);
  if (zeros == NULL) return napi_pending_exception;
  napi_status status = keep(env, JS_NewArrayBufferCopy(env->ctx, zeros, length), result);
  js_free(env->ctx, zeros);
  size_t size;
  if (status == napi_ok && data) *data = JS_GetArrayBuffer(env->ctx, &size, value_of(env, *result));
  return status;
}

napi_status napi_create_typedarray(napi_env env, napi_typedarray_type type, size_t length, napi_value buffer,
                                   size_t byte_offset, napi_value *result) {
  if (type != napi_uint8_array) return napi_invalid_arg;
  JSValue args[] = {JS_DupValue(env->ctx, value_of(env, buffer)), JS_NewInt64(env->ctx, (int64_t)byte_offset),
                    JS_NewInt64(env->ctx, (int64_t)length)};
  napi_status status = keep(env, JS_NewTypedArray(env->ctx, 3, args, JS_TYPED_ARRAY_UINT8), result);
  JS_FreeValue(env->ctx, args[0]);
  return status;
}

napi_status napi_get_typedarray_info(napi_env env, napi_value array, napi_typedarray_type *type, size_t *length,
                                     void **data, napi_value *buffer, size_t *byte_offset) {
  if (JS_GetTypedArrayType(value_of(env, array)) != JS_TYPED_ARRAY_UINT8) return napi_invalid_arg;
  size_t offset, bytes, size, per_element;
  JSValue whole = JS_GetTypedArrayBuffer(env->ctx, value_of(env, array), &offset, &bytes, &per_element);
  if (JS_IsException(whole)) return napi_pending_exception;
  uint8_t *start = JS_GetArrayBuffer(env->ctx, &size, whole);
  if (type) *type = napi_uint8_array;
  if (length) *length = bytes;
  if (data) *data = start ? start + offset : NULL;
  if (byte_offset) *byte_offset = offset;
  if (buffer) return keep(env, whole, buffer);
  JS_FreeValue(env->ctx, whole);
  return napi_ok;
}

/* Errors */

napi_status napi_create_error(napi_env env, napi_value code, napi_value message, napi_value *result) {
  (void)code; /* ours carry an errno of their own */
  JSValue error = JS_NewError(env->ctx);
  if (JS_IsException(error)) return napi_pending_exception;
  JSValue text = JS_DupValue(env->ctx, value_of(env, message));
  if (JS_DefinePropertyValueStr(env->ctx, error, "message", text, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE) < 0) {
    JS_FreeValue(env->ctx, error);
    return napi_pending_exception;
  }
  return keep(env, error, result);
}

napi_status napi_throw(napi_env env, napi_value error) {
  JS_Throw(env->ctx, JS_DupValue(env->ctx, value_of(env, error)));
  return napi_ok;
}
