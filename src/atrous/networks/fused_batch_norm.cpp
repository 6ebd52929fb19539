// Batch norm of a training on a CPU, with a sum and ReLU behind it, on maps that are channels last: a matrix [pixels, channels].
//
// Every pass reads a map as few times as it can. Sums are taken over blocks of pixels that fit into a core's cache, in
// float32, and over the blocks in float64, always in the same order: the bits do not depend on the number of threads.
// A map of bfloat16 is read as float32, in which everything is computed, and rounded once, when it is written.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <new>
#include <vector>

#ifdef __AVX__
#include <immintrin.h>
#endif

#include "bfloat16.h"

namespace {

constexpr std::int64_t kFloatsOfBlock = 1 << 15;  // 128 KiB
constexpr std::int64_t kFloatsPerThread = 1 << 13;  // below, a second thread costs more than it brings
constexpr std::int64_t kChannelsOfPart = 64;
constexpr std::int64_t kFloatsOfPiece = 2048;
constexpr std::int64_t kBytesInCache = 1 << 24;  // a larger map is gone from it before somebody reads it

struct Blocks {
  std::int64_t pixels, channels, rows;  // rows: pixels of a block, the last one excepted

  Blocks(std::int64_t pixels, std::int64_t channels)
      : pixels(pixels), channels(channels), rows(std::clamp<std::int64_t>(kFloatsOfBlock / channels, 8, 512)) {}
  std::int64_t count() const { return (pixels + rows - 1) / rows; }
  std::int64_t first(std::int64_t block) const { return block * rows; }
  std::int64_t size(std::int64_t block) const { return std::min(rows, pixels - first(block)); }
  bool large() const { return pixels * channels >= 2 * kFloatsPerThread; }
};

// Writes past the cache, which would first read what is there: `from` and `to` at multiples of 32 bytes, and so long.
template <typename Number>
inline void stream(const Number* from, std::int64_t size, Number* to) {
#ifdef __AVX__
  const auto* source = reinterpret_cast<const __m256i*>(from);
  auto* target = reinterpret_cast<__m256i*>(to);
  for (std::int64_t at = 0; at < size * static_cast<std::int64_t>(sizeof(Number)) / 32; ++at) {
    _mm256_stream_si256(target + at, _mm256_load_si256(source + at));
  }
#else
  std::copy_n(from, size, to);
#endif
}

inline void end_of_streams() {
#ifdef __AVX__
  _mm_sfence();
#endif
}

// Writes value(first, c) for every channel c of every pixel, whose channels begin at `first`.
template <typename Number, typename Value>
void write_map(Number* y, std::int64_t pixels, std::int64_t channels, const Value& value) {
  constexpr std::int64_t kBytes = sizeof(Number);
  const bool fits = pixels * channels * kBytes <= kBytesInCache;
  const bool streams = !fits && channels * kBytes % 32 == 0 && reinterpret_cast<std::uintptr_t>(y) % 32 == 0;
#pragma omp parallel if (pixels * channels >= 2 * kFloatsPerThread)
  {
    alignas(32) Number piece[kFloatsOfPiece];
#pragma omp for schedule(static)
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      const std::int64_t first = pixel * channels;
      for (std::int64_t from = 0; from < channels; from += kFloatsOfPiece) {
        const std::int64_t size = std::min(kFloatsOfPiece, channels - from);
        Number* to = streams ? piece : y + first + from;
#pragma omp simd
        for (std::int64_t c = 0; c < size; ++c) {
          write(value(first, from + c), to + c);
        }
        if (streams) {
          stream(piece, size, y + first + from);
        }
      }
    }
    end_of_streams();
  }
}

template <bool kRelu>
inline float activated(float y) {
  return kRelu && y < 0.f ? 0.f : y;  // a NaN stays one
}

// The gradient in front of ReLU, whose input is made again.
template <bool kRelu>
inline float unactivated(float gradient, float x, float scale, float shift) {
  return kRelu && x * scale + shift <= 0.f ? 0.f : gradient;
}

