// Keys made of a few byte strings (such as name and term) to int32 columns, numbered in first-seen order.
//
// Open addressing with linear probing over 16-byte slots, at most half full; the keys lie one after the other in
// an arena, their lengths in front. A lookup far larger than the cache is bound by memory latency, so it works in
// blocks: hash every key of the block and ask for its slot, then find the slots and ask for their keys, then compare.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <utility>
#include <vector>

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

constexpr size_t kBlock = 32;    // keys in flight at once: about as many as there are outstanding cache misses
constexpr size_t kMaxParts = 8;  // strings in one key
constexpr int32_t kUnknown = -1;

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Offsets = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

struct Text {
  const uint8_t* data;
  size_t size;
};

// One Arrow string column: the i-th string is bytes[offsets[i] .. offsets[i + 1]). A column of one string stands for
// as many copies as the others have rows (stride 0).
class StringColumn {
 public:
  StringColumn(const Offsets& offsets, const Bytes& bytes) : bytes_(bytes.data()) {
    if (offsets.dtype() == nb::dtype<int64_t>()) {
      wide_ = static_cast<const int64_t*>(offsets.data());
    } else if (offsets.dtype() == nb::dtype<int32_t>()) {
      narrow_ = static_cast<const int32_t*>(offsets.data());
    } else {
      throw nb::type_error("offsets: expected int32 or int64");
    }
    if (offsets.shape(0) == 0) throw nb::value_error("offsets: expected one more than there are strings, got none");
    size_ = offsets.shape(0) - 1;
    if (wide_ != nullptr) check(wide_, bytes.shape(0));
    if (narrow_ != nullptr) check(narrow_, bytes.shape(0));
  }

  size_t size() const { return size_; }
  void repeat() { stride_ = 0; }

  Text operator[](size_t row) const {
    const size_t i = row * stride_;
    const int64_t start = wide_ != nullptr ? wide_[i] : narrow_[i];
    const int64_t stop = wide_ != nullptr ? wide_[i + 1] : narrow_[i + 1];
    // bytes_ may be null where there are no bytes at all; memcpy and memcmp forbid null even for length 0.
    static constexpr uint8_t kNothing = 0;
    return {start == stop ? &kNothing : bytes_ + start, static_cast<size_t>(stop - start)};
  }

 private:
  template <typename T>
  void check(const T* offsets, size_t available) const {
    bool ordered = offsets[0] >= 0;
    uint64_t longest = 0;
    for (size_t i = 0; i < size_; ++i) {
      ordered &= offsets[i] <= offsets[i + 1];
      longest = std::max(longest, static_cast<uint64_t>(offsets[i + 1]) - static_cast<uint64_t>(offsets[i]));
    }
    if (!ordered || static_cast<uint64_t>(offsets[size_]) > available)
      throw nb::value_error("offsets: expected to rise from 0 or more to at most the number of bytes");
    if (longest > std::numeric_limits<uint32_t>::max())
      throw nb::value_error("expected strings shorter than 4 GiB");
  }

  const uint8_t* bytes_;
  const int64_t* wide_ = nullptr;
  const int32_t* narrow_ = nullptr;
  size_t size_ = 0;
  size_t stride_ = 1;
};

uint64_t load64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

