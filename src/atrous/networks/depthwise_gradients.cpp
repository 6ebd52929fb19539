// Gradients of a depthwise 3x3 convolution at stride 1 and rate 1, with batch norm (and ReLU) behind it, on a CPU.
//
// Maps are channels last, of a multiple of 8 channels. The gradient in front of batch norm, which both gradients of the
// convolution read, is made row by row and stays in a core's cache: it is never a map of its own.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace {

typedef float Vector __attribute__((vector_size(32), aligned(4)));

constexpr std::int64_t kWidth = 8;               // floats of a vector
constexpr std::int64_t kRows = 16;               // of a piece
constexpr std::int64_t kFloatsOfRing = 1 << 16;  // 256 KiB
constexpr int kTaps = 9;

struct Map {
  std::int64_t images, rows, columns, channels;

  std::int64_t bands() const { return (rows + kRows - 1) / kRows; }
  // Channels of a piece: whole vectors, as many as leave three rows of it in a cache, all pieces of about one size.
  std::int64_t width() const {
    const std::int64_t vectors = channels / kWidth;
    const std::int64_t most = std::max<std::int64_t>(1, kFloatsOfRing / (3 * (columns + 2)) / kWidth);
    const std::int64_t pieces = (vectors + most - 1) / most;
    return (vectors + pieces - 1) / pieces * kWidth;
  }
  std::int64_t parts() const { return (channels + width() - 1) / width(); }
  std::int64_t pieces() const { return images * bands() * parts(); }
  std::int64_t at(std::int64_t image, std::int64_t row) const { return (image * rows + row) * columns * channels; }
};

// What batch norm makes of a gradient behind it, for each channel.
struct Norm {
  const float *mean, *slope, *constant, *scale, *shift;
};

// Rows of a piece of the gradient in front of batch norm, a column of zeros on either side.
class Gradients {
 public:
  // Args: the map; channels of the piece; memory for `floats` of them.
  Gradients(const Map& map, std::int64_t channels, float* memory)
      : map_(map), channels_(channels), row_((map.columns + 2) * channels) {
    const auto at = reinterpret_cast<std::uintptr_t>(memory);
    rows_ = memory + (64 - at % 64) % 64 / sizeof(float);
  }

  static std::int64_t floats(const Map& map, std::int64_t channels) { return 3 * (map.columns + 2) * channels + 16; }

  const float* row(std::int64_t row) const { return rows_ + (row + 3) % 3 * row_; }

  template <bool kRelu>
  void make(const float* gradient, const float* y, const Norm& norm, std::int64_t image, std::int64_t row,
            std::int64_t from) {
    float* to = rows_ + (row + 3) % 3 * row_;
    std::fill_n(to, row_, 0.f);
    if (row < 0 || row >= map_.rows) {
      return;
    }
    const float *mean = norm.mean + from, *slope = norm.slope + from, *constant = norm.constant + from,
                *scale = norm.scale + from, *shift = norm.shift + from;
    for (std::int64_t column = 0; column < map_.columns; ++column) {
      const std::int64_t first = map_.at(image, row) + column * map_.channels + from;
      const float *g = gradient + first, *own = y + first;
      float* made = to + (column + 1) * channels_;
#pragma omp simd
      for (std::int64_t c = 0; c < channels_; ++c) {
        const float behind = g[c];
        const float before_relu = kRelu && own[c] * scale[c] + shift[c] <= 0.f ? 0.f : behind;
        made[c] = scale[c] * before_relu - (slope[c] * (own[c] - mean[c]) + constant[c]);
      }
    }
  }

 private:
  const Map& map_;
  std::int64_t channels_, row_;
  float* rows_;
};

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