// Mean of each channel, and the sum of squared distances from it, of the pixels of a block.
template <typename Number>
void moments_of_block(const Number* x, std::int64_t rows, std::int64_t channels, float* __restrict mean,
                      float* __restrict squares) {
  std::fill_n(mean, channels, 0.f);
  std::fill_n(squares, channels, 0.f);
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    const Number *x0 = x + row * channels, *x1 = x0 + channels, *x2 = x1 + channels, *x3 = x2 + channels;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      mean[c] += (read(x0[c]) + read(x1[c])) + (read(x2[c]) + read(x3[c]));
    }
  }
  for (; row < rows; ++row) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      mean[c] += read(x[row * channels + c]);
    }
  }
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) {
    mean[c] /= static_cast<float>(rows);
  }
  for (row = 0; row + 4 <= rows; row += 4) {
    const Number *x0 = x + row * channels, *x1 = x0 + channels, *x2 = x1 + channels, *x3 = x2 + channels;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float d0 = read(x0[c]) - mean[c], d1 = read(x1[c]) - mean[c];
      const float d2 = read(x2[c]) - mean[c], d3 = read(x3[c]) - mean[c];
      squares[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
    }
  }
  for (; row < rows; ++row) {
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float d = read(x[row * channels + c]) - mean[c];
      squares[c] += d * d;
    }
  }
}

// The moments of all blocks together (Chan, Golub and LeVeque, 1979).
template <typename Number>
void moments(const Number* x, const Blocks& blocks, double* mean, double* squares) {
  const std::int64_t channels = blocks.channels;
  std::vector<float> partial(2 * blocks.count() * channels);
#pragma omp parallel for schedule(static) if (blocks.large())
  for (std::int64_t block = 0; block < blocks.count(); ++block) {
    float* own = partial.data() + 2 * block * channels;
    moments_of_block(x + blocks.first(block) * channels, blocks.size(block), channels, own, own + channels);
  }
#pragma omp parallel for schedule(static) if (blocks.large())
  for (std::int64_t from = 0; from < channels; from += kChannelsOfPart) {
    const std::int64_t to = std::min(channels, from + kChannelsOfPart);
    for (std::int64_t block = 0; block < blocks.count(); ++block) {
      const float *means = partial.data() + 2 * block * channels, *own = means + channels;
      const double before = blocks.first(block), size = blocks.size(block), total = before + size;
      const double share = size / total, between = before * size / total;
#pragma omp simd
      for (std::int64_t c = from; c < to; ++c) {
        const double distance = means[c] - mean[c];
        mean[c] += distance * share;
        squares[c] += own[c] + distance * distance * between;
      }
    }
  }
}

// `plus` is another map that is added in front of ReLU, or none.
template <bool kRelu, typename Number>
void apply(const Number* x, const Number* plus, std::int64_t pixels, std::int64_t channels, const float* scale,
           const float* shift, Number* y) {
  if (plus == nullptr) {
    write_map(y, pixels, channels, [=](std::int64_t first, std::int64_t c) {
      return activated<kRelu>(read(x[first + c]) * scale[c] + shift[c]);
    });
  } else {
    write_map(y, pixels, channels, [=](std::int64_t first, std::int64_t c) {
      return activated<kRelu>(read(x[first + c]) * scale[c] + shift[c] + read(plus[first + c]));
    });
  }
}

