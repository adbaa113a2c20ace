// Reads MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) from bytes, and never beyond them.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>

namespace nearline {

struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  bool at_end() const { return at_ == end_; }

  size_t array() {
    const uint8_t tag = byte();
    if ((tag & 0xf0) == 0x90) return tag & 0x0f;
    if (tag == 0xdc) return big_endian<uint16_t>();
    if (tag == 0xdd) return big_endian<uint32_t>();
    throw Malformed("expected an array");
  }

  size_t map() {
    const uint8_t tag = byte();
    if ((tag & 0xf0) == 0x80) return tag & 0x0f;
    if (tag == 0xde) return big_endian<uint16_t>();
    if (tag == 0xdf) return big_endian<uint32_t>();
    throw Malformed("expected a map");
  }

  bool is_array() const {
    const uint8_t tag = peek();
    return (tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd;
  }

  std::string_view text() {
    const uint8_t tag = byte();
    if ((tag & 0xe0) == 0xa0) return bytes(tag & 0x1f);
    if (tag == 0xd9) return bytes(big_endian<uint8_t>());
    if (tag == 0xda) return bytes(big_endian<uint16_t>());
    if (tag == 0xdb) return bytes(big_endian<uint32_t>());
    throw Malformed("expected a string");
  }

  double number() {
    const uint8_t tag = byte();
    if (tag == 0xcb) return as<double>(big_endian<uint64_t>());
    if (tag == 0xca) return as<float>(big_endian<uint32_t>());
    if (tag == 0xcf) return static_cast<double>(big_endian<uint64_t>());
    return static_cast<double>(integer_of(tag));
  }

  int64_t integer() {
    const uint8_t tag = byte();
    if (tag == 0xcf) {
      const auto value = big_endian<uint64_t>();
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) throw Malformed("integer too large");
      return static_cast<int64_t>(value);
    }
    return integer_of(tag);
  }

  // Passes over a value and all it holds; returns how many arrays and maps that were which hold something.
  uint64_t skip() {
    uint64_t containers = 0;
    for (uint64_t left = 1; left > 0; --left) {
      const uint64_t held = skip_one();
      left += held;
      containers += held > 0;
    }
    return containers;
  }

  // Whether a nil comes next, which is then passed over.
  bool nil() {
    if (peek() != 0xc0) return false;
    ++at_;
    return true;
  }

 private:
  uint8_t peek() const {
    if (at_ == end_) throw Malformed("cut short");
    return *at_;
  }

  uint8_t byte() {
    const uint8_t found = peek();
    ++at_;
    return found;
  }

  std::string_view bytes(size_t size) {
    if (static_cast<size_t>(end_ - at_) < size) throw Malformed("cut short");
    const std::string_view found(reinterpret_cast<const char*>(at_), size);
    at_ += size;
    return found;
  }

  template <typename T>
  T big_endian() {
    const std::string_view found = bytes(sizeof(T));
    uint64_t value = 0;
    for (const char c : found) value = value << 8 | static_cast<uint8_t>(c);
    return static_cast<T>(value);
  }

  template <typename T, typename U>
  static double as(U bits) {
    static_assert(sizeof(T) == sizeof(U));
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return static_cast<double>(value);
  }

  int64_t integer_of(uint8_t tag) {
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return static_cast<int8_t>(tag);
    switch (tag) {
      case 0xcc: return big_endian<uint8_t>();
      case 0xcd: return big_endian<uint16_t>();
      case 0xce: return big_endian<uint32_t>();
      case 0xd0: return big_endian<int8_t>();
      case 0xd1: return big_endian<int16_t>();
      case 0xd2: return big_endian<int32_t>();
      case 0xd3: return big_endian<int64_t>();
      default: throw Malformed("expected a number");
    }
  }

  // Passes over one value without what it holds; returns how many values that are.
  uint64_t skip_one() {
    const uint8_t tag = byte();
    if (tag < 0x80 || tag >= 0xe0) return 0;
    if (tag < 0x90) return 2 * (tag & 0x0f);
    if (tag < 0xa0) return tag & 0x0f;
    if (tag < 0xc0) return bytes(tag & 0x1f), 0;
    switch (tag) {
      case 0xc0: case 0xc2: case 0xc3: return 0;
      case 0xc4: case 0xd9: return bytes(big_endian<uint8_t>()), 0;
      case 0xc5: case 0xda: return bytes(big_endian<uint16_t>()), 0;
      case 0xc6: case 0xdb: return bytes(big_endian<uint32_t>()), 0;
      case 0xcc: case 0xd0: return bytes(1), 0;
      case 0xcd: case 0xd1: return bytes(2), 0;
      case 0xca: case 0xce: case 0xd2: return bytes(4), 0;
      case 0xcb: case 0xcf: case 0xd3: return bytes(8), 0;
      case 0xdc: return big_endian<uint16_t>();
      case 0xdd: return big_endian<uint32_t>();
      case 0xde: return 2 * static_cast<uint64_t>(big_endian<uint16_t>());
      case 0xdf: return 2 * static_cast<uint64_t>(big_endian<uint32_t>());
      default: throw Malformed("unknown type");
    }
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace nearline
