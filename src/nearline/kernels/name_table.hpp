// A hash table of names, without Python: open addressing with linear probing; an entry that goes draws those behind it
// up (Knuth, The Art of Computer Programming 3, 6.4, algorithm R). At most half of the places are taken.
//
// Names come from whoever sends requests. So the hash is keyed by a secret of the process (SipHash-1-3; Aumasson and
// Bernstein, INDOCRYPT 2012): nobody outside can find names that meet in one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nearline {

struct HashKey {
  uint64_t first, second;
};

// The secret of this module's tables in this process.
inline HashKey hash_key() {
  static const HashKey key = [] {
    std::random_device random;
    const auto word = [&] { return static_cast<uint64_t>(random()) << 32 | random(); };
    return HashKey{word(), word()};
  }();
  return key;
}

// SipHash-c-d: c rounds for each 8 bytes, d at the end.
template <int c, int d>
uint64_t siphash(HashKey key, std::string_view text) {
  uint64_t v0 = key.first ^ 0x736f6d6570736575u, v1 = key.second ^ 0x646f72616e646f6du;
  uint64_t v2 = key.first ^ 0x6c7967656e657261u, v3 = key.second ^ 0x7465646279746573u;
  const auto rotate = [](uint64_t x, int by) { return x << by | x >> (64 - by); };
  const auto rounds = [&](int count) {
    for (int i = 0; i < count; ++i) {
      v0 += v1, v2 += v3;
      v1 = rotate(v1, 13) ^ v0, v3 = rotate(v3, 16) ^ v2;
      v0 = rotate(v0, 32);
      v2 += v1, v0 += v3;
      v1 = rotate(v1, 17) ^ v2, v3 = rotate(v3, 21) ^ v0;
      v2 = rotate(v2, 32);
    }
  };
  const auto word = [&](size_t at, size_t bytes) {   // little endian, whatever the machine is
    uint64_t found = 0;
    for (size_t i = 0; i < bytes; ++i) found |= static_cast<uint64_t>(static_cast<uint8_t>(text[at + i])) << (8 * i);
    return found;
  };
  const size_t whole = text.size() / 8 * 8;
  for (size_t at = 0; at < whole; at += 8) {
    const uint64_t m = word(at, 8);
    v3 ^= m;
    rounds(c);
    v0 ^= m;
  }
  const uint64_t last = static_cast<uint64_t>(text.size()) << 56 | word(whole, text.size() - whole);
  v3 ^= last;
  rounds(c);
  v0 ^= last;
  v2 ^= 0xff;
  rounds(d);
  return v0 ^ v1 ^ v2 ^ v3;
}

// The same hash for tables of the standard library, whose own has no secret.
struct NameHash {
  HashKey key = hash_key();
  size_t operator()(std::string_view name) const { return siphash<1, 3>(key, name); }
};

class NameTable {
 public:
  static constexpr int64_t kNone = -1;

  explicit NameTable(HashKey key) : key_(key) {}

  int64_t size() const { return size_; }
  uint64_t hash(std::string_view name) const { return siphash<1, 3>(key_, name); }
  void prefetch(uint64_t hashed) const { __builtin_prefetch(&places_[hashed & mask()]); }

  // The number of a name, kNone if it is not here.
  int64_t get(std::string_view name, uint64_t hashed) const { return places_[find(name, hashed)].number; }
  int64_t get(std::string_view name) const { return get(name, hash(name)); }

  void put(std::string_view name, int64_t number) {
    if (2 * (size_ + 1) > static_cast<int64_t>(places_.size())) grow();
    const uint64_t hashed = hash(name);
    Place& place = places_[find(name, hashed)];
    if (place.number == kNone) {
      ++size_;
      place.hash = hashed;
      place.name = name;
    }
    place.number = number;
  }

  // The number that the name had, kNone if it was not here.
  int64_t remove(std::string_view name) {
    size_t hole = find(name, hash(name));
    const int64_t number = places_[hole].number;
    if (number == kNone) return kNone;
    --size_;
    for (size_t at = next(hole); places_[at].number != kNone; at = next(at)) {
      const size_t home = places_[at].hash & mask();
      if (((at - home) & mask()) < ((at - hole) & mask())) continue;   // the hole lies before its home
      places_[hole] = std::move(places_[at]);
      hole = at;
    }
    places_[hole] = Place{};
    return number;
  }

 private:
  struct Place {
    uint64_t hash = 0;
    int64_t number = kNone;
    std::string name;   // short ones lie here, without another look into memory
  };

  size_t mask() const { return places_.size() - 1; }
  size_t next(size_t at) const { return (at + 1) & mask(); }

  // Where the name is, or where it would go.
  size_t find(std::string_view name, uint64_t hashed) const {
    size_t at = hashed & mask();
    while (places_[at].number != kNone && (places_[at].hash != hashed || places_[at].name != name)) at = next(at);
    return at;
  }

  void grow() {
    std::vector<Place> before(2 * places_.size());
    before.swap(places_);
    for (Place& place : before)
      if (place.number != kNone) places_[find(place.name, place.hash)] = std::move(place);
  }

  HashKey key_;
  std::vector<Place> places_ = std::vector<Place>(16);
  int64_t size_ = 0;
};

}  // namespace nearline
