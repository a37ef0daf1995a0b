/* bytecode NAME: compiles the script on stdin to bytecode on stdout. Its stack traces will call it NAME. */
#include <stdio.h>
#include <stdlib.h>

#include <quickjs.h>

static char *read_text(size_t *length) {
  size_t capacity = 1 << 20;
  char *text = malloc(capacity);
  *length = 0;
  for (size_t count; text && (count = fread(text + *length, 1, capacity - *length - 1, stdin)) > 0;) {
    *length += count;
    if (capacity - *length < 2) text = realloc(text, capacity *= 2);
  }
  if (text) text[*length] = 0; /* the engine wants it */
  return text;
}

int main(int argc, char **argv) {
  size_t length, size;
  char *text = read_text(&length);
  JSRuntime *rt = JS_NewRuntime();
  JSContext *ctx = rt ? JS_NewContext(rt) : NULL;
  if (argc != 2 || text == NULL || ctx == NULL) return 2;
  JSValue script = JS_Eval(ctx, text, length, argv[1], JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_COMPILE_ONLY);
  if (JS_IsException(script)) {
    JSValue error = JS_GetException(ctx);
    const char *message = JS_ToCString(ctx, error), *place = JS_ToCString(ctx, JS_GetPropertyStr(ctx, error, "stack"));
    fprintf(stderr, "%s\n%s", message ? message : "", place ? place : "");
    return 1;
  }
  uint8_t *bytecode = JS_WriteObject(ctx, &size, script, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE);
  return bytecode && fwrite(bytecode, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : 2;
}
