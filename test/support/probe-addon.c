/* Functions that show how an engine's Node-API treats values: compiled for both of our engines. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <node_api.h>

#define MAX_ARGS 3

static void arguments(napi_env env, napi_callback_info info, napi_value *args) {
  size_t count = MAX_ARGS;
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
}

static char *text_of(napi_env env, napi_value value, size_t *length) {
  *length = 0;
  napi_get_value_string_utf8(env, value, NULL, 0, length);
  char *text = calloc(*length + 1, 1);
  napi_get_value_string_utf8(env, value, text, *length + 1, length);
  return text;
}

static napi_value bytes_to_js(napi_env env, const void *bytes, size_t length) {
  void *data = NULL;
  napi_value buffer, array;
  napi_create_arraybuffer(env, length, &data, &buffer);
  if (length > 0) memcpy(data, bytes, length);
  napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &array);
  return array;
}

/* utf8(text): its bytes */
static napi_value utf8(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  size_t length;
  arguments(env, info, args);
  char *text = text_of(env, args[0], &length);
  napi_value result = bytes_to_js(env, text, length);
  free(text);
  return result;
}

/* text(bytes) */
static napi_value text(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], result;
  void *data = "";
  size_t length = 0;
  arguments(env, info, args);
  napi_get_typedarray_info(env, args[0], NULL, &length, &data, NULL, NULL);
  napi_create_string_utf8(env, data, length, &result);
  return result;
}

/* cut(text, size): what fits into a buffer of that size */
static napi_value cut(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], result;
  double size = 0;
  size_t length = 0;
  char buffer[64] = "";
  arguments(env, info, args);
  napi_get_value_double(env, args[1], &size);
  napi_get_value_string_utf8(env, args[0], buffer, (size_t)size, &length);
  napi_create_string_utf8(env, buffer, length, &result);
  return result;
}

/* half(number) */
static napi_value half(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], result;
  double number = -1;
  arguments(env, info, args);
  napi_get_value_double(env, args[0], &number);
  napi_create_double(env, number / 2, &result);
  return result;
}

/* pair(list): {first, length} */
static napi_value pair(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], result, value;
  uint32_t length = 0;
  arguments(env, info, args);
  napi_create_object(env, &result);
  napi_get_array_length(env, args[0], &length);
  napi_create_double(env, length, &value);
  napi_set_named_property(env, result, "length", value);
  napi_get_element(env, args[0], 0, &value);
  napi_set_named_property(env, result, "first", value);
  return result;
}

/* many(count): [true, false, true, ...] */
static napi_value many(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], result, value;
  double count = 0;
  arguments(env, info, args);
  napi_get_value_double(env, args[0], &count);
  napi_create_array(env, &result);
  for (uint32_t i = 0; i < count; i++) {
    napi_get_boolean(env, i % 2 == 0, &value);
    napi_set_element(env, result, i, value);
  }
  return result;
}

/* refuse(message): throws */
static napi_value refuse(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], error, value;
  arguments(env, info, args);
  napi_create_error(env, NULL, args[0], &error);
  napi_create_double(env, 19, &value);
  napi_set_named_property(env, error, "errno", value);
  napi_throw(env, error);
  return NULL;
}

/* print(text): to stdout */
static napi_value print(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  size_t length;
  arguments(env, info, args);
  char *text = text_of(env, args[0], &length);
  if (write(1, text, length) < 0) abort();
  free(text);
  return NULL;
}

/* nextFd(): the number of the next file that is opened */
static napi_value nextFd(napi_env env, napi_callback_info info) {
  napi_value result;
  (void)info;
  napi_create_double(env, open("/", O_RDONLY | O_CLOEXEC), &result);
  return result;
}

/* signals(): what is ignored and what is blocked of those that matter */
static napi_value signals(napi_env env, napi_callback_info info) {
  static const struct {
    int number;
    const char *name;
  } known[] = {{SIGPIPE, " PIPE"}, {SIGXFSZ, " XFSZ"}, {SIGCHLD, " CHLD"}, {SIGALRM, " ALRM"}, {SIGTERM, " TERM"}};
  const size_t count = sizeof known / sizeof *known;
  napi_value result;
  char list[128] = "ignored";
  struct sigaction action;
  sigset_t blocked;
  (void)info;
  for (size_t i = 0; i < count; i++)
    if (!sigaction(known[i].number, NULL, &action) && action.sa_handler == SIG_IGN) strcat(list, known[i].name);
  strcat(list, ", blocked");
  sigprocmask(SIG_BLOCK, NULL, &blocked);
  for (size_t i = 0; i < count; i++)
    if (sigismember(&blocked, known[i].number)) strcat(list, known[i].name);
  napi_create_string_utf8(env, list, NAPI_AUTO_LENGTH, &result);
  return result;
}

static napi_value init(napi_env env, napi_value exports) {
#define FUNCTION(name) {#name, NULL, name, NULL, NULL, NULL, napi_enumerable, NULL}
  static const napi_property_descriptor functions[] = {
      FUNCTION(utf8), FUNCTION(text), FUNCTION(cut),    FUNCTION(half),
      FUNCTION(pair), FUNCTION(many), FUNCTION(refuse), FUNCTION(print),
      FUNCTION(nextFd), FUNCTION(signals),
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}

NAPI_MODULE(probe, init)
