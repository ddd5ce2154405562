/* Runs the network on samples of a file.

       network INPUT OUTPUT [--config FILE] [--weights FILE] [--layers FILE]

   INPUT and OUTPUT are float32 in the machine's byte order, sample after sample, without a header. --layers writes the
   integers of every crossbar layer, int32, in order of execution, sample after sample. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acs.h"
#include "network.h"

static FILE* opened(const char* path, const char* mode) {
  FILE* file = fopen(path, mode);
  if (file == NULL) {
    perror(path);
    exit(2);
  }
  return file;
}

static void write_all(const void* values, size_t size, size_t count, FILE* file, const char* path) {
  if (fwrite(values, size, count, file) == count) return;
  perror(path);
  exit(1);
}

typedef struct {
  FILE* file;
  const char* path;
} sink;

static void write_layer(void* context, const char* layer, const int32_t* y, size_t count) {
  const sink* to = context;
  (void)layer;
  write_all(y, sizeof *y, count, to->file, to->path);
}

static void close_written(FILE* file, const char* path) {
  if (file == NULL || fclose(file) == 0) return;
  perror(path);
  exit(1);
}

int main(int argc, char** argv) {
  const char* paths[2] = {NULL, NULL};
  const char *config = "config.json", *weights_path = "weights.bin";
  sink layers = {NULL, NULL};
  int given = 0;
  for (int i = 1; i < argc; ++i) {
    const char** option = strcmp(argv[i], "--config") == 0    ? &config
                          : strcmp(argv[i], "--weights") == 0 ? &weights_path
                          : strcmp(argv[i], "--layers") == 0  ? &layers.path
                                                              : NULL;
    if (option != NULL && i + 1 < argc) {
      *option = argv[++i];
    } else if (option == NULL && given < 2) {
      paths[given++] = argv[i];
    } else {
      given = 3;
      break;
    }
  }
  if (given != 2) {
    fprintf(stderr, "usage: %s INPUT OUTPUT [--config FILE] [--weights FILE] [--layers FILE]\n", argv[0]);
    return 2;
  }
  FILE* in = opened(paths[0], "rb");
  network_failure failure = {NULL, NULL};
  void* weights = network_load(weights_path, &failure);
  float* x = malloc(NETWORK_INPUTS * sizeof *x);
  float* y = malloc(NETWORK_OUTPUTS * sizeof *y);
  if (weights == NULL || x == NULL || y == NULL) {
    fprintf(stderr, "%s: %s\n", weights_path, weights == NULL ? failure.message : "out of memory");
    return 1;
  }
  fclose(opened(config, "rb")); /* the library's own message does not name the file */
  set_config(config, 1);
  FILE* out = opened(paths[1], "wb");
  if (layers.path != NULL) layers.file = opened(layers.path, "wb");
  const size_t sample = NETWORK_INPUTS * sizeof *x;
  size_t read = 0;
  while ((read = fread(x, 1, sample, in)) == sample) {
    if (!network_run(weights, x, y, layers.file == NULL ? NULL : write_layer, &layers, &failure)) {
      fprintf(stderr, "%s: %s\n", failure.node, failure.message);
      return 1;
    }
    write_all(y, sizeof *y, NETWORK_OUTPUTS, out, paths[1]);
  }
  if (read != 0 || ferror(in)) {
    fprintf(stderr, "%s: holds no whole number of samples of %d float32 values\n", paths[0], (int)NETWORK_INPUTS);
    return 1;
  }
  close_written(out, paths[1]);
  close_written(layers.file, layers.path);
  fclose(in);
  free(x);
  free(y);
  free(weights);
  return 0;
}
