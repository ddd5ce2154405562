/* Nodes that are not on the crossbar. */
#include <math.h>
#include <string.h>

#include "cimq_ops.h"

void cimq_copy(const float* x, int64_t count, float* y) { memcpy(y, x, (size_t)count * sizeof *y); }

void cimq_fill(float* y, int64_t count, float value) {
  for (int64_t i = 0; i < count; ++i) y[i] = value;
}

void cimq_clamp(const float* x, int64_t count, float low, float high, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    float value = x[i];
    if (value < low) value = low;
    if (value > high) value = high;
    y[i] = value;
  }
}

void cimq_leaky_relu(const float* x, const float* slope, int64_t channels, int64_t inner, float* y) {
  for (int64_t i = 0; i < channels * inner; ++i) y[i] = x[i] > 0.0F ? x[i] : x[i] * slope[i / inner];
}

void cimq_affine(const float* x, const float* scale, const float* shift, int64_t channels, int64_t inner, float* y) {
  for (int64_t i = 0; i < channels * inner; ++i) {
    const float scaled = x[i] * scale[i / inner];
    y[i] = scaled + shift[i / inner];
  }
}

static float combined(cimq_binary_op op, float a, float b) {
  switch (op) {
    case CIMQ_ADD:
      return a + b;
    case CIMQ_SUB:
      return a - b;
    case CIMQ_MUL:
      return a * b;
    case CIMQ_DIV:
      return a / b;
    case CIMQ_MINIMUM:
      return a != a ? a : (b > a ? a : b); /* NaN wins on either side */
    case CIMQ_MAXIMUM:
      return a != a ? a : (b < a ? a : b);
  }
  return NAN; /* no such operation */
}

void cimq_binary(cimq_binary_op op, const float* a, const float* b, int rank, const int64_t* shape,
                 const int64_t* a_strides, const int64_t* b_strides, float* y) {
  int64_t inner = 1;
  for (int dim = 1; dim < rank; ++dim) inner *= shape[dim];
  for (int64_t i = 0; rank > 0 && i < shape[0]; ++i, y += inner) {
    cimq_binary(op, a + i * a_strides[0], b + i * b_strides[0], rank - 1, shape + 1, a_strides + 1, b_strides + 1, y);
  }
  if (rank == 0) *y = combined(op, *a, *b);
}

void cimq_box(const float* x, int rank, const int64_t* shape, const int64_t* from, const int64_t* to, float* y) {
  for (int64_t i = 0; rank > 0 && i < shape[0]; ++i) {
    cimq_box(x + i * from[0], rank - 1, shape + 1, from + 1, to + 1, y + i * to[0]);
  }
  if (rank == 0) *y = *x;
}

void cimq_max_pool2d(const float* x, const cimq_window* w, float* y) {
  for (int64_t c = 0; c < w->channels; ++c, x += w->height * w->width) {
    for (int64_t out = 0; out < w->out_height * w->out_width; ++out) {
      float best = -INFINITY;
      for (int64_t k = 0; k < w->kernel_h * w->kernel_w; ++k) {
        const int64_t row = out / w->out_width * w->stride_h - w->pad_top + k / w->kernel_w * w->dilation_h;
        const int64_t column = out % w->out_width * w->stride_w - w->pad_left + k % w->kernel_w * w->dilation_w;
        if (row < 0 || row >= w->height || column < 0 || column >= w->width) continue;
        const float value = x[row * w->width + column];
        if (value > best || value != value) best = value;
      }
      *y++ = best;
    }
  }
}