// One row of the gradient by x, and what the row adds to the kernel's, for eight channels.
inline void row_of_vector(const Gradients& gradients, const float* __restrict x, const float* __restrict kernel,
                          const Map& map, std::int64_t row, std::int64_t channels, std::int64_t c,
                          float* __restrict by_x, float* __restrict by_kernel) {
  const float* rows[3] = {gradients.row(row + 1), gradients.row(row), gradients.row(row - 1)};  // of taps 0, 1, 2
  Vector sums[kTaps] = {};
  for (std::int64_t column = 0; column < map.columns; ++column) {
    const Vector own = load(x + column * map.channels + c);
    Vector parts[3] = {};  // three short chains of additions in place of a long one
#pragma GCC unroll 9
    for (int tap = 0; tap < kTaps; ++tap) {
      const Vector g = load(rows[tap / 3] + (column + 2 - tap % 3) * channels + c);
      parts[tap % 3] += load(kernel + tap * channels + c) * g;
      sums[tap] += own * g;
    }
    store(by_x + column * map.channels + c, parts[0] + parts[1] + parts[2]);
  }
#pragma GCC unroll 9
  for (int tap = 0; tap < kTaps; ++tap) {
    float* to = by_kernel + tap * channels + c;
    store(to, load(to) + sums[tap]);
  }
}

template <bool kRelu>
void gradients(const float* gradient, const float* y, const float* x, const Map& map, const float* kernel,
               const Norm& norm, float* by_x, float* by_kernel) {
  const std::int64_t width = map.width();
  std::vector<float> partial(map.pieces() * kTaps * width);  // of zeros
  // What the threads need is had before they start: an exception must not leave one.
  const std::int64_t of_thread = kTaps * width + Gradients::floats(map, width);
  const std::unique_ptr<float[]> memory(new float[omp_get_max_threads() * of_thread]);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t piece = 0; piece < map.pieces(); ++piece) {
    const std::int64_t part = piece % map.parts(), band = piece / map.parts() % map.bands();
    const std::int64_t image = piece / map.parts() / map.bands(), from = part * width;
    const std::int64_t channels = std::min(width, map.channels - from);
    float* of_taps = memory.get() + omp_get_thread_num() * of_thread;
    for (std::int64_t c = 0; c < channels; ++c) {
      for (int tap = 0; tap < kTaps; ++tap) {
        of_taps[tap * channels + c] = kernel[(from + c) * kTaps + tap];
      }
    }
    Gradients made(map, channels, of_taps + kTaps * channels);
    const std::int64_t first = band * kRows, last = std::min(map.rows, first + kRows);
    made.make<kRelu>(gradient, y, norm, image, first - 1, from);
    made.make<kRelu>(gradient, y, norm, image, first, from);
    for (std::int64_t row = first; row < last; ++row) {
      made.make<kRelu>(gradient, y, norm, image, row + 1, from);
      const std::int64_t start = map.at(image, row) + from;
      for (std::int64_t c = 0; c < channels; c += kWidth) {
        row_of_vector(made, x + start, of_taps, map, row, channels, c, by_x + start,
                      partial.data() + piece * kTaps * width);
      }
    }
  }
  for (std::int64_t channel = 0; channel < map.channels; ++channel) {
    for (int tap = 0; tap < kTaps; ++tap) {
      double sum = 0.;
      const std::int64_t part = channel / width, channels = std::min(width, map.channels - part * width);
      for (std::int64_t piece = part; piece < map.pieces(); piece += map.parts()) {
        sum += partial[piece * kTaps * width + tap * channels + channel % width];
      }
      by_kernel[channel * kTaps + tap] = static_cast<float>(sum);
    }
  }
}

}  // namespace

// Args: the gradient behind batch norm; the convolution's output y and input x; its kernel [channels, 3, 3]; what batch
// norm makes of a gradient. The number of channels is a multiple of 8. Returns whether there was memory for it.
extern "C" bool atrous_depthwise_gradients(const float* gradient, const float* y, const float* x, std::int64_t images,
                                           std::int64_t rows, std::int64_t columns, std::int64_t channels,
                                           const float* kernel, const float* mean, const float* slope,
                                           const float* constant, const float* scale, const float* shift, bool relu,
                                           float* by_x, float* by_kernel) {
  const Map map{images, rows, columns, channels};
  const Norm norm{mean, slope, constant, scale, shift};
  try {
    (relu ? gradients<true> : gradients<false>)(gradient, y, x, map, kernel, norm, by_x, by_kernel);
  } catch (const std::bad_alloc&) {  // which must not reach who calls from C
    return false;
  }
  return true;
}