uint64_t load32(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Multiply to 128 bits and fold: the mixing step of the wyhash family.
uint64_t fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash(Text text, uint64_t seed) {
  constexpr uint64_t kFirst = 0x9e3779b97f4a7c15, kSecond = 0xd6e8feb86659fd93;
  const uint8_t* p = text.data;
  size_t left = text.size;
  uint64_t state = seed ^ fold(text.size ^ kFirst, kSecond);
  for (; left > 16; left -= 16, p += 16) state = fold(load64(p) ^ kFirst, load64(p + 8) ^ state);
  // The last 0 to 16 bytes, read as two words that may overlap.
  uint64_t a = 0, b = 0;
  if (left >= 8) {
    a = load64(p);
    b = load64(p + left - 8);
  } else if (left >= 4) {
    a = load32(p);
    b = load32(p + left - 4);
  } else if (left > 0) {
    a = static_cast<uint64_t>(p[0]) << 16 | static_cast<uint64_t>(p[left / 2]) << 8 | p[left - 1];
  }
  return fold(a ^ kSecond, b ^ state);
}

struct Slot {
  uint64_t position;        // of the key in the arena
  uint32_t tag;             // 32 bits of the hash: the home slot is tag & mask
  int32_t column;           // kUnknown in an empty slot
};
constexpr Slot kEmpty{0, 0, kUnknown};

using Key = std::array<Text, kMaxParts>;

class Vocabulary {
 public:
  explicit Vocabulary(size_t parts) : parts_(parts), slots_(64, kEmpty) {
    if (parts == 0 || parts > kMaxParts) throw nb::value_error("parts: expected 1 to 8 strings in a key");
    std::random_device entropy;  // so that nobody can prepare features that all collide; no result depends on it
    seed_ = (static_cast<uint64_t>(entropy()) << 32) | entropy();
  }

  size_t parts() const { return parts_; }

  size_t size() const {
    const std::shared_lock lock(mutex_);
    return positions_.size();
  }

  void find(const std::vector<StringColumn>& columns, size_t rows, int32_t* out) const {
    const std::shared_lock lock(mutex_);
    std::array<uint32_t, kBlock> tags;
    for (size_t start = 0; start < rows; start += kBlock) {
      const size_t count = std::min(kBlock, rows - start);
      for (size_t i = 0; i < count; ++i) tags[i] = prefetch(columns, start + i);
      for (size_t i = 0; i < count; ++i) prefetch_key(tags[i]);
      for (size_t i = 0; i < count; ++i)
        out[start + i] = slots_[probe(key_at(columns, start + i), tags[i])].column;
    }
  }

  // Where memory runs out, the keys added so far stay and the vocabulary remains whole.
  void find_or_add(const std::vector<StringColumn>& columns, size_t rows, int32_t* out) {
    const std::unique_lock lock(mutex_);
    std::array<uint32_t, kBlock> tags;
    for (size_t start = 0; start < rows; start += kBlock) {
      const size_t count = std::min(kBlock, rows - start);
      make_room(count);
      for (size_t i = 0; i < count; ++i) tags[i] = prefetch(columns, start + i);
      for (size_t i = 0; i < count; ++i) prefetch_key(tags[i]);
      for (size_t i = 0; i < count; ++i) {
        const Key key = key_at(columns, start + i);
        Slot& slot = slots_[probe(key, tags[i])];
        if (slot.column == kUnknown) slot = append(key, tags[i]);
        out[start + i] = slot.column;
      }
    }
  }

  // Part `part` of the keys of columns start .. stop, as lengths and one run of bytes.
  void read(size_t part, size_t start, size_t stop, std::vector<int64_t>& offsets, std::vector<uint8_t>& bytes) const {
    const std::shared_lock lock(mutex_);
    if (part >= parts_) throw nb::index_error("part: no such string in a key");
    if (start > stop || stop > positions_.size()) throw nb::index_error("start, stop: beyond the columns there are");
    offsets.assign(1, 0);
    for (size_t column = start; column < stop; ++column) {
      const uint8_t* lengths = arena_.data() + positions_[column];
      const uint8_t* text = lengths + parts_ * sizeof(uint32_t);
      for (size_t i = 0; i < part; ++i) text += load32(lengths + i * sizeof(uint32_t));
      bytes.insert(bytes.end(), text, text + load32(lengths + part * sizeof(uint32_t)));
      offsets.push_back(static_cast<int64_t>(bytes.size()));
    }
  }

 private:
  Key key_at(const std::vector<StringColumn>& columns, size_t row) const {
    Key key;
    for (size_t part = 0; part < parts_; ++part) key[part] = columns[part][row];
    return key;
  }

  uint32_t prefetch(const std::vector<StringColumn>& columns, size_t row) const {
    uint64_t state = seed_;
    for (size_t part = 0; part < parts_; ++part) state = hash(columns[part][row], state);
    const auto tag = static_cast<uint32_t>(state ^ (state >> 32));
    __builtin_prefetch(&slots_[tag & mask()]);
    return tag;
  }

  size_t mask() const { return slots_.size() - 1; }

  void prefetch_key(uint32_t tag) const {
    size_t at = tag & mask();
    while (slots_[at].column != kUnknown && slots_[at].tag != tag) at = (at + 1) & mask();
    if (slots_[at].column == kUnknown) return;
    const uint8_t* key = arena_.data() + slots_[at].position;
    __builtin_prefetch(key);
    __builtin_prefetch(key + 63);  // the key may straddle a cache line; a prefetch never faults
  }

  // The slot that holds the key, or the empty one where it belongs.
  size_t probe(const Key& key, uint32_t tag) const {
    size_t at = tag & mask();
    while (slots_[at].column != kUnknown && !(slots_[at].tag == tag && equals(slots_[at].position, key)))
      at = (at + 1) & mask();
    return at;
  }

  bool equals(uint64_t position, const Key& key) const {
    const uint8_t* lengths = arena_.data() + position;
    const uint8_t* text = lengths + parts_ * sizeof(uint32_t);
    for (size_t part = 0; part < parts_; ++part)
      if (load32(lengths + part * sizeof(uint32_t)) != key[part].size) return false;
    for (size_t part = 0; part < parts_; text += key[part].size, ++part)
      if (std::memcmp(text, key[part].data, key[part].size) != 0) return false;
    return true;
  }

  Slot append(const Key& key, uint32_t tag) {
    if (positions_.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max()))
      throw std::overflow_error("a vocabulary holds at most 2147483647 keys");
    const uint64_t position = arena_.size();
    size_t needed = position + parts_ * sizeof(uint32_t);
    for (size_t part = 0; part < parts_; ++part) needed += key[part].size;
    if (needed > arena_.capacity()) arena_.reserve(std::max(needed, 2 * arena_.capacity()));
    positions_.push_back(position);  // nothing below can fail
    for (size_t part = 0; part < parts_; ++part) {
      const auto length = static_cast<uint32_t>(key[part].size);
      const auto* bytes = reinterpret_cast<const uint8_t*>(&length);
      arena_.insert(arena_.end(), bytes, bytes + sizeof length);
    }
    for (size_t part = 0; part < parts_; ++part)
      arena_.insert(arena_.end(), key[part].data, key[part].data + key[part].size);
    return {position, tag, static_cast<int32_t>(positions_.size() - 1)};
  }

  // Keeps the table at most half full after `more` new keys.
  void make_room(size_t more) {
    size_t capacity = slots_.size();
    while (capacity < 2 * (positions_.size() + more)) capacity *= 2;
    if (capacity == slots_.size()) return;
    std::vector<Slot> larger(capacity, kEmpty);
    for (const Slot& slot : slots_) {
      if (slot.column == kUnknown) continue;
      size_t at = slot.tag & (capacity - 1);
      while (larger[at].column != kUnknown) at = (at + 1) & (capacity - 1);
      larger[at] = slot;
    }
    slots_.swap(larger);
  }

  size_t parts_;
  uint64_t seed_ = 0;
  std::vector<Slot> slots_;           // a power of two of them
  std::vector<uint64_t> positions_;   // of each column's key in the arena
  std::vector<uint8_t> arena_;        // per key: the lengths of its parts (uint32 each), then their bytes
  mutable std::shared_mutex mutex_;
};

