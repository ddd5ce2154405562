/* Layers on the crossbar: quantise, write tile by tile, multiply, scale. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "acs.h"
#include "cimq_ops.h"

#if defined(__FAST_MATH__) || (defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0)
#error "float operations must be rounded one by one: compile without -ffast-math, and on x86 with -msse2 -mfpmath=sse"
#endif

/* What is applied to the crossbar: clamp(rint(x / scale)) - zero + shift. */
static const char* quantise(const cimq_layer* layer, const float* x, int64_t count, int32_t* x_q) {
  for (int64_t i = 0; i < count; ++i) {
    if (!isfinite(x[i])) return "its input must be finite";
    float q = nearbyintf(x[i] / layer->scale);
    q = q < layer->low ? layer->low : (q > layer->high ? layer->high : q);
    x_q[i] = (int32_t)q - layer->zero + layer->shift;
  }
  return NULL;
}

/* Inputs [first, first + count) of input vector `at` of a group. */
static void gather(const cimq_layer* layer, const int32_t* x_q, int64_t group, int64_t at, int64_t first, int64_t count,
                   int32_t* vector) {
  if (!layer->is_conv) {
    for (int64_t k = 0; k < count; ++k) vector[k] = x_q[at * layer->inputs + first + k];
    return;
  }
  const cimq_window* w = &layer->window;
  const int32_t border = layer->shift - layer->zero; /* the number 0, as it is applied */
  const int64_t area = w->kernel_h * w->kernel_w;
  const int64_t channels = w->channels / layer->groups;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t channel = group * channels + (first + k) / area;
    const int64_t place = (first + k) % area;
    const int64_t row = at / w->out_width * w->stride_h - w->pad_top + place / w->kernel_w * w->dilation_h;
    const int64_t column = at % w->out_width * w->stride_w - w->pad_left + place % w->kernel_w * w->dilation_w;
    const int inside = row >= 0 && row < w->height && column >= 0 && column < w->width;
    vector[k] = inside ? x_q[(channel * w->height + row) * w->width + column] : border;
  }
}

static int64_t at_most(int64_t value, int64_t limit) { return value < limit ? value : limit; }

/* Y of one tile of a group is added to products [vectors, groups * outputs]. */
static const char* tile(const cimq_layer* layer, const int32_t* x_q, int64_t group, int64_t output, int64_t input,
                        int32_t* matrix, int32_t* vector, int32_t* products) {
  const int64_t outputs = at_most(layer->tile_outputs, layer->outputs - output);
  const int64_t inputs = at_most(layer->tile_inputs, layer->inputs - input);
  const int64_t first = group * layer->outputs + output;
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t k = 0; k < inputs; ++k) {
      matrix[o * inputs + k] = layer->weight[(first + o) * layer->inputs + input + k];
    }
  }
  if (cpy_mtrx(matrix, (int32_t)outputs, (int32_t)inputs, layer->name) != 0) return "cpy_mtrx refused a tile";
  for (int64_t at = 0; at < layer->vectors; ++at) {
    gather(layer, x_q, group, at, input, inputs, vector);
    int32_t* result = products + at * layer->groups * layer->outputs + first;
    if (exe_mvm(result, vector, matrix, (int32_t)outputs, (int32_t)inputs, layer->name) != 0) {
      return "exe_mvm refused an input vector";
    }
  }
  return NULL;
}

static int32_t sum_of_weights(const cimq_layer* layer, int64_t output) {
  int32_t sum = 0;
  for (int64_t k = 0; k < layer->inputs; ++k) sum += layer->weight[output * layer->inputs + k];
  return sum;
}

/* products [vectors, outputs] -> Y in the order of the layer, without the shift; then y. */
static void scale(const cimq_layer* layer, const int32_t* products, int32_t* raw, float* y) {
  const int64_t outputs = layer->groups * layer->outputs;
  for (int64_t o = 0; o < outputs; ++o) {
    const int32_t sum = layer->shift != 0 || layer->zero != 0 ? sum_of_weights(layer, o) : 0;
    for (int64_t at = 0; at < layer->vectors; ++at) {
      const int64_t place = layer->is_conv ? o * layer->vectors + at : at * outputs + o;
      raw[place] = (int32_t)(products[at * outputs + o] - (int64_t)layer->shift * sum);
      const float scaled = (float)(raw[place] + (int64_t)layer->zero * sum) * layer->multiplier[o];
      y[place] = scaled + layer->bias[o];
    }
  }
}

static const char* multiply(const cimq_layer* layer, const int32_t* x_q, int32_t* matrix, int32_t* vector,
                            int32_t* products) {
  if (update_config(layer->config, layer->name) != 0) return "update_config refused the layer's configuration";
  for (int64_t group = 0; group < layer->groups; ++group) {
    for (int64_t input = 0; input < layer->inputs; input += layer->tile_inputs) {
      for (int64_t output = 0; output < layer->outputs; output += layer->tile_outputs) {
        const char* wrong = tile(layer, x_q, group, output, input, matrix, vector, products);
        if (wrong != NULL) return wrong;
      }
    }
  }
  return NULL;
}

const char* cimq_crossbar(const cimq_layer* layer, const float* x, float* y, cimq_observer observer, void* context) {
  const cimq_window* w = &layer->window;
  const int64_t elements = layer->is_conv ? w->channels * w->height * w->width : layer->vectors * layer->inputs;
  const int64_t results = layer->vectors * layer->groups * layer->outputs;
  const int64_t rows = at_most(layer->tile_outputs, layer->outputs);
  const int64_t columns = at_most(layer->tile_inputs, layer->inputs);
  int32_t* x_q = malloc((size_t)elements * sizeof *x_q);
  int32_t* matrix = malloc((size_t)(rows * columns) * sizeof *matrix);
  int32_t* vector = malloc((size_t)columns * sizeof *vector);
  int32_t* products = calloc((size_t)results, sizeof *products);
  int32_t* raw = malloc((size_t)results * sizeof *raw);
  const char* wrong = "out of memory";
  if (x_q != NULL && matrix != NULL && vector != NULL && products != NULL && raw != NULL) {
    wrong = quantise(layer, x, elements, x_q);
    if (wrong == NULL) wrong = multiply(layer, x_q, matrix, vector, products);
    if (wrong == NULL) scale(layer, products, raw, y);
    if (wrong == NULL && observer != NULL) observer(context, layer->name, raw, (size_t)results);
  }
  free(x_q);
  free(matrix);
  free(vector);
  free(products);
  free(raw);
  return wrong;
}