// Sums over the pixels of the gradient g in front of ReLU, and of g * (x - mean).
template <bool kRelu, typename Number>
void gradient_sums(const Number* gradient, const Number* x, const Blocks& blocks, const float* __restrict scale,
                   const float* __restrict shift, const float* __restrict mean, double* sums, double* products) {
  const std::int64_t channels = blocks.channels;
  std::vector<float> partial(2 * blocks.count() * channels);  // of zeros
#pragma omp parallel for schedule(static) if (blocks.large())
  for (std::int64_t block = 0; block < blocks.count(); ++block) {
    float *__restrict sum = partial.data() + 2 * block * channels, *__restrict product = sum + channels;
    const Number *g0 = gradient + blocks.first(block) * channels, *x0 = x + blocks.first(block) * channels;
    std::int64_t left = blocks.size(block);
    for (; left >= 2; left -= 2, g0 += 2 * channels, x0 += 2 * channels) {
      const Number *g1 = g0 + channels, *x1 = x0 + channels;
#pragma omp simd
      for (std::int64_t c = 0; c < channels; ++c) {
        const float first = read(x0[c]), second = read(x1[c]);
        const float a = unactivated<kRelu>(read(g0[c]), first, scale[c], shift[c]);
        const float b = unactivated<kRelu>(read(g1[c]), second, scale[c], shift[c]);
        sum[c] += a + b;
        product[c] += a * (first - mean[c]) + b * (second - mean[c]);
      }
    }
    if (left == 1) {
#pragma omp simd
      for (std::int64_t c = 0; c < channels; ++c) {
        const float last = read(x0[c]), a = unactivated<kRelu>(read(g0[c]), last, scale[c], shift[c]);
        sum[c] += a;
        product[c] += a * (last - mean[c]);
      }
    }
  }
#pragma omp parallel for schedule(static) if (blocks.large())
  for (std::int64_t from = 0; from < channels; from += kChannelsOfPart) {
    const std::int64_t to = std::min(channels, from + kChannelsOfPart);
    for (std::int64_t block = 0; block < blocks.count(); ++block) {
      const float *sum = partial.data() + 2 * block * channels, *product = sum + channels;
#pragma omp simd
      for (std::int64_t c = from; c < to; ++c) {
        sums[c] += sum[c];
        products[c] += product[c];
      }
    }
  }
}

template <bool kRelu, typename Number>
void by_input(const Number* gradient, const Number* x, std::int64_t pixels, std::int64_t channels, const float* mean,
              const float* slope, const float* constant, const float* scale, const float* shift, Number* by_x) {
  write_map(by_x, pixels, channels, [=](std::int64_t first, std::int64_t c) {
    const float own = read(x[first + c]), g = unactivated<kRelu>(read(gradient[first + c]), own, scale[c], shift[c]);
    return scale[c] * g - (slope[c] * (own - mean[c]) + constant[c]);
  });
}