/* The largest value of a rectangle, or its sum by rows, then columns. */
static float reduced(const float* plane, int64_t width, int64_t top, int64_t bottom, int64_t left, int64_t right,
                     int maximum) {
  float result = maximum ? -INFINITY : 0.0F;
  for (int64_t row = top; row < bottom; ++row) {
    for (int64_t column = left; column < right; ++column) {
      const float value = plane[row * width + column];
      if (!maximum) {
        result += value;
      } else if (value > result || value != value) {
        result = value;
      }
    }
  }
  return result;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t not_negative(int64_t a) { return a < 0 ? 0 : a; }

void cimq_avg_pool2d(const float* x, const cimq_window* w, int count_padding, int64_t divisor, float* y) {
  for (int64_t c = 0; c < w->channels; ++c, x += w->height * w->width) {
    for (int64_t i = 0; i < w->out_height; ++i) {
      const int64_t row = i * w->stride_h - w->pad_top;
      const int64_t top = not_negative(row);
      const int64_t bottom = least(w->height, row + w->kernel_h);
      const int64_t padded_rows = least(row + w->kernel_h, w->height + w->pad_top) - row;
      for (int64_t j = 0; j < w->out_width; ++j) {
        const int64_t column = j * w->stride_w - w->pad_left;
        const int64_t left = not_negative(column);
        const int64_t right = least(w->width, column + w->kernel_w);
        const int64_t padded_columns = least(column + w->kernel_w, w->width + w->pad_left) - column;
        const int64_t elements = count_padding ? padded_rows * padded_columns : (bottom - top) * (right - left);
        *y++ = reduced(x, w->width, top, bottom, left, right, 0) / (float)(divisor > 0 ? divisor : elements);
      }
    }
  }
}

void cimq_adaptive_pool2d(const float* x, const cimq_window* w, int maximum, float* y) {
  for (int64_t c = 0; c < w->channels; ++c, x += w->height * w->width) {
    for (int64_t i = 0; i < w->out_height; ++i) {
      const int64_t top = i * w->height / w->out_height;
      const int64_t bottom = ((i + 1) * w->height - 1) / w->out_height + 1;
      for (int64_t j = 0; j < w->out_width; ++j) {
        const int64_t left = j * w->width / w->out_width;
        const int64_t right = ((j + 1) * w->width - 1) / w->out_width + 1;
        const float value = reduced(x, w->width, top, bottom, left, right, maximum);
        *y++ = maximum ? value : value / (float)((bottom - top) * (right - left));
      }
    }
  }
}

static double sum(const float* x, int rank, const int64_t* shape, const int64_t* strides, double before) {
  if (rank == 0) return before + (double)*x;
  for (int64_t i = 0; i < shape[0]; ++i) before = sum(x + i * strides[0], rank - 1, shape + 1, strides + 1, before);
  return before;
}

void cimq_mean(const float* x, int kept, const int64_t* kept_shape, const int64_t* kept_strides, int summed,
               const int64_t* summed_shape, const int64_t* summed_strides, float* y) {
  int64_t inner = 1;
  for (int dim = 1; dim < kept; ++dim) inner *= kept_shape[dim];
  for (int64_t i = 0; kept > 0 && i < kept_shape[0]; ++i, y += inner) {
    cimq_mean(x + i * kept_strides[0], kept - 1, kept_shape + 1, kept_strides + 1, summed, summed_shape, summed_strides,
              y);
  }
  if (kept > 0) return;
  int64_t count = 1;
  for (int dim = 0; dim < summed; ++dim) count *= summed_shape[dim];
  *y = (float)(sum(x, summed, summed_shape, summed_strides, 0.0) / (double)count);
}

void cimq_linear_f32(const float* x, const float* weight, const float* bias, int64_t rows, int64_t inputs,
                     int64_t outputs, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += inputs) {
    for (int64_t o = 0; o < outputs; ++o) {
      double total = 0.0;
      for (int64_t k = 0; k < inputs; ++k) total += (double)x[k] * (double)weight[o * inputs + k];
      *y++ = (float)(bias == NULL ? total : total + (double)bias[o]);
    }
  }
}

void cimq_conv2d_f32(const float* x, const float* weight, const float* bias, const cimq_window* w, int64_t groups,
                     int64_t outputs, float* y) {
  const int64_t area = w->kernel_h * w->kernel_w;
  const int64_t inputs = w->channels / groups * area;
  for (int64_t o = 0; o < groups * outputs; ++o, weight += inputs) {
    const float* image = x + o / outputs * (w->channels / groups) * w->height * w->width;
    for (int64_t out = 0; out < w->out_height * w->out_width; ++out) {
      double total = 0.0;
      for (int64_t k = 0; k < inputs; ++k) {
        const int64_t place = k % area;
        const int64_t row = out / w->out_width * w->stride_h - w->pad_top + place / w->kernel_w * w->dilation_h;
        const int64_t column = out % w->out_width * w->stride_w - w->pad_left + place % w->kernel_w * w->dilation_w;
        if (row < 0 || row >= w->height || column < 0 || column >= w->width) continue;
        total += (double)weight[k] * (double)image[(k / area * w->height + row) * w->width + column];
      }
      *y++ = (float)(bias == NULL ? total : total + (double)bias[o]);
    }
  }
}