template <typename T>
nb::object to_numpy(std::vector<T>&& values) {
  auto kept = std::make_unique<std::vector<T>>(std::move(values));
  T* data = kept->data();
  const size_t shape[1] = {kept->size()};
  nb::capsule owner(kept.get(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  kept.release();
  return nb::cast(nb::ndarray<nb::numpy, T>(data, 1, shape, owner));
}

using Column = std::pair<Offsets, Bytes>;

std::vector<StringColumn> as_columns(const std::vector<Column>& given, size_t parts, size_t& rows) {
  if (given.size() != parts) throw nb::value_error("columns: expected as many as there are strings in a key");
  std::vector<StringColumn> columns;
  for (const auto& [offsets, bytes] : given) columns.emplace_back(offsets, bytes);
  const auto several = [](const StringColumn& column) { return column.size() != 1; };
  const auto longest = std::find_if(columns.begin(), columns.end(), several);
  rows = longest == columns.end() ? 1 : longest->size();
  for (StringColumn& column : columns) {
    if (column.size() == rows) continue;
    if (column.size() != 1) throw nb::value_error("columns: expected equal numbers of strings, or one for all rows");
    column.repeat();
  }
  return columns;
}

nb::object lookup(Vocabulary& self, const std::vector<Column>& given, bool add) {
  size_t rows = 0;
  const std::vector<StringColumn> columns = as_columns(given, self.parts(), rows);
  std::vector<int32_t> found(rows);
  {
    const nb::gil_scoped_release release;
    if (add) self.find_or_add(columns, rows, found.data());
    else self.find(columns, rows, found.data());
  }
  return to_numpy(std::move(found));
}

nb::tuple keys(const Vocabulary& self, size_t part, size_t start, size_t stop) {
  std::vector<int64_t> offsets;
  std::vector<uint8_t> bytes;
  {
    const nb::gil_scoped_release release;
    self.read(part, start, stop, offsets, bytes);
  }
  return nb::make_tuple(to_numpy(std::move(offsets)), to_numpy(std::move(bytes)));
}

nb::list state(const Vocabulary& self) {
  nb::list parts;
  const size_t size = self.size();
  for (size_t part = 0; part < self.parts(); ++part) parts.append(keys(self, part, 0, size));
  return parts;
}

void restore(Vocabulary& self, const std::vector<Column>& parts) {
  new (&self) Vocabulary(parts.size());
  size_t rows = 0;
  const std::vector<StringColumn> columns = as_columns(parts, parts.size(), rows);
  std::vector<int32_t> unused(rows);
  self.find_or_add(columns, rows, unused.data());
}

}  // namespace

NB_MODULE(_vocabulary, m) {
  // At exit the interpreter may drop a module before those who still refer to its functions: no leak, though nanobind
  // would report one to the user.
  nb::set_leak_warnings(false);
  nb::class_<Vocabulary>(m, "Vocabulary")
      .def(nb::init<size_t>(), "parts"_a = 2)
      .def_prop_ro("parts", &Vocabulary::parts)
      .def("__len__", &Vocabulary::size)
      .def("lookup", &lookup, "columns"_a, nb::kw_only(), "add"_a)
      .def("keys", &keys, "part"_a, "start"_a, "stop"_a)
      .def("__getstate__", &state)
      .def("__setstate__", &restore);
}
