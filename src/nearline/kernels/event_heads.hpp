// Records of events (see events/wire.py) -> what a join has to know of each, where it lies in the record.
//
// Only what is surely as the decoder in Python would read it is read here: everything else, sound or not, is left to
// that decoder, which has the words for what is wrong.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "messagepack.hpp"

namespace nearline {

constexpr int64_t kMaxTime = 253402300800000;  // MAX_TIME_MS of nearline.events.impression
constexpr int64_t kNone = -1;                  // of a time that is not there

enum class EventKind : uint8_t { kUnread, kImpression, kFeedback, kTick };

struct EventHead {
  EventKind kind = EventKind::kUnread;
  std::string_view impression;    // its id
  int64_t time_ms = 0;
  double weight = 1.0;
  int64_t resolves_ms = kNone;    // of an impression
  size_t partitions = 0;          // of an impression: where its partitions begin in the pool,
  uint16_t partition_count = 0;   // and how many there are
  double label = 0.0;             // of feedback
  std::string_view id;            // of feedback; empty without one
};

// Whether bytes are UTF-8: table 3-7 of the Unicode Standard 15.0.
inline bool is_utf8(std::string_view text) {
  const auto* at = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = at + text.size();
  while (at < end) {
    const uint8_t lead = *at++;
    if (lead < 0x80) continue;
    if (lead < 0xc2 || lead > 0xf4) return false;
    const int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (end - at < more) return false;
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (at[0] < low || at[0] > high) return false;
    for (int i = 1; i < more; ++i)
      if ((at[i] & 0xc0) != 0x80) return false;
    at += more;
  }
  return true;
}

// CRC-32 as zlib has it, one byte at a time: names are short.
class Crc32 {
 public:
  Crc32() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t sum = i;
      for (int bit = 0; bit < 8; ++bit) sum = sum & 1 ? 0xedb88320u ^ sum >> 1 : sum >> 1;
      table_[i] = sum;
    }
  }

  // The sum over what `begun` is the sum of, and the text after it.
  uint32_t operator()(std::string_view text, uint32_t begun) const {
    uint32_t sum = ~begun;
    for (const char c : text) sum = table_[(sum ^ static_cast<uint8_t>(c)) & 0xff] ^ sum >> 8;
    return ~sum;
  }

 private:
  uint32_t table_[256];
};

// Which partitions an impression goes to: see stream/join_routes.py.
class Routes {
 public:
  struct Owner {
    std::string_view kind;  // of entities
    uint32_t begun;         // CRC-32 of the effect's name and a zero byte
  };

  // Without owners to ask (`everywhere`) every impression goes to partition 0.
  Routes(std::vector<Owner> owners, uint32_t partitions, bool everywhere)
      : owners_(std::move(owners)), names_(owners_.size()), partitions_(partitions), everywhere_(everywhere) {}

  void begin() { names_.assign(owners_.size(), std::string_view()); }

  void entity(std::string_view kind, std::string_view name) {
    for (size_t i = 0; i < owners_.size(); ++i)
      if (owners_[i].kind == kind) names_[i] = {name.data(), name.size()};
  }

  // Appends the partitions, ascending, each once; returns how many.
  uint16_t end(std::vector<uint16_t>& pool) const {
    const size_t first = pool.size();
    if (everywhere_) pool.push_back(0);
    for (size_t i = 0; i < owners_.size(); ++i) {
      if (names_[i].data() == nullptr) continue;
      const auto owner = static_cast<uint16_t>(partitions_ == 1 ? 0 : crc_(names_[i], owners_[i].begun) % partitions_);
      size_t at = first;
      while (at < pool.size() && pool[at] < owner) ++at;
      if (at == pool.size() || pool[at] != owner) pool.insert(pool.begin() + static_cast<ptrdiff_t>(at), owner);
    }
    return static_cast<uint16_t>(pool.size() - first);
  }

 private:
  std::vector<Owner> owners_;
  std::vector<std::string_view> names_;  // of the entity of each owner; without data where there is none
  uint32_t partitions_;
  bool everywhere_;
  Crc32 crc_;
};

// Reads heads; the partitions of impressions go to the end of `pool`.
class HeadReader {
 public:
  HeadReader(Routes routes, std::vector<uint16_t>& pool) : routes_(std::move(routes)), pool_(pool) {}

  // The head of a record; of the kind `kUnread` where it is left to the decoder in Python.
  EventHead read(std::string_view record) {
    const size_t before = pool_.size();
    try {
      if (!record.empty() && record[0] == kFormat) {
        Reader reader(reinterpret_cast<const uint8_t*>(record.data()) + 1, record.size() - 1);
        const EventHead head = event(reader);
        if (reader.at_end()) return head;
      }
    } catch (const Malformed&) {
    }
    pool_.resize(before);
    return EventHead{};
  }

 private:
  static constexpr char kFormat = 1;
  static constexpr uint64_t kMostContainers = 256;  // far fewer than Python would follow into one another

  EventHead event(Reader& reader) {
    EventHead head;
    const size_t fields = reader.array();
    if (fields < 2) throw Malformed("too few fields");
    switch (reader.integer()) {
      case 1: impression(reader, fields, head); break;
      case 2: feedback(reader, fields, head); break;
      case 3:
        head.kind = EventKind::kTick;
        head.time_ms = time(reader);
        for (size_t field = 2; field < fields; ++field) pass(reader);
        break;
      default: throw Malformed("another kind");
    }
    return head;
  }

  void impression(Reader& reader, size_t fields, EventHead& head) {
    if (fields < 3) throw Malformed("too few fields");
    head.kind = EventKind::kImpression;
    head.impression = text(reader);
    head.time_ms = time(reader);
    routes_.begin();
    for (size_t field = 3; field < fields; ++field) {
      switch (field) {
        case 3: entities(reader); break;
        case 6: case 7: reader.number(); break;  // offset, fixed
        case 8: if (!reader.nil()) reader.number(); break;  // propensity
        case 10: if (reader.integer() < 0) throw Malformed("a negative count"); break;  // generation
        case 12: if (!reader.nil()) head.resolves_ms = time(reader); break;
        case 13: head.weight = reader.number(); break;
        default: pass(reader);
      }
    }
    head.partitions = pool_.size();
    head.partition_count = routes_.end(pool_);
  }

  void feedback(Reader& reader, size_t fields, EventHead& head) {
    if (fields < 4) throw Malformed("too few fields");
    head.kind = EventKind::kFeedback;
    head.impression = text(reader);
    head.time_ms = time(reader);
    head.label = reader.number();
    if (fields > 4) head.weight = reader.number();
    if (fields > 5 && !reader.nil()) head.id = text(reader);
    for (size_t field = 6; field < fields; ++field) pass(reader);
  }

  void entities(Reader& reader) {
    for (size_t left = reader.map(); left > 0; --left) {
      const std::string_view kind = text(reader);
      routes_.entity(kind, text(reader));
    }
  }

  static void pass(Reader& reader) {
    if (reader.skip() > kMostContainers) throw Malformed("nested too deeply, perhaps");
  }

  static std::string_view text(Reader& reader) {
    const std::string_view found = reader.text();
    if (!is_utf8(found)) throw Malformed("not UTF-8");
    return found;
  }

  static int64_t time(Reader& reader) {
    const int64_t found = reader.integer();
    if (found < 0 || found >= kMaxTime) throw Malformed("no time");
    return found;
  }

  Routes routes_;
  std::vector<uint16_t>& pool_;
};

}  // namespace nearline
