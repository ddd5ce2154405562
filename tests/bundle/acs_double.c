/* Stands in for analog-cim-sim in tests: its C interface, with the digital arithmetic of its integer modes written out
   bit by bit, so that a wrong width, split or mode gives wrong numbers. Counts go to the file ACS_DOUBLE_COUNTS. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMaxSlices = 16 };

static struct {
  int loaded;
  long M, N, W_BIT, I_BIT, slices;
  long split[kMaxSlices];
  char m_mode[32];
} config;

static int32_t* written; /* [rows_written, columns_written] */
static int32_t rows_written, columns_written;
static long writes, mvms;

static const char* value_of(const char* json, const char* key) {
  char quoted[48];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char* found = strstr(json, quoted);
  return found == NULL ? NULL : found + strlen(quoted);
}

static void read_number(const char* json, const char* key, long* number) {
  const char* value = value_of(json, key);
  if (value != NULL) *number = strtol(value, NULL, 10);
}

static void forget_matrix(void) {
  free(written);
  written = NULL;
}

static void merge(const char* json) {
  read_number(json, "M", &config.M);
  read_number(json, "N", &config.N);
  read_number(json, "W_BIT", &config.W_BIT);
  read_number(json, "I_BIT", &config.I_BIT);
  const char* mode = value_of(json, "m_mode");
  if (mode != NULL && sscanf(mode, " \"%31[A-Z_]\"", config.m_mode) != 1) exit(EXIT_FAILURE);
  const char* split = value_of(json, "SPLIT");
  if (split == NULL) return;
  config.slices = 0;
  for (split = strchr(split, '[') + 1; *split != ']' && config.slices < kMaxSlices;) {
    char* end;
    config.split[config.slices++] = strtol(split, &end, 10);
    split = end + strspn(end, ", \n");
  }
}

static void write_counts(void) {
  const char* path = getenv("ACS_DOUBLE_COUNTS");
  FILE* file = path == NULL ? NULL : fopen(path, "w");
  if (file == NULL) return;
  fprintf(file, "%ld %ld\n", writes, mvms);
  fclose(file);
}

void set_config(const char* path, int threads) {
  static char text[1 << 16];
  FILE* file = fopen(path, "r");
  if (file == NULL || threads < 1) exit(EXIT_FAILURE);
  text[fread(text, 1, sizeof text - 1, file)] = '\0';
  fclose(file);
  /* What the simulator ends the process without. */
  static const char* const kNeeded[] = {"M", "N", "m_mode", "digital_only", "verbose", "W_BIT", "I_BIT", "SPLIT"};
  for (size_t i = 0; i < sizeof kNeeded / sizeof *kNeeded; ++i) {
    if (value_of(text, kNeeded[i]) == NULL) {
      fprintf(stderr, "Parameter '%s' not found in config.\n", kNeeded[i]);
      exit(EXIT_FAILURE);
    }
  }
  merge(text);
  config.loaded = 1;
  atexit(write_counts);
}

int32_t update_config(const char* json, const char* layer) {
  if (!config.loaded || layer == NULL) return -1;
  merge(json);
  forget_matrix();
  return 0;
}

int32_t cpy_mtrx(int32_t* mat, int32_t m, int32_t n, const char* layer) {
  if (!config.loaded || layer == NULL || m > config.M || n > config.N) return -1;
  forget_matrix();
  written = malloc((size_t)m * (size_t)n * sizeof *written);
  memcpy(written, mat, (size_t)m * (size_t)n * sizeof *written);
  rows_written = m;
  columns_written = n;
  ++writes;
  return 0;
}

static int64_t stored(int32_t weight) {
  const int offset = strcmp(config.m_mode, "I_UINT_W_OFFS") == 0;
  const int64_t half = (int64_t)1 << (config.W_BIT - 1);
  const int64_t magnitude = offset ? weight + half : (weight < 0 ? -(int64_t)weight : weight);
  int64_t value = 0;
  long shift = config.W_BIT;
  for (long s = 0; s < config.slices; ++s) {
    shift -= config.split[s];
    value += (magnitude >> shift & (((int64_t)1 << config.split[s]) - 1)) << shift;
  }
  return offset ? value - half : (weight < 0 ? -value : value);
}

static int64_t applied(int32_t input) {
  const int twos_complement = strcmp(config.m_mode, "I_TC_W_DIFF") == 0;
  int64_t value = 0;
  for (long bit = 0; bit < config.I_BIT; ++bit) {
    const int64_t digit = (int64_t)((uint32_t)input >> bit & 1u) << bit;
    value += twos_complement && bit == config.I_BIT - 1 ? -digit : digit;
  }
  return value;
}

int32_t exe_mvm(int32_t* res, int32_t* vec, int32_t* mat, int32_t m, int32_t n, const char* layer) {
  (void)mat;
  if (layer == NULL || written == NULL || m != rows_written || n != columns_written) return -1;
  for (int32_t o = 0; o < m; ++o) {
    int64_t sum = 0;
    for (int32_t k = 0; k < n; ++k) sum += stored(written[o * n + k]) * applied(vec[k]);
    res[o] += (int32_t)sum;
  }
  ++mvms;
  return 0;
}