// Whether there was memory for it: an exception must not reach who calls from C.
template <typename Compute>
bool done(const Compute& compute) {
  try {
    compute();
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

// Calls compute(map, ...) with maps of what they hold: `rounded` ones of bfloat16, others of float32.
template <typename Compute, typename... Maps>
void with_maps(bool rounded, const Compute& compute, Maps*... maps) {
  if (rounded) {
    compute(static_cast<BFloat16*>(maps)...);
  } else {
    compute(static_cast<float*>(maps)...);
  }
}

}  // namespace

// All return whether there was memory for what they compute in between. Maps are of bfloat16 where they are `rounded`,
// else of float32.
extern "C" {

// Moments of a batch: the means of the channels and behind them the sums of squared distances from them, [2, channels].
bool atrous_batch_norm_moments(void* x, bool rounded, std::int64_t pixels, std::int64_t channels, double* of_batch) {
  std::fill_n(of_batch, 2 * channels, 0.);
  const auto compute = [=](auto* x) { moments(x, Blocks(pixels, channels), of_batch, of_batch + channels); };
  return done([=] { with_maps(rounded, compute, x); });
}

// What moments make of weight and bias: y = x * scale + shift. Running statistics go towards the batch's by `momentum`,
// the variance with pixels - 1 in place of pixels.
bool atrous_batch_norm_statistics(std::int64_t pixels, std::int64_t channels, const double* of_batch,
                                  const float* weight, const float* bias, double epsilon, double momentum,
                                  float* running_mean, float* running_variance, float* mean, float* inverse,
                                  float* scale, float* shift) {
  const double *means = of_batch, *squares = of_batch + channels;
  for (std::int64_t c = 0; c < channels; ++c) {
    const double of_batch = 1. / std::sqrt(squares[c] / pixels + epsilon);
    mean[c] = static_cast<float>(means[c]);
    inverse[c] = static_cast<float>(of_batch);
    scale[c] = static_cast<float>(of_batch * weight[c]);
    shift[c] = static_cast<float>(bias[c] - means[c] * of_batch * weight[c]);
    const double unbiased = squares[c] / (pixels - 1);
    running_mean[c] = static_cast<float>((1. - momentum) * running_mean[c] + momentum * means[c]);
    running_variance[c] = static_cast<float>((1. - momentum) * running_variance[c] + momentum * unbiased);
  }
  return true;
}

// y = x * scale + shift, with the map `plus` added unless it is null, and ReLU behind it if wanted.
bool atrous_batch_norm_apply(void* x, void* plus, bool rounded, std::int64_t pixels, std::int64_t channels,
                             const float* scale, const float* shift, bool relu, void* y) {
  const auto compute = [=](auto* x, auto* plus, auto* y) {
    relu ? apply<true>(x, plus, pixels, channels, scale, shift, y)
         : apply<false>(x, plus, pixels, channels, scale, shift, y);
  };
  with_maps(rounded, compute, x, plus, y);
  return true;
}

// Sums over the pixels of the gradient g in front of ReLU, and behind them of g * (x - mean), [2, channels].
bool atrous_batch_norm_sums(void* gradient, void* x, bool rounded, std::int64_t pixels, std::int64_t channels,
                            const float* mean, const float* scale, const float* shift, bool relu, double* sums) {
  double* products = sums + channels;
  std::fill_n(sums, 2 * channels, 0.);
  return done([=] {
    const auto compute = [=](auto* gradient, auto* x) {
      const Blocks blocks(pixels, channels);
      relu ? gradient_sums<true>(gradient, x, blocks, scale, shift, mean, sums, products)
           : gradient_sums<false>(gradient, x, blocks, scale, shift, mean, sums, products);
    };
    with_maps(rounded, compute, gradient, x);
  });
}

// Gradients by weight and bias of the own sums, and for each channel what makes the one by x out of g, of all ranks':
// scale * (g - mean of g - (x - mean) * inverse * mean of (g * (x - mean) * inverse))
//   = scale * g - (slope * (x - mean) + constant).
bool atrous_batch_norm_slopes(std::int64_t pixels, std::int64_t channels, const double* own, const double* sums,
                              const float* inverse, const float* scale, float* slope, float* constant,
                              float* by_weight, float* by_bias) {
  const double* products = sums + channels;
  for (std::int64_t c = 0; c < channels; ++c) {
    const double of_sums = static_cast<double>(scale[c]) / pixels;
    slope[c] = static_cast<float>(of_sums * products[c] * inverse[c] * inverse[c]);
    constant[c] = static_cast<float>(of_sums * sums[c]);
    by_weight[c] = static_cast<float>(own[channels + c] * inverse[c]);
    by_bias[c] = static_cast<float>(own[c]);
  }
  return true;
}

bool atrous_batch_norm_by_input(void* gradient, void* x, bool rounded, std::int64_t pixels, std::int64_t channels,
                                const float* mean, const float* slope, const float* constant, const float* scale,
                                const float* shift, bool relu, void* by_x) {
  const auto compute = [=](auto* gradient, auto* x, auto* by_x) {
    relu ? by_input<true>(gradient, x, pixels, channels, mean, slope, constant, scale, shift, by_x)
         : by_input<false>(gradient, x, pixels, channels, mean, slope, constant, scale, shift, by_x);
  };
  with_maps(rounded, compute, gradient, x, by_x);
  return true;
}

}  // extern "C"
