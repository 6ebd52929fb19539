// The gradient by the map of a depthwise 3x3 convolution at stride 2 in bfloat16, on a CPU.
//
// Maps are channels last. A value of the map was read by at most four taps, one or two of each direction: which ones
// depends on whether its row and its column are even. It is the sum over them, in float32, rounded once.

#include <array>
#include <cstdint>

#include "bfloat16.h"

namespace {

constexpr std::int64_t kSize = 3, kStride = 2;

struct Shape {
  std::int64_t images, rows, columns, channels, padding, out_rows, out_columns;
};

// Along one axis: the outputs that read an input, and by which tap.
struct Readers {
  std::array<std::int64_t, 2> outputs, taps;
  int count = 0;

  Readers(std::int64_t input, std::int64_t padding, std::int64_t out_length) {
    for (std::int64_t tap = 0; tap < kSize; ++tap) {
      const std::int64_t distance = input + padding - tap;  // of the window's first value from the padded map's
      if (distance >= 0 && distance % kStride == 0 && distance / kStride < out_length) {
        outputs[count] = distance / kStride;
        taps[count++] = tap;
      }
    }
  }
};

template <int kTaps>
void pixel(const std::array<const BFloat16*, 4>& gradients, const std::array<const float*, 4>& kernels,
           std::int64_t channels, BFloat16* to) {
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) {
    float sum = 0.f;
#pragma GCC unroll 4
    for (int tap = 0; tap < kTaps; ++tap) {
      sum += read(gradients[tap][c]) * kernels[tap][c];
    }
    write(sum, to + c);
  }
}

void by_input(const BFloat16* gradient, const float* kernel, const Shape& shape, BFloat16* by_x) {
  const std::int64_t channels = shape.channels;
#pragma omp parallel for schedule(static)
  for (std::int64_t line = 0; line < shape.images * shape.rows; ++line) {
    const std::int64_t image = line / shape.rows;
    const Readers rows(line % shape.rows, shape.padding, shape.out_rows);
    for (std::int64_t column = 0; column < shape.columns; ++column) {
      const Readers columns(column, shape.padding, shape.out_columns);
      std::array<const BFloat16*, 4> gradients{};
      std::array<const float*, 4> kernels{};
      int taps = 0;
      for (int i = 0; i < rows.count; ++i) {
        for (int j = 0; j < columns.count; ++j) {
          const std::int64_t row = image * shape.out_rows + rows.outputs[i];
          gradients[taps] = gradient + (row * shape.out_columns + columns.outputs[j]) * channels;
          kernels[taps++] = kernel + (rows.taps[i] * kSize + columns.taps[j]) * channels;
        }
      }
      BFloat16* to = by_x + (line * shape.columns + column) * channels;
      switch (taps) {
        case 4: pixel<4>(gradients, kernels, channels, to); break;
        case 2: pixel<2>(gradients, kernels, channels, to); break;
        case 1: pixel<1>(gradients, kernels, channels, to); break;
        default: pixel<0>(gradients, kernels, channels, to); break;  // the window never came here
      }
    }
  }
}

}  // namespace

// Args: the gradient by the output; the kernel [3, 3, channels]; sizes; the gradient by the map. Returns true.
extern "C" bool atrous_strided_depthwise_by_input(const void* gradient, const float* kernel, std::int64_t images,
                                                  std::int64_t rows, std::int64_t columns, std::int64_t channels,
                                                  std::int64_t padding, std::int64_t out_rows,
                                                  std::int64_t out_columns, void* by_x) {
  const Shape shape{images, rows, columns, channels, padding, out_rows, out_columns};
  by_input(static_cast<const BFloat16*>(gradient), kernel, shape, static_cast<BFloat16*>(by_x));
  return true;
}
