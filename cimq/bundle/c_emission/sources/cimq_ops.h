/* What the nodes of a network compute (cimq's docs/bundle.md and docs/numbers.md). Each float operation is rounded
   once, in the order that is written here, so that the results are those of cimq's executor to the last bit. */
#ifndef CIMQ_OPS_H
#define CIMQ_OPS_H

#include <stddef.h>
#include <stdint.h>

/* Windows over an image [channels, height, width]. */
typedef struct {
  int64_t channels, height, width, out_height, out_width;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
} cimq_window;

/* A layer on the crossbar. The matrix of a group is [outputs, inputs]; a linear layer has one group. */
typedef struct {
  const char* name;   /* as in the policy; analog-cim-sim gets it as the layer's name */
  const char* config; /* JSON for update_config */
  float scale;        /* of the input */
  float low, high;    /* bounds of rint(x / scale), before the zero point is subtracted */
  int32_t zero;       /* zero point of the input */
  int32_t shift;      /* is added to what is applied, and taken off the results: for inputs that cannot be negative */
  int64_t groups, outputs, inputs;
  int64_t tile_outputs, tile_inputs; /* what one writing of the crossbar holds at most */
  int64_t vectors;                   /* input vectors of a group */
  int is_conv;                       /* else x is [vectors, inputs] and `window` is not looked at */
  cimq_window window;
  const int8_t* weight;           /* [groups * outputs, inputs] */
  const float *multiplier, *bias; /* [groups * outputs] */
} cimq_layer;

/* Gets the integers Y of a layer, before zero point, multiplier and bias: [groups * outputs, vectors] of a convolution,
   [vectors, outputs] of a linear layer. */
typedef void (*cimq_observer)(void* context, const char* layer, const int32_t* y, size_t count);

/* y = Y * multiplier + bias; NULL, or what went wrong. `observer` may be NULL. */
const char* cimq_crossbar(const cimq_layer* layer, const float* x, float* y, cimq_observer observer, void* context);

void cimq_copy(const float* x, int64_t count, float* y);
/* Comparisons; NaN passes. A bound that is not there is an infinity. */
void cimq_clamp(const float* x, int64_t count, float low, float high, float* y);
/* x where it is positive, else x * slope[c]; x [channels, inner]. */
void cimq_leaky_relu(const float* x, const float* slope, int64_t channels, int64_t inner, float* y);
/* x * scale[c] + shift[c]. */
void cimq_affine(const float* x, const float* scale, const float* shift, int64_t channels, int64_t inner, float* y);

typedef enum { CIMQ_ADD, CIMQ_SUB, CIMQ_MUL, CIMQ_DIV, CIMQ_MINIMUM, CIMQ_MAXIMUM } cimq_binary_op;
/* y of `shape`, in C order; the stride of a dimension that is repeated is 0. */
void cimq_binary(cimq_binary_op op, const float* a, const float* b, int rank, const int64_t* shape,
                 const int64_t* a_strides, const int64_t* b_strides, float* y);
/* Copies a box of `shape` between arrays with these strides. */
void cimq_box(const float* x, int rank, const int64_t* shape, const int64_t* from, const int64_t* to, float* y);
void cimq_fill(float* y, int64_t count, float value);

void cimq_max_pool2d(const float* x, const cimq_window* window, float* y);
/* `divisor` 0: the number of elements in the image, or with `count_padding` in the image with its padding. */
void cimq_avg_pool2d(const float* x, const cimq_window* window, int count_padding, int64_t divisor, float* y);
/* Windows floor(i * size / out) to ceil((i + 1) * size / out). */
void cimq_adaptive_pool2d(const float* x, const cimq_window* window, int maximum, float* y);
/* Means over the `summed` dimensions; strides are those of x. */
void cimq_mean(const float* x, int kept, const int64_t* kept_shape, const int64_t* kept_strides, int summed,
               const int64_t* summed_shape, const int64_t* summed_strides, float* y);

/* Layers that were left in float32: sums in double, ascending. bias may be NULL. */
void cimq_linear_f32(const float* x, const float* weight, const float* bias, int64_t rows, int64_t inputs,
                     int64_t outputs, float* y);
/* weight [groups * outputs, inputs], inputs = channels of a group * kernel_h * kernel_w. */
void cimq_conv2d_f32(const float* x, const float* weight, const float* bias, const cimq_window* window, int64_t groups,
                     int64_t outputs, float* y);

#endif
