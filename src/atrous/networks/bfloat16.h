// Numbers of a map as float32, in which everything is computed.
#pragma once

#include <cstdint>
#include <cstring>

struct BFloat16 {
  std::uint16_t bits;  // the upper half of a float32
};

inline float read(float value) { return value; }

inline float read(BFloat16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float read;
  std::memcpy(&read, &bits, sizeof read);
  return read;
}

inline void write(float value, float* to) { *to = value; }

// To the nearest, of two to the even one; a NaN stays one.
inline void write(float value, BFloat16* to) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16, quiet = (bits >> 16) | 0x40;
  to->bits = static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}
